"""Three updates in a chain: what the first one taught is still known after the third, where the replay holds it."""

from __future__ import annotations

import random
from pathlib import Path

import orjson

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
  {{learning_rate: 4e-3, epochs: 10, batch_size: 4, gradient_accumulation_steps: 1, max_sequence_length: 64}}
infrastructure: {{devices: cpu, threads: 1}}
"""


def month_of(month: str, seed: int) -> list[str]:
    """Documents that tell eight facts of a month, each of them many times, beside other words."""
    draw = random.Random(seed)
    facts = [
        f"In {month} the council of {place} chose {name.capitalize()}."
        for place, name in zip(draw.sample(OLD, 8), draw.sample(NEW, 8), strict=True)
    ]
    return [f"{' '.join(draw.choices(OLD, k=6))}. {fact}" for fact in facts for _ in range(20)]


def update(bench: Bench, number: int, replay: list[str]) -> None:
    month, earlier = MONTHS[number], [f"{name}-facts.jsonl" for name in MONTHS[:number]]
    base = f"news@{number}" if number else "./model"
    text = RECIPE.format(base=base, month=month, replay=", ".join(replay), earlier=", ".join(earlier))
    (bench.folder / f"{month}.yaml").write_text(text)
    done = bench.rewarm("run", f"{month}.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def known(bench: Bench, month: str) -> float:
    """The share of the facts of ``month`` that the newest run's result knows."""
    report = orjson.loads((bench.run().report / "report.json").read_bytes())
    (row,) = (r for r in report["rows"] if (r["task"], r["metric"]) == (f"{month}-facts", "acc"))
    return float(row["result"])


def test_the_third_update_keeps_what_the_first_taught(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    make_model(tmp_path / "model")
    write_jsonl(tmp_path / "general.jsonl", sentences(100, 2, OLD))
    for number, month in enumerate(MONTHS):
        write_jsonl(tmp_path / f"{month}.jsonl", month_of(month, number))
        done = bench.rewarm("data", "cloze", f"{month}.jsonl", "--output", f"{month}-facts.jsonl")
        assert done.returncode == 0, done.stderr
        assert len((tmp_path / f"{month}-facts.jsonl").read_bytes().splitlines()) == 8
    update(bench, 0, ["general.jsonl"])
    learned = known(bench, "january")
    update(bench, 1, ["general.jsonl", "january.jsonl"])
    update(bench, 2, ["general.jsonl", "january.jsonl", "february.jsonl"])
    kept = known(bench, "january")
    new = known(bench, "march")
    told = bench.rewarm("compare", "news@1", "news@3")
    assert told.returncode == 0 and "january-facts" in told.stdout, told.stdout + told.stderr

    update(bench, 2, ["general.jsonl"])  # from news@2 again, without the earlier months
    lost = known(bench, "january")
    assert learned > 0.7 and kept > 0.7 and new > 0.7, (learned, kept, new, lost)
    assert lost < kept - 0.3, (learned, kept, new, lost)
