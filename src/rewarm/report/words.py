"""The report's figures in words and cells: one wording for the page, the Markdown and the model card."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from rewarm.core.amounts import NONE, amount, duration, size

if TYPE_CHECKING:
    from rewarm.report.compare import Row


MINUS = "\N{MINUS SIGN}"
RANGE = " to "
RESULT_HEADS = ("Text or task", "Role", "Metric", "Base", "Result", "Difference", "95 % interval", "Change", "n")
_COUNTS = ("name", "role", "documents_in", "accepted", "held_out", "held_out_bytes", "held_out_tokens")
_DETAILS: dict[str, Any] = {
    **{"rejected": {}, "filtered": {}, "flagged": {}, "samples": {}, "bad_files": [], "sites": []},
    "ignored_files": {"count": 0, "first": []},
}
CANDIDATES = "Candidates of this training"
LEGEND = (
    "Bits per byte say how surprised a model is by text that it has not read, for each byte of it: the fewer, the "
    "better it knows such text. The 95 % interval holds what other documents of the kind would have shown."
)
_WEIGHTS = {
    "trained": "as training ended",
    "average": "average of the last checkpoints",
    "running_average": "running average",
    "chat_vector": "as training ended, with the chat vector",
}


@dataclass(frozen=True)
class Line:
    """One of the two numbers at the head of a report."""

    title: str
    role: str
    figure: str
    interval: str
    text: str
    calm: bool = False
    """Whether nothing is shown that one should worry about."""


def number(value: float | None, digits: int = 3, sign: bool = False) -> str:
    """A figure with a true minus sign and no negative zero; a dash where there is none."""
    if value is None:
        return "\N{EN DASH}"
    text = f"{value:+,.{digits}f}" if sign else f"{value:,.{digits}f}"
    if not re.search("[1-9]", text):
        text = text.lstrip("+-")
    return text.replace("-", MINUS)


def percent(value: float | None, sign: bool = True) -> str:
    return number(value, 1, sign) + (" %" if value is not None else "")


def brief(value: float, most: int = 4) -> str:
    """A figure with the digits that it has, so many at most: 0.25, 4e−5."""
    digits, _, exponent = f"{value:.{most}g}".partition("e")
    if 0 < abs(value) < 1e-3:
        digits, exponent = f"{value:.{most - 1}e}".split("e")
    return (f"{float(digits):g}" + (f"e{int(exponent)}" if exponent else "")).replace("-", MINUS)


def interval(low: float | None, high: float | None, digits: int = 3) -> str:
    if low is None or high is None:
        return "\N{EN DASH}"
    return f"{number(low, digits, True)}{RANGE}{number(high, digits, True)}"


def short_date(iso: str) -> str:
    return iso.replace("T", " ")[:16] + " UTC"


# --- the two numbers ---


def headlines(report: Mapping[str, Any]) -> list[Line]:
    """Gain and forgetting as a reader needs them: number, interval, what it was measured on."""
    return [_gain(report["headline"]["gain"]), _forgetting(report["headline"]["forgetting"])]


def _gain(gain: Mapping[str, Any] | None) -> Line:
    if gain is None:
        return Line("Gain", "gain", "not measured", "", "No held-out text of a source was scored.")
    over = f"held-out {_list(gain['of'])}"
    if len(gain["of"]) > 1:
        over += f" (the mean over {len(gain['of'])} sources)"
    text = f"fewer bits per byte on {over}. {_certainty(gain, 'gain')}"
    return Line("Gain", "gain", percent(gain["percent"], sign=False), _bounds(gain, sign=False), text)


def _forgetting(forgetting: Mapping[str, Any] | None) -> Line:
    if forgetting is None:
        return Line(
            "Forgetting", "forgetting", "not measured", "", "There was no panel and no replayed text to measure on."
        )
    kind = "the replayed text" if forgetting["replayed"] else "text that was never replayed"
    worst, low, high = forgetting["worst"], forgetting["low"], forgetting["high"]
    over = f"bits per byte on {kind} ({_list(forgetting['of'])})."
    also = (
        f" Worst: {worst['of']}, {percent(worst['percent'])} ({_bounds(worst)})." if len(forgetting["of"]) > 1 else ""
    )
    if high is not None and high < 0 and worst["percent"] <= 0 and not forgetting["replayed"]:
        interval = _bounds({"low": -high, "high": -low}, sign=False)
        figure = f"{percent(-forgetting['percent'], sign=False)} better"
        return Line("Nothing forgotten", "forgetting", figure, interval, f"in {over}{also}", calm=True)
    text = f"in {over} {_certainty(forgetting, 'forgetting')}{also}"
    figure, calm = percent(forgetting["percent"]), low is not None and low <= 0
    return Line("Forgetting", "forgetting", figure, _bounds(forgetting), text, calm)


def _bounds(value: Mapping[str, Any], sign: bool = True) -> str:
    if value["low"] is None:
        return "no interval"
    return f"95 % interval {number(value['low'], 1, sign)}{RANGE}{number(value['high'], 1, sign)}"


def _certainty(value: Mapping[str, Any], what: str) -> str:
    if value["low"] is None:
        return "Too few documents for an interval."
    if value["low"] > 0:
        return (
            "More than chance: the interval excludes zero."
            if what == "gain"
            else "The interval excludes zero: something was forgotten."
        )
    if value["high"] < 0:
        return "The interval lies below zero: it got worse." if what == "gain" else "It got better, not worse."
    return f"The interval includes zero: no {what} is shown."


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


# --- tables ---


def metric_name(row: Row) -> str:
    arrow = "\N{UPWARDS ARROW}" if row["higher_is_better"] else "\N{DOWNWARDS ARROW}"
    return f"{row['metric'].replace('_', ' ')} {arrow}"


def result_cells(row: Row) -> list[str]:
    """One row of the before/after table, in the order of ``RESULT_HEADS``."""
    return [
        row["task"],
        _role(row),
        metric_name(row),
        number(row["base"]),
        number(row["result"]),
        number(row["difference"], 3, sign=True),
        interval(row["low"], row["high"]),
        percent(row["percent"]),
        f"{row['n']:,}",
    ]


def task_tables(rows: Sequence[Row]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, heads and cells of the tables that people know from papers: a task a column, base and result a line each.

    The tasks of a group that has a figure of its own stand in a table of theirs.
    """
    columns: dict[str | None, dict[str, Row]] = {}
    for row in rows:
        if row["kind"] == "task" and row["p"] is not None:  # shares of right answers
            known = columns.setdefault(row.get("part_of"), {})
            if row["metric"] == "acc" or row["task"] not in known:
                known[row["task"]] = row
    found = []
    for group, tasks in columns.items():
        cells = [
            [name, *(number(row[key], 4) for row in tasks.values())]  # type: ignore[literal-required]
            for name, key in (("base", "base"), ("result", "result"))
        ]
        cells.append(["difference", *(number(row["difference"], 4, True) + _star(row) for row in tasks.values())])
        names = _short(list(tasks)) if group else list(tasks)
        metrics = ("" if row["metric"] == "acc" else f" ({row['metric']})" for row in tasks.values())
        heads = ["", *(name + metric for name, metric in zip(names, metrics, strict=True))]
        title = "All tasks" if group is None else f"{group}, by task"
        starred = any(cell.endswith("*") for cell in cells[-1])
        found.append((title + (" (* p < 0.05, corrected for all of them)" if starred else ""), heads, cells))
    return found


def _short(names: Sequence[str]) -> list[str]:
    """The names without the words that all begin or end with, where something is left: exams_toan_vi, toan."""
    parts = [name.split("_") for name in names]
    head, tail = (_alike(*(part[::step] for part in parts)) for step in (1, -1))
    short = ["_".join(part[head : len(part) - tail]) for part in parts]
    return short if all(short) else list(names)


def _alike(*lists: Sequence[str]) -> int:
    """How many words all begin with."""
    return sum(1 for _ in takewhile(lambda words: len(set(words)) == 1, zip(*lists, strict=False)))


def _star(row: Row) -> str:
    return " *" if (p := _p(row)) is not None and p < 0.05 else ""


def _p(row: Row) -> float | None:
    """Corrected for the number of rows, where it is."""
    return row["p"] if row.get("p_holm") is None else row["p_holm"]


def _named(row: Row) -> str:
    return f"{row['task']} ({row['metric'].replace('_', ' ')})"


def _role(row: Row) -> str:
    if row["kind"] == "task":
        return "general task" if row["role"] == "forgetting" else "task"
    return "forgetting (replayed)" if row["kind"] == "replay" else row["role"]


def weights_name(weights: str) -> str:
    """What weights of a training are called in a report."""
    share = weights.removeprefix("merge-")
    return _WEIGHTS.get(weights) or f"{share} of the trained weights, the rest the base's"


def use(report: Mapping[str, Any]) -> str:
    """What the published model is good for."""
    if report["result"].get("weights") == "chat_vector":
        return "What an instruct model was taught was added to its weights: use it with the chat template beside it."
    return "It continues text; it was not taught to follow instructions by this training."


def choice(report: Mapping[str, Any]) -> list[str]:
    """By which rule the weights were chosen, and whether they kept the budget."""
    found = report["result"].get("choice")
    if not found:
        return []
    budget = f"at most {brief(found['max_forgetting'])} % forgotten (max_forgetting)"
    weights = weights_name(report["result"]["weights"])
    chosen = f"Chosen: {weights}, with a forgetting of {percent(found['forgetting'])}."
    lines = [f"Rule: {budget}. {chosen}"]
    if found["rule"] == "best":
        lines = [
            f"Rule: the greatest gain with {budget}. {chosen} The "
            "figures here are of one half of the held-out documents, by which was chosen; those above are of the other."
        ]
    return lines if found["kept"] else [*lines, "The budget was not kept, so nothing was published."]


PILOT = "The pilot"
PILOT_HEADS = ("Run", "Learning rate", "Replay", "Gain", "Forgetting", "Within the tolerance", "Tokens")


def pilot_notes(pilot: Mapping[str, Any]) -> list[str]:
    """By which rule the short runs chose rate and replay, and what that does not say."""
    runs, chosen = pilot["runs"], pilot["runs"][pilot["chosen"]]
    whose = "max_forgetting" if pilot["given"] else "the default, as there is no max_forgetting"
    shown = f"{brief(chosen['learning_rate'])} with {brief(100 * chosen['replay_share'])} % of replay"
    return [
        f"Short runs of {runs[0]['steps']:,} updates tried learning rates and shares of replay before the training. "
        f"Rule: the greatest gain with at most {brief(pilot['max_forgetting'])} % forgotten ({whose}), "
        "of gains within a twentieth the one that forgot less; where none keeps to it, the least forgetting. "
        f"Chosen: run {pilot['chosen'] + 1}, {shown}.",
        "They were scored on one half of the held-out documents, the result on the other. A short run "
        "compares settings; it does not foretell how much a whole training gains or forgets.",
    ]


def pilot_rows(pilot: Mapping[str, Any]) -> list[list[str]]:
    """The cells of the table of short runs, in the order of ``PILOT_HEADS``."""
    rows = []
    for i, run in enumerate(pilot["runs"]):
        both = (run["headline"][name] for name in ("gain", "forgetting"))
        figures = (percent(one["percent"]) if one else NONE for one in both)
        name = f"{i + 1}" + (" (chosen)" if i == pilot["chosen"] else "")
        share = f"{brief(100 * run['replay_share'])} %"
        kept = "yes" if run["kept"] else "no"
        rows.append([name, brief(run["learning_rate"]), share, *figures, kept, amount(run["tokens"])])
    return rows


def candidate_rows(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of the table of the other weights of the same training; of all, where they were chosen by it."""
    rows = [
        [weights_name(other["weights"]), *result_cells(row)] for other in report["candidates"] for row in other["rows"]
    ]
    return ["Weights", *RESULT_HEADS], rows


def notes(rows: Sequence[Row]) -> list[str]:
    """What a reader of the table must know: direction, methods, few documents."""
    found = ["Difference is result minus base; the arrow says which direction is better."]
    methods: dict[str, list[str]] = {}
    for row in rows:
        if row["low"] is not None or not row["note"]:
            methods.setdefault(row["method"], []).append(row["task"])
    for method, tasks in methods.items():
        of = "" if len(methods) == 1 else f" of {_list(list(dict.fromkeys(tasks)))}"
        found.append(f"Intervals{of}: {method}.")
    remarks: dict[str, list[str]] = {}
    for row in rows:
        few = row["low"] is not None and str(row["note"]).startswith("only") and ";" not in str(row["note"])
        if row["note"] and not few:  # the limits say that of all
            remarks.setdefault(row["note"], []).append(_named(row))
    found += [f"{_list(tasks)}: {note}." for note, tasks in remarks.items()]
    seen = [row for row in rows if row.get("detectable") is not None]
    if seen:
        least = (f"{_named(row)} {_least(row)}" for row in seen)
        found.append(f"Smallest changes that would have been found with a chance of 80 %: {'; '.join(least)}.")
    return found


def _least(row: Row) -> str:
    size = row["detectable"] or 0.0
    return f"{number(100 * size, 1)} points" if row["p"] is not None else brief(size, 2)


def verdicts(rows: Sequence[Row]) -> list[str]:
    """What the rows of right or wrong answers say, in a sentence each."""
    tested = [row for row in rows if row["p"] is not None]
    said = []
    for row in tested:
        p = _p(row)
        many = f", corrected for {len(tested)} rows" if row.get("p_holm") is not None and len(tested) > 1 else ""
        test = "sign flips of the passages" if "sign flips" in row["method"] else "McNemar, exact"
        sure = f"p = {brief(p or 0.0, 2)} ({test}{many})"
        points = f"{number(100 * abs(row['difference']), 1)} points"
        bounds = interval(100 * (row["low"] or 0.0), 100 * (row["high"] or 0.0), 1)
        name = _named(row)
        if p is not None and p < 0.05:
            way = "rose" if row["difference"] > 0 else "fell"
            said.append(f"{name} {way} by {points}, 95 % interval {bounds}; {sure}.{_contaminated(row)}")
        else:
            change = f"{number(100 * row['difference'], 1, True)} points, {bounds}; {sure}"
            said.append(f"{name}: no change is shown ({change}).{_contaminated(row)}")
    return said


def _contaminated(row: Row) -> str:
    """How many items stood in the training text, and what is so of the others."""
    if not (flagged := row.get("flagged")):
        return ""
    share = f"{brief(100 * flagged / row['n'], 2)} % of its items ({flagged:,} of {row['n']:,})"
    found = f" {share} share a run of words with the training text; what held them was not trained on."
    if clean := row.get("clean"):
        bounds = interval(100 * (clean["low"] or 0.0), 100 * (clean["high"] or 0.0), 1)
        found += f" On the other {clean['n']:,}: {number(100 * clean['difference'], 1, True)} points, {bounds}."
    return found


def data_rows(texts: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of the table of texts; what was seen of each only where there was a run."""
    heads = ["Text", "Role", "Documents in", "Accepted", "Held out", "Filtered", "Rejected"]
    heads += ["Bytes", "Tokens", "Bytes per token"]
    rows = [_data_cells(text) for text in texts]
    if any(text["tokens_seen"] is not None for text in texts):
        heads.append("Seen in this run")
        for text, cells in zip(texts, rows, strict=True):
            cells.append(_seen(text["documents_seen"], text["tokens_seen"]))
    return heads, rows


def _data_cells(text: Mapping[str, Any]) -> list[str]:
    left_out = (sum(text["filtered"].values()), sum(text["rejected"].values()))
    counts = (text["documents_in"], text["accepted"], text["held_out"], *left_out)
    per_token = number(text["bytes_per_token"], 2)
    names = [text["name"], text["role"]]
    return [*names, *(f"{n:,}" for n in counts), size(text["bytes"]), amount(text["tokens"]), per_token]


def _seen(documents: int | None, tokens: int | None) -> str:
    if documents is None or tokens is None:
        return NONE
    return f"{amount(tokens)} tokens of {documents:,} document{'s' if documents != 1 else ''}"


def data_notes(data: Mapping[str, Any]) -> list[str]:
    """Why documents were left out or rejected, whether the count adds up, and the mixture."""
    found = []
    for text in data["texts"]:
        reasons = [f"{count:,} {reason}" for reason, count in (text["filtered"] | text["rejected"]).items() if count]
        if reasons:
            found.append(f"Of {text['name']}: {', '.join(reasons)}.")
        found += [f"Damaged and passed over: {bad['file']} ({bad['reason']})." for bad in text["bad_files"]]
        if (ignored := text["ignored_files"])["count"]:
            shown = ", ".join(ignored["first"][:3]) + (", ..." if ignored["count"] > 3 else "")
            found.append(f"Of {text['name']}, {ignored['count']:,} files hold no documents by their names: {shown}.")
    apart = [text["name"] for text in data["texts"] if _missing(text)]
    if apart:
        found.append(
            f"Of {_list(apart)} the documents in do not equal those accepted, held out, filtered and rejected."
        )
    elif data["texts"]:
        found.append(
            "Documents in = accepted (to be trained on) + held out + filtered + rejected. Bytes and tokens are of "
            "those accepted or held out."
        )
    found += tokenizer_notes(data["texts"], data.get("english_bytes_per_token"))
    found += concentration_notes(data["texts"])
    weights = [f"{text['name']} {text['weight']:.3g}" for text in data["texts"] if text["weight"] is not None]
    if weights:
        found.append(f"Weights (times seen an epoch): {', '.join(weights)}.")
    if data["replay_share"] is not None:
        found.append(f"Replay: {100 * data['replay_share']:g} % of the training tokens.")
    if anneal := data.get("anneal"):
        shares = [f"{name} {100 * share:.3g} %" for name, share in anneal["shares"] if share]
        found.append(f"The last {100 * anneal['share']:g} % of the training tokens: {', '.join(shares)}.")
    return found


def concentration_notes(texts: Sequence[Mapping[str, Any]]) -> list[str]:
    """How much of the corpus comes from few places: each source's part of all, and each source's largest sites."""
    found, sources = [], {text["name"]: text["tokens"] for text in texts if text["role"] == "source"}
    if len(sources) > 1 and (total := sum(sources.values())):
        most = sorted(sources.items(), key=lambda item: -item[1])
        shares = ", ".join(f"{name} {percent(100 * tokens / total, False)}" for name, tokens in most)
        found.append(f"Of the sources' tokens, before weights: {shares}.")
    for text in texts:
        if sites := [site for site in text.get("sites", ()) if "share" in site]:  # datasets of before say none
            each = ", ".join(f"{site['site']} {percent(100 * site['share'], False)}" for site in sites[:3])
            whole = percent(100 * sum(site["share"] for site in sites), False)
            found.append(f"Largest sites of {text['name']}, by bytes: {each}; the {len(sites)} largest: {whole}.")
    return found


def tokenizer_notes(texts: Sequence[Mapping[str, Any]], english: float | None) -> list[str]:
    """Whether the tokenizer serves the language of each text, against English in bytes per token."""
    found = []
    for text in texts:
        if not english or not text["bytes_per_token"] or text["role"] == "replay":
            continue
        times = english / text["bytes_per_token"]
        about = (
            f"a token holds {number(text['bytes_per_token'], 2)} bytes of {text['name']} and {number(english, 2)} of"
        )
        if times <= 1.25:
            found.append(f"The tokenizer serves {text['name']} as well as English: {about} English.")
        elif times <= 2:
            found.append(f"The tokenizer serves {text['name']} less well than English: {about} English.")
        else:
            found.append(
                f"The tokenizer serves {text['name']} badly: {about} English, so it takes {number(times, 1)} times the "
                "tokens, time and context. A larger vocabulary is worth a thought from about 2 G tokens on."
            )
    return found


def text_figures(entry: Mapping[str, Any], mixture: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """One source, replay or panel: documents in, and where each of them went."""
    tokens, size = entry["tokens"] + entry["held_out_tokens"], entry["bytes"] + entry["held_out_bytes"]  # all kept
    weights = dict(mixture["sources"]) if mixture else {}
    documents_seen, tokens_seen = (mixture or {}).get("seen", {}).get(entry["name"], (None, None))
    return {
        **{key: entry[key] for key in _COUNTS},
        **{key: entry.get(key, empty) for key, empty in _DETAILS.items()},
        "bytes": size,
        "tokens": tokens,
        "bytes_per_token": size / tokens if tokens else None,
        "weight": weights.get(entry["name"]),
        "documents_seen": documents_seen,
        "tokens_seen": tokens_seen,
        "decontaminated": any(step["kind"] == "decontaminate" for step in entry.get("steps", ())),
    }


def waterfall(text: Mapping[str, Any], most: int = 8) -> list[tuple[str, int]]:
    """Where the documents of a text went, in order: what came in, what each rule took away, what is left."""
    losses = [*text["filtered"].items(), *((f"rejected: {reason}", n) for reason, n in text["rejected"].items())]
    if len(losses) > most:
        large = {name for name, _ in sorted(losses, key=lambda item: -item[1])[: most - 1]}
        rest = sum(n for name, n in losses if name not in large)
        losses = [*((name, n) for name, n in losses if name in large), ("other reasons", rest)]
    held = [("held out", text["held_out"])] if text["held_out"] and text["accepted"] else []
    left = ("accepted", text["accepted"]) if text["accepted"] else ("held out", text["held_out"])
    return [("documents in", text["documents_in"]), *losses, *held, left]


def row_title(number: int, row: Mapping[str, Any]) -> str:
    of, shown = row["count"], len(row["segments"])
    begin = f", of which the first {shown} are shown" if shown < of else ""
    return f"Row {number}: {row['tokens']:,} tokens of {of:,} document{'s' if of != 1 else ''}{begin}"


def segment_title(part: Mapping[str, Any]) -> str:
    """Which part of which document stands in a row, as ``rewarm data show`` says it."""
    span = f"{part['begin']:,} to {part['end']:,} of {part['length']:,}"
    return f"{part['source']} #{part['document']}, tokens {span}"


def _missing(text: Mapping[str, Any]) -> int:
    left = sum(text["filtered"].values()) + sum(text["rejected"].values())
    return int(text["documents_in"] - text["accepted"] - text["held_out"] - left)


def training_facts(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    training, values = report["training"], report["hyperparameters"]
    weights = report["result"].get("weights", "trained")
    facts = [
        ("Base model", str(report["base"]["reference"])),
        ("Parameters", amount(report["base"].get("parameters"))),
        *([("Weights", weights_name(weights))] if weights != "trained" else []),
        ("Steps", f"{training['steps']:,}"),
        *(
            (f"Steps {start + 1:,} to {end:,}", "rewound: no trace in the weights")
            for start, end in training.get("rewinds", ())
        ),
        ("Tokens trained on", f"{training['tokens']:,}"),
        ("Device", str(training.get("device") or "\N{EN DASH}")),
        ("Time of the training stage", duration(training.get("seconds"))),
        ("Speed (median)", _speed(training["tokens_per_second"])),
        *_losses(training),
    ]
    shown = ("finetuning_type", "learning_rate", "lr_scheduler_type", "epochs", "max_sequence_length", "seed")
    given = ((field, values[field]["value"]) for field in shown if field in values)
    return facts + [(field, brief(value) if isinstance(value, float) else str(value)) for field, value in given]


def _losses(training: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The ends of the loss curve: single batches differ by more than a training changes, so means of some."""
    if not training["loss_points"]:
        return []
    arrow = f"{number(training['first_loss'])} \N{RIGHTWARDS ARROW} {number(training['last_loss'])} nats per token"
    return [("Training loss", f"{arrow}, means of the first and last {training['loss_points']} logged points")]


def _speed(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{value:,.0f} tokens/s"


def repeat_facts(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Hashes, versions and machine."""
    repeat = report["repeat"]
    run = report["run"]
    facts = [("Run", run), ("This table again, from its items", f"rewarm report {run} --recompute")] if run else []
    facts += [
        ("Name of the dataset" if name == "dataset" else f"SHA-256 of the {name}", value)
        for name, value in repeat["hashes"].items()
    ]
    facts.append(("Versions", ", ".join(f"{name} {value}" for name, value in repeat["versions"].items())))
    if machine := repeat["machine"]:
        facts.append(("Machine", _machine(machine)))
    return facts


def _machine(machine: Mapping[str, Any]) -> str:
    parts = [str(machine["system"]), f"{machine['cores']} cores", f"{size(machine['memory'])} of memory"]
    return ", ".join([*parts, *(f"{name} with {size(memory)}" for name, memory in machine.get("gpus", ()))])
