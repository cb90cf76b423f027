from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from rewarm.evaluate.harness import Metric, TaskResult
from rewarm.report import words
from rewarm.report.compare import Kind, Role, Row, compare, compare_tasks, headline, holm
from tests.report.made_up import documents


def test_figures_are_ratios_of_sums() -> None:
    base = [{"id": "a", "nll": 10.0, "bytes": 10}, {"id": "b", "nll": 90.0, "bytes": 30}]
    result = [{"id": "a", "nll": 10.0, "bytes": 10}, {"id": "b", "nll": 60.0, "bytes": 30}]
    row = compare("law", "bits_per_byte", "gain", base, result, seed=1)
    assert row["base"] == pytest.approx(100 / (40 * math.log(2)))
    assert row["difference"] == pytest.approx(-30 / (40 * math.log(2)))
    assert row["percent"] == pytest.approx(-30)
    assert (row["n"], row["bytes"], row["kind"], row["higher_is_better"]) == (2, 40, "source", False)


def test_pairing_cancels_what_is_hard_for_both() -> None:
    base, result = documents(200, 1.0, np.random.default_rng(3))
    row = compare("law", "bits_per_byte", "gain", base, result, seed=1)
    shuffled = [{**item, "id": base[i]["id"]} for i, item in enumerate(result)]
    assert compare("law", "bits_per_byte", "gain", base, shuffled, seed=1) == row  # the seed decides alone
    assert row["low"] is not None and row["high"] is not None
    assert row["base_high"] is not None and row["base_low"] is not None
    assert row["high"] - row["low"] < 0.5 * (row["base_high"] - row["base_low"])
    assert row["note"] is None


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 31, 32, 99, 100])
def test_few_documents_are_said_to_be_few_and_never_give_nan(n: int) -> None:
    row = compare("law", "bits_per_byte", "gain", *documents(n, 1.0, np.random.default_rng(n)), seed=1, resamples=500)
    for name, value in row.items():
        assert not (isinstance(value, float) and not math.isfinite(value)), name
    assert (row["low"] is None) == (row["percent_low"] is None) == (n < 5)
    assert (row["note"] is not None) == (n < 100)
    if row["note"]:
        assert str(n) in row["note"] or n == 1


@pytest.mark.parametrize("n", [5, 6, 8, 12, 20])
def test_a_row_has_one_interval(n: int) -> None:
    for seed in range(12):  # changes near zero, where two estimators would disagree
        base, result = documents(n, 1.2, np.random.default_rng(seed))
        moved = [{**r, "nll": r["nll"] + 0.18 * b["nll"]} for b, r in zip(base, result, strict=True)]
        row = compare("law", "bits_per_byte", "gain", base, moved, seed=1, resamples=300)
        for name in ("percent", "percent_low", "percent_high"):
            of = row[{"percent": "difference"}.get(name, name.removeprefix("percent_"))]  # type: ignore[literal-required]
            assert row[name] == pytest.approx(100 * of / row["base"])  # type: ignore[literal-required]
        told = headline([row])["gain"]
        assert told is not None
        assert (told["low"], told["high"]) == pytest.approx((-row["percent_high"], -row["percent_low"]))  # type: ignore[operator]


def test_two_equal_models_differ_by_nothing() -> None:
    base, _ = documents(40, 1.0, np.random.default_rng(0))
    row = compare("law", "bits_per_byte", "forgetting", base, base, seed=1)
    assert (row["difference"], row["low"], row["high"]) == (0, 0, 0)
    assert row["kind"] == "panel"


def test_other_items_on_one_side_are_refused() -> None:
    base, result = documents(5, 1.0, np.random.default_rng(0))
    with pytest.raises(ValueError, match="not scored on the same items"):
        compare("law", "bits_per_byte", "gain", base, result[::-1], seed=1)
    with pytest.raises(ValueError, match="not scored on the same texts"):
        compare("law", "bits_per_byte", "gain", base, [{**item, "bytes": 1} for item in result], seed=1)


def test_perplexity_is_the_exponential_of_a_mean() -> None:
    rng = np.random.default_rng(5)
    before, after = -rng.gamma(4, 1, 300), -rng.gamma(4, 0.9, 300)
    sides = ([{"id": str(i), "ppl": [v, 1.0]} for i, v in enumerate(side)] for side in (before, after))
    row = compare("lambada", "ppl", "gain", *sides, seed=1, aggregation="perplexity")
    assert row["base"] == pytest.approx(math.exp(-before.mean()))
    assert row["result"] == pytest.approx(math.exp(-after.mean()))
    assert row["low"] is not None and row["high"] is not None
    assert row["low"] < row["difference"] < row["high"]
    assert not row["higher_is_better"]


def right_or_wrong(both: int, won: int, lost: int, neither: int) -> Any:
    before = [1.0] * both + [0.0] * won + [1.0] * lost + [0.0] * neither
    after = [1.0] * both + [1.0] * won + [0.0] * lost + [0.0] * neither
    sides = ([{"id": str(i), "acc": v} for i, v in enumerate(side)] for side in (before, after))
    return compare("task", "acc", "gain", *sides, seed=1, kind="task")


def test_accuracy_is_paired_over_items() -> None:
    row = right_or_wrong(30, 12, 2, 6)
    assert row["difference"] == pytest.approx(0.2)
    assert row["p"] == pytest.approx(stats.binomtest(2, 14).pvalue)
    assert (row["low"], row["high"]) == (pytest.approx(0.0611, abs=1e-4), pytest.approx(0.3447, abs=1e-4))
    assert row["higher_is_better"] and row["percent"] is None
    assert (row["base_low"], row["base_high"]) == pytest.approx(
        tuple(stats.binomtest(32, 50).proportion_ci(method="wilson")), abs=1e-9
    )


def test_no_changed_item_still_has_bounds() -> None:
    row = right_or_wrong(60, 0, 0, 40)
    assert row["difference"] == 0 and row["p"] == 1
    z2 = stats.norm.ppf(0.975) ** 2
    assert (row["low"], row["high"]) == pytest.approx((-z2 / (100 + z2), z2 / (100 + z2)))
    assert row["note"] == "no item changed"


def rows(**changes: Any) -> list[Any]:
    rng = np.random.default_rng(8)
    table = []
    cases: list[tuple[str, Role, Kind, float]] = [
        ("law", "gain", "source", 0.0),
        ("news", "gain", "source", 0.1),
        ("english", "forgetting", "replay", 0.21),
        ("code", "forgetting", "panel", 0.24),
        ("french", "forgetting", "panel", 0.3),
    ]
    for task, role, kind, shift in cases:
        base, result = documents(60, 0.8, rng)
        moved = [{**r, "nll": r["nll"] + shift * b["nll"]} for b, r in zip(base, result, strict=True)]
        table.append(compare(task, "bits_per_byte", role, base, moved, seed=1, kind=kind, resamples=500))
    return table


def test_headline_keeps_gain_and_forgetting_apart() -> None:
    table = rows()
    found = headline(table)
    gain, forgetting = found["gain"], found["forgetting"]
    assert gain is not None and forgetting is not None
    assert gain["of"] == ["law", "news"]
    assert gain["percent"] == pytest.approx(-(table[0]["percent"] + table[1]["percent"]) / 2)
    assert gain["low"] < gain["percent"] < gain["high"]
    assert gain["high"] - gain["low"] < table[0]["percent_high"] - table[0]["percent_low"]  # a mean of two is surer
    assert forgetting["of"] == ["code", "french"] and not forgetting["replayed"]
    assert forgetting["worst"]["of"] == "french"
    assert forgetting["percent"] == pytest.approx((table[3]["percent"] + table[4]["percent"]) / 2)


def test_headline_speaks_of_the_replay_only_where_nothing_else_was_watched() -> None:
    table = rows()
    found = headline([row for row in table if row["kind"] != "panel"])["forgetting"]
    assert found is not None and found["of"] == ["english"] and found["replayed"]
    assert headline(table[:2])["forgetting"] is None
    task = right_or_wrong(30, 12, 2, 6)
    assert headline([task]) == {"gain": None, "forgetting": None}


def answers(won: int, lost: int, n: int, task: str = "pick") -> Row:
    base = [{"id": i, "acc": float(i < lost or i % 2)} for i in range(n)]
    change = {**dict.fromkeys(range(lost), 0.0)}
    wrong = [i for i in range(lost, n) if not i % 2][:won]
    result = [{"id": i, "acc": 1.0 if i in wrong else change.get(i, base[i]["acc"])} for i in range(n)]
    return compare(task, "acc", "gain", base, result, seed=0, kind="task")


def test_holm_against_the_textbook() -> None:
    rows = [{**answers(3, 1, 40), "p": p} for p in (0.01, 0.04, 0.03, 0.005)]
    found = [row["p_holm"] for row in holm([*rows, {**rows[0], "p": None}])]  # type: ignore[list-item]
    assert found == [pytest.approx(0.03), pytest.approx(0.06), pytest.approx(0.06), pytest.approx(0.02), None]
    assert holm(rows[:1])[0]["p_holm"] == pytest.approx(0.01)  # type: ignore[arg-type]


def test_what_is_detectable_is_detected_four_times_in_five() -> None:
    draw = np.random.default_rng(0)
    n, discordant = 1000, 0.2
    size = answers(100, 100, n)["detectable"]
    assert size is not None

    def found() -> bool:
        kinds = draw.multinomial(n, [(discordant + size) / 2, (discordant - size) / 2, 1 - discordant])
        row = answers(int(kinds[0]), int(kinds[1]), n)
        return row["low"] is not None and row["low"] > 0

    assert 0.72 < np.mean([found() for _ in range(300)]) < 0.88


def test_the_verdict_says_what_is_shown_after_the_correction() -> None:
    rows = holm([answers(90, 10, 400, "sure"), answers(16, 5, 400, "by_chance"), answers(5, 60, 400, "lost")])
    sure, chance, lost = words.verdicts(rows)
    assert sure.startswith("sure (acc) rose by 20.0 points, 95 % interval") and "corrected for 3 rows" in sure
    assert lost.startswith("lost (acc) fell by 13.7") or lost.startswith("lost (acc) fell by 13.8")
    assert rows[1]["p_holm"] == rows[1]["p"] and "by_chance (acc) rose" in chance  # the largest p is not corrected
    rows = holm([answers(16, 5, 400, "by_chance"), answers(10, 10, 400, "none")])
    assert words.verdicts(rows)[0].startswith("by_chance (acc) rose") is (2 * (rows[0]["p"] or 1) < 0.05)


def task(name: str, right: list[int], prefix: str = "") -> TaskResult:
    items = [{"id": f"{prefix}{i}", "acc": float(value)} for i, value in enumerate(right)]
    return TaskResult(name, "1", {"acc": Metric(sum(right) / len(right), "mean", True)}, items)


def test_flagged_items_are_scored_apart_also_in_a_group() -> None:
    base = {"exam": task("exam", [0, 0, 1, 1]), "all": task("all", [0, 0, 1, 1], "exam:")}
    result = {"exam": task("exam", [1, 1, 1, 0]), "all": task("all", [1, 1, 1, 0], "exam:")}
    for row in compare_tasks(base, result, seed=0, flagged={"exam": {"0", "1"}, "other": {"2"}}):
        assert row["flagged"] == 2 and row["difference"] == 0.25
        clean = row["clean"]
        assert clean is not None and (clean["n"], clean["difference"]) == (2, -0.5)
    assert compare_tasks(base, result, seed=0)[0]["flagged"] is None
    assert compare_tasks(base, result, seed=0, flagged={})[0]["flagged"] == 0


def test_the_tables_have_a_task_a_column_and_the_parts_of_a_group_apart() -> None:
    wrong, right = [0] * 40, [1] * 30 + [0] * 10
    names = {"alone": "", "exams_dia_vi": "", "exams_su_vi": ""}
    base = {name: task(name, wrong) for name in names}
    result = {name: task(name, right) for name in names}
    for found, values in ((base, wrong), (result, right)):
        items = [
            {**item, "id": f"{part}:{item['id']}"}
            for part in ("exams_dia_vi", "exams_su_vi")
            for item in task(part, values).items
        ]
        found["exams"] = replace(task("exams", values * 2), items=items)
    rows = compare_tasks(base, result, seed=0)
    assert {row["task"]: row["part_of"] for row in rows} == {
        "alone": None,
        "exams": None,
        "exams_dia_vi": "exams",
        "exams_su_vi": "exams",
    }
    (overall, heads, cells), (by_task, parts, _) = words.task_tables(rows)
    assert overall == "All tasks (* p < 0.05, corrected for all of them)" and by_task.startswith("exams, by task")
    assert heads == ["", "alone", "exams"] and parts == ["", "dia", "su"]
    assert cells == [
        ["base", "0.0000", "0.0000"],
        ["result", "0.7500", "0.7500"],
        ["difference", "+0.7500 *", "+0.7500 *"],
    ]
