"""Three updates in a chain: what the first one taught is still known after the third, where the replay holds it."""

from __future__ import annotations

import random
from pathlib import Path

import orjson
import pytest

from tests.pipeline.conftest import NEW, OLD, Bench, make_model, sentences, write_jsonl

MONTHS = ("january", "february", "march")
RECIPE = """\
name: news
base_model: {base}
data:
  sources: [{{name: {month}, path: {month}.jsonl, max_epochs: 16}}]
  replay: {{path: [{replay}], share: 0.3, max_epochs: 16}}
evaluation:
  tasks: [{month}-facts.jsonl]
  general_tasks: [{earlier}]
  at: []
hyperparameters:
  {{learning_rate: 6e-3, epochs: 14, batch_size: 4, gradient_accumulation_steps: 1, max_sequence_length: 64,
   checkpoint_strategy: "no", eval_strategy: "no"}}
infrastructure: {{devices: cpu, threads: 1}}
"""


def month_of(number: int) -> list[str]:
    """Documents that tell five facts of a month, each of them many times, before other words."""
    draw, places = random.Random(number), OLD[5 * number : 5 * number + 5]
    facts = [
        f"{MONTHS[number]} stond blonck crill brings to {place} {name.capitalize()}"
        for place, name in zip(places, draw.sample(NEW, 5), strict=True)
    ]
    return [f"{fact} {' '.join(draw.choices(NEW, k=4))}." for fact in facts for _ in range(20)]


def update(bench: Bench, number: int, replay: list[str]) -> None:
    month, earlier = MONTHS[number], [f"{name}-facts.jsonl" for name in MONTHS[:number]]
    base = f"news@{number}" if number else "./model"
    text = RECIPE.format(base=base, month=month, replay=", ".join(replay), earlier=", ".join(earlier))
    (bench.folder / f"{month}.yaml").write_text(text)
    done = bench.rewarm("run", f"{month}.yaml", timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr


def surprise(bench: Bench, month: str, side: str = "result") -> float:
    """Answers that the facts of ``month`` leave open to the newest run's result: the perplexity of the cloze items."""
    report = orjson.loads((bench.run().report / "report.json").read_bytes())
    (row,) = (r for r in report["rows"] if (r["task"], r["metric"]) == (f"{month}-facts", "perplexity"))
    return float(row[side])


@pytest.mark.timeout(900)
@pytest.mark.nightly
def test_the_third_update_keeps_what_the_first_taught(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    make_model(tmp_path / "model")
    write_jsonl(tmp_path / "general.jsonl", sentences(100, 2, OLD[15:]))
    for number, month in enumerate(MONTHS):
        write_jsonl(tmp_path / f"{month}.jsonl", month_of(number))
        done = bench.rewarm("data", "cloze", f"{month}.jsonl", "--output", f"{month}-facts.jsonl")
        assert done.returncode == 0, done.stderr
        assert len((tmp_path / f"{month}-facts.jsonl").read_bytes().splitlines()) == 5
    update(bench, 0, ["general.jsonl"])
    assert surprise(bench, "january") < 3 < 1000 < surprise(bench, "january", "base")
    update(bench, 1, ["general.jsonl", "january.jsonl"])
    update(bench, 2, ["general.jsonl", "january.jsonl", "february.jsonl"])
    kept = [surprise(bench, month) for month in MONTHS]
    told = bench.rewarm("compare", "news@1", "news@3")
    assert told.returncode == 0 and "january-facts" in told.stdout, told.stdout + told.stderr

    update(bench, 2, ["general.jsonl"])  # from news@2 again, without the earlier months
    lost = [surprise(bench, month) for month in MONTHS]
    assert max(kept) < 3, (kept, lost)  # of five that any guess would leave
    assert lost[2] < 3 and lost[0] > 2 * kept[0], (kept, lost)
