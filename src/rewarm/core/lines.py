"""Events as lines of text: the same words in log.txt, on a terminal that follows a run, and in ``rewarm runs show``."""

from __future__ import annotations

from collections.abc import Callable

from rewarm.core.amounts import NONE, amount, duration, size
from rewarm.core.events import TRAINING_FROM, Event

_FIGURES: dict[str, tuple[str, Callable[[float], str]]] = {
    "train/loss": ("training loss", lambda v: f"{v:.3f} nats a token"),
    "train/lr": ("learning rate", lambda v: f"{v:.3g}"),
    "train/epoch": ("epochs done", lambda v: f"{v:.2f}"),
    "train/grad_norm": ("gradient norm", lambda v: f"{v:.3g}"),
    "train/skipped_updates": ("updates skipped", amount),
    "perf/tokens_per_second": ("speed", lambda v: f"{amount(v)} tokens/s"),
    "perf/step_seconds": ("time of an update", lambda v: f"{v:.3g} s"),
    "perf/data_wait": ("time spent waiting for text", lambda v: f"{100 * v:.1f} %"),
    "perf/mfu": ("share of the device's peak speed", lambda v: f"{100 * v:.1f} %"),
    "perf/memory_gb": ("peak memory", lambda v: size(1e9 * v)),
}


def figure(name: str, value: float | None) -> tuple[str, str]:
    """A metric's name in words, and its value with the unit."""
    if name.startswith("eval/") and name.endswith("/bits_per_byte"):
        return f"held-out {name.split('/')[1]}", NONE if value is None else f"{value:.3f} bits per byte"
    words, show = _FIGURES.get(name, (name, "{:.6g}".format))
    if name.startswith("train/loss/"):
        words, show = f"training loss of {name.split('/', 2)[2]}", _FIGURES["train/loss"][1]
    return words, NONE if value is None else show(value)


def progress_line(event: Event) -> str:
    """How far a piece of work is, how fast, and how long still; shorter than 70 characters for all but long names."""
    done, total, unit, speed = event["done"], event["total"], event["unit"], event.get("speed")
    show: Callable[[float], str] = size if unit == "bytes" else amount
    text = f"{event.get('what', '')}: " if event.get("what") not in (None, event["stage"]) else ""
    if total <= 1:
        return text.rstrip(": ")
    text += (
        f"{show(done)} of {show(total)}" + ("" if unit == "bytes" else f" {unit}") + f" ({100 * done / total:.0f} %)"
    )
    if speed and done < total:
        text += f", {show(speed)}/s, {duration((total - done) / speed)} left"
    return text


def training_line(metric: Event, progress: Event | None = None) -> str:
    """The figures of a logging interval, all of the same step; with ``progress``, the time left and not the rate.

    It fits into 80 columns behind the name of the stage.
    """
    values, progress = metric["values"], progress if progress and "steps" in progress else None
    text = f"step {metric['step']}" + (f" of {progress['steps']}" if progress else "")
    loss, rate, speed = (values.get(name) for name in ("train/loss", "train/lr", "perf/tokens_per_second"))
    text += f", loss {NONE if loss is None else f'{loss:.3f}'}"
    text += "" if rate is None or progress else f", learning rate {rate:.3g}"
    text += "" if speed is None else f", {amount(speed)} tokens/s"
    if progress and progress.get("speed") and progress["total"] > metric["tokens"]:
        text += f", {duration((progress['total'] - metric['tokens']) / progress['speed'])} left"
    return text


def log_line(event: Event) -> str | None:
    """What log.txt says of an event; None for what is only of the moment."""
    kind = event["kind"]
    if kind == "warning":
        return str(event["message"])
    if kind == "state" and event["state"] in ("queued", "paused"):
        return f"{event['state']}: {event.get('reason')}"
    if kind == "checkpoint":
        return f"checkpoint {event['path']}, {size(event.get('bytes'))} in {duration(event.get('seconds'))}"
    if kind == "metric":
        if "train/lr" in event["values"]:
            return training_line(event)
        return f"step {event['step']}: " + ", ".join(" ".join(figure(*item)) for item in event["values"].items())
    if kind == "result" and event["name"] == "stage":
        value = event["value"]
        return f"{value['name']}: " + ("as before" if value["skipped"] else f"done in {duration(value['seconds'])}")
    if kind == "result" and event["name"] in (TRAINING_FROM, "parallelism", "pilot"):
        return f"{event['name']} {event['value']}"
    return None
