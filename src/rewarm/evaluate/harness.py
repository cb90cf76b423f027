"""Benchmark tasks through lm-evaluation-harness: the same figures as its own command gives.

Settings are those of ``lm_eval run --model hf --model_args pretrained=FOLDER`` (batch size 1 unless asked for, its
seeds, the weights' own precision), so a figure here can be repeated without Rewarm. A folder of
own task files may carry Python (``!function``): that is the user's code and runs as such. Code
that comes with a model or a data set is never run. A path in ``data_files`` of a task is seen, as
the harness sees it, from the folder in which the process runs.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rewarm.core.config import nearest
from rewarm.core.errors import DataError, ModelError, UserError
from rewarm.core.manifest import canonical
from rewarm.core.storage import sha256_bytes, sha256_file
from rewarm.evaluate.own_items import read_items, task_of
from rewarm.evaluate.passages import passages
from rewarm.evaluate.store import Answers, Warn, key_of, read_scores, write_scores
from rewarm.recipe.recipe import is_items_file

if TYPE_CHECKING:
    import torch

Item = dict[str, Any]
Progress = Callable[[str, float, float, str], None]

logger = logging.getLogger(__name__)
SHIPPED = Path(__file__).parent / "tasks"
"""Task files that come with Rewarm."""
SAMPLED = 100
"""Items of a task from which the work of all of them is estimated."""
_LIKELIHOODS = ("perplexity", "weighted_perplexity", "bits_per_byte")


@dataclass(frozen=True)
class Metric:
    """One figure of a task, as the harness reports it."""

    value: float
    aggregation: str
    """How items become the value: mean, perplexity, weighted_perplexity, bits_per_byte, or another (no interval)."""
    higher_is_better: bool


@dataclass(frozen=True)
class TaskResult:
    """One task's scores. An item is ``{id, hash, METRIC: value}``.

    The value is a number where the aggregation is a mean, and [log-likelihood, weight] where it is
    a perplexity or bits per byte.
    """

    task: str
    version: str
    metrics: dict[str, Metric]
    items: list[Item]
    asked: str = ""
    """The name under which it was asked for: its own, or a group's, a pattern, a file."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TaskResult:
        metrics = {name: Metric(**metric) for name, metric in value["metrics"].items()}
        return cls(value["task"], value["version"], metrics, list(value["items"]), value.get("asked", ""))


def run_tasks(
    model_folder: Path,
    tasks: Sequence[str],
    *,
    task_path: Path | None = None,
    data_path: Path | None = None,
    add_bos: bool | None = None,
    num_fewshot: int | None = None,
    limit: int | None = None,
    batch_size: int = 1,
    device: torch.device | str = "cpu",
    progress: Progress = lambda what, done, total, unit: None,
    evaluations: Path | None = None,
    model_key: str | None = None,
    warn: Warn = logger.warning,
) -> dict[str, TaskResult]:
    """Score the model in ``model_folder`` on ``tasks``: tasks, groups, tags, patterns of names, files of items.

    A group counts as its tasks; where it weighs them by size, their items together are a result of its own name.
    With ``evaluations`` and ``model_key`` (the model's fingerprint), scores are kept there and a model is scored once.

    Args:
        data_path: a folder with the data of the shipped tasks, in place of the hub.
        add_bos: whether a prompt begins with the tokenizer's BOS; unset, as the tokenizer does.

    Raises:
        UserError: for an unknown task, with the nearest name.
        DataError: if a task or its data cannot be loaded.
        ModelError: if the model gives a likelihood that is not a number.
    """
    results: dict[str, TaskResult] = {}
    settings = {"num_fewshot": num_fewshot, "limit": limit}
    runner = _Runner(task_path, data_path, model_folder, add_bos, settings, str(device), progress, warn, batch_size)
    for name in dict.fromkeys(tasks):
        facts = {
            "model": model_key,
            "task": name,
            "kept": 2,  # the version of what is kept of each item
            "harness": _harness_version(),
            "computed_by": [str(device), version("torch")],
            "task_files": hash_folder(task_path),
            **settings,
            **({} if batch_size == 1 else {"batch_size": batch_size}),
            **({} if add_bos is None else {"add_bos": add_bos}),
            **({"items": sha256_file(Path(name))} if is_items_file(name) else {}),
            **({"shipped": hash_folder(SHIPPED), "data": hash_folder(data_path)} if runner.is_shipped(name) else {}),
        }
        found = read_scores(evaluations, facts, warn) if evaluations and model_key else None
        if found:
            scored = [TaskResult.from_json({**task, "items": []}) for task in found.results["tasks"]]
            for result in scored:
                result.items.extend(item["item"] for item in found.items if item["task"] == result.task)
        else:
            answers = Answers(
                evaluations / ".unfinished" / f"{key_of(facts)}.jsonl" if evaluations and model_key else None
            )
            scored = runner.score(name, answers)
            if evaluations and model_key:
                items = [{"task": result.task, "item": item} for result in scored for item in result.items]
                about = [{**result.to_json(), "items": None} for result in scored]
                write_scores(evaluations, facts, items, {"tasks": about})
                answers.forget()
        results.update({result.task: replace(result, asked=name) for result in scored})
    return results


def check_tasks(tasks: Sequence[str], task_path: Path | None, data_path: Path | None = None) -> None:
    """Look every task up by its name, before anything is scored or loaded.

    Raises:
        UserError: if the folder of own tasks is not there, or for an unknown task, with the nearest name.
    """
    if task_path and not task_path.is_dir():
        raise UserError("evaluation.task_path: there is no such folder", where=task_path)
    if data_path and not data_path.is_dir():
        raise UserError("evaluation.data_path: there is no such folder", where=data_path)
    runner = _Runner(task_path, data_path)
    with _quiet():
        for name in tasks:
            if is_items_file(name):
                read_items(Path(name))
            elif not runner.is_own(name):
                runner.find(name)
    files = [Path(name).stem for name in tasks if is_items_file(name)]
    if twice := {name for name in files if files.count(name) > 1 or name in tasks}:
        raise UserError(f"evaluation.tasks: two tasks would be called {min(twice)!r}")


def task_texts(
    tasks: Sequence[str],
    task_path: Path | None,
    data_path: Path | None,
    progress: Progress = lambda what, done, total, unit: None,
) -> Iterator[dict[str, str]]:
    """The items of ``tasks`` as text, ``{task, id, text}``: what must not stand in a training corpus.

    Raises:
        UserError: for an unknown task. DataError: if a task or its data cannot be loaded.
    """
    runner = _Runner(task_path, data_path)
    for name in dict.fromkeys(tasks):
        progress(f"read task {name}", 0, 0, "")
        with _quiet():
            _, found, _ = runner._load(name)
        for own, task in found.items():
            for number, document in enumerate(task.eval_docs):
                yield {"task": own, "id": str(number), "text": _text_of(task, document)}


def sample_requests(
    model_folder: Path,
    tasks: Sequence[str],
    task_path: Path | None,
    data_path: Path | None,
    *,
    num_fewshot: int | None = None,
    limit: int | None = None,
) -> dict[str, tuple[int, list[str]]]:
    """For each task, how many times the model is asked and what it reads in some of these requests.

    Raises:
        UserError: for an unknown task. DataError: if a task or its data cannot be loaded.
    """
    runner = _Runner(task_path, data_path, model_folder)
    found: dict[str, tuple[int, list[str]]] = {}
    for name in dict.fromkeys(tasks):
        with _quiet():
            _, loaded, _ = runner._load(name)
            for own, task in loaded.items():
                task.set_fewshot_seed(1234)
                if num_fewshot is not None:
                    task.set_config("num_fewshot", num_fewshot)
                items = min(len(task.eval_docs), limit or len(task.eval_docs))
                task.build_all_requests(limit=min(items, SAMPLED), rank=0, world_size=1)
                texts = ["".join(part for part in one.args if isinstance(part, str)) for one in task.instances]
                found[own] = round(len(texts) * items / max(1, min(items, SAMPLED))), texts
    return found


def _text_of(task: Any, document: Any) -> str:
    """What the task itself compares for contamination, else question and answer."""
    if task.should_decontaminate():
        return str(task.doc_to_decontamination_query(document))
    answer = task.doc_to_target(document)
    return f"{task.doc_to_text(document)} {answer if isinstance(answer, str) else ''}"


@dataclass
class _Runner:
    """Loads the harness and the model when the first task needs them, and not before."""

    task_path: Path | None = None
    data_path: Path | None = None
    folder: Path = Path()
    add_bos: bool | None = None
    settings: Mapping[str, int | None] = field(default_factory=dict)
    device: str = "cpu"
    progress: Progress = lambda what, done, total, unit: None
    warn: Warn = logger.warning
    batch_size: int = 1
    _model: Any = None
    _managers: dict[bool, Any] = field(default_factory=dict)

    @property
    def _arguments(self) -> dict[str, Any]:
        bos = {} if self.add_bos is None else {"add_bos_token": self.add_bos}
        return {"pretrained": str(self.folder), **bos}

    def score(self, name: str, answers: Answers) -> list[TaskResult]:
        """All tasks that ``name`` stands for; what is among the ``answers`` is not asked again."""
        from lm_eval import evaluator

        # It would ask git for a version; where there is no repository git complains on the user's terminal.
        evaluator.get_git_commit_hash = lambda: None
        what = f"task {name}"
        self.progress(what, 0, 0, "requests")
        with _quiet():
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                manager, tasks, groups = self._load(name)
            for said in dict.fromkeys(str(one.message) for one in caught if SHIPPED in Path(one.filename).parents):
                self.warn(said)
            for own, task in tasks.items():
                _check_options(own, task, self.settings.get("limit"))
            self._model = self._model or _watched_model(self._arguments, self.device, self.batch_size)
            self._model.watch(lambda done, total: self.progress(what, done, total, "requests"), answers)
            output = evaluator.simple_evaluate(
                model=self._model,
                tasks=list(tasks.values()),
                task_manager=manager,
                batch_size=self.batch_size,
                bootstrap_iters=0,  # its standard errors; ours are paired
                log_samples=True,
                **self.settings,
            )
        self.progress(what, self._model.total, self._model.total, "requests")
        if output is None:
            raise RuntimeError("the harness returned nothing")
        results = {name: _result(task, name, output) for name, task in tasks.items()}
        return [*results.values(), *(_pooled(group, results) for group in groups.values() if _is_pooled(group))]

    def _load(self, name: str) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """A task manager, and its tasks and groups that ``name`` stands for, by their names."""
        own = self._manager(defaults=False)
        if is_items_file(name):
            return own, *_loaded(own, [task_of(Path(name))])
        if self.is_own(name):
            with contextlib.suppress(LookupError, TypeError, ValueError):  # one that builds on the harness's tasks
                return own, *_loaded(own, [name])
        names = self.find(name)
        try:
            return self._manager(defaults=True), *_loaded(self._manager(defaults=True), names)
        except (LookupError, TypeError, ValueError) as error:
            raise _unloadable(name, error) from error

    def is_own(self, name: str) -> bool:
        """Whether a task of ours or of the user's is called so; to index the harness's thousands takes ten seconds."""
        return name in self._manager(defaults=False).all_tasks

    def is_shipped(self, name: str) -> bool:
        """Whether it is a task that comes with Rewarm."""
        return self.is_own(name) and any(SHIPPED.rglob(f"{name}.yaml"))

    def find(self, name: str) -> list[str]:
        """The tasks that ``name`` stands for."""
        manager = self._manager(defaults=True)
        names: list[str] = [name] if name in manager.all_tasks else manager.match_tasks([name])
        if not names:
            guess = nearest(name, manager.all_tasks)
            raise UserError(
                f"evaluation.tasks: no task is called {name!r}" + (f"; did you mean {guess!r}?" if guess else ""),
                remedy="see the names with: lm_eval ls tasks; own task files need evaluation.task_path",
            )
        return names

    def _manager(self, defaults: bool) -> Any:
        from lm_eval.tasks import TaskManager

        if defaults not in self._managers:
            self._managers[defaults] = TaskManager(
                include_path=[str(SHIPPED), *([str(self.task_path)] if self.task_path else [])],
                include_defaults=defaults,
                metadata={**self._arguments, **({"data_path": str(self.data_path)} if self.data_path else {})},
            )
        return self._managers[defaults]


def _loaded(manager: Any, names: list[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The harness's tasks and groups of these names, their data read."""
    try:
        found = manager.load(names)
    except (LookupError, TypeError, ValueError, UserError):
        raise
    except Exception as error:  # whatever a task's own code, or the download of its data, raises
        raise _unloadable(", ".join(map(str, names)), error) from error
    return found["tasks"], found["groups"]


def _check_options(name: str, task: Any, limit: int | None) -> None:
    """Raise ``DataError`` for an item that asks for a choice among nothing, before the model is asked anything."""
    if task.OUTPUT_TYPE != "multiple_choice" or "doc_to_choice" not in task.config.to_dict():
        return
    for number, document in enumerate(itertools.islice(task.eval_docs, limit)):
        if not task.doc_to_choice(document):
            raise DataError(
                f"item {number} has no options to choose from",
                where=f"evaluation.tasks: {name}",
                remedy="leave it out of the task's data, or give it options",
            )


def _unloadable(name: str, error: Exception) -> DataError:
    """Where it is a data set of the hub that cannot be reached, with how to bring it here."""
    away = re.search(r"'([\w.-]+/[\w.-]+)' on the Hub", str(error))
    remedy = "check the task's file, and that its data is on this machine or the network can be reached"
    if away:
        remedy = (
            f"where there is a network, run: python -c 'import datasets; datasets.load_dataset(\"{away[1]}\")' "
            "(with the name of its part where it asks for one), and copy ~/.cache/huggingface from there to the same "
            "place here, or to where HF_HOME points"
        )
    return DataError(f"evaluation.tasks: {name} cannot be loaded: {type(error).__name__}: {error}", remedy=remedy)


def _result(task: Any, name: str, output: Any) -> TaskResult:
    """The harness's output for one task in our terms."""
    aggregations, better = task.aggregation(), task.higher_is_better()
    named = _names_of_aggregations()
    metrics: dict[str, Metric] = {}
    items: dict[int, Item] = {}
    documents: dict[int, Any] = {}
    for sample in output["samples"][name]:
        item = items.setdefault(sample["doc_id"], {"id": str(sample["doc_id"]), "hash": sample["doc_hash"]})
        documents[sample["doc_id"]] = sample["doc"] if isinstance(sample["doc"], dict) else {}
        for metric in sample["metrics"]:
            shown = metric if sample["filter"] == "none" else f"{metric},{sample['filter']}"
            aggregation = named.get(aggregations[metric], "other")
            value = output["results"][name].get(f"{metric},{sample['filter']}")
            if not isinstance(value, (int, float)):
                continue
            metrics[shown] = Metric(float(value), aggregation, bool(better.get(metric, True)))
            item[shown] = _item_value(sample[metric], aggregation)
    prompts = [str(task.doc_to_text(document)) for document in documents.values()]
    for item, mark in zip(items.values(), passages(list(documents.values()), prompts), strict=True):
        item |= {} if mark is None else {"passage": mark}
    return TaskResult(name, str(output["versions"].get(name, "")), metrics, list(items.values()))


def _is_pooled(group: Any) -> bool:
    """Whether the group's own figure is the mean over all items of its tasks."""
    asked = group.aggregate_metric_list or []
    return bool(asked) and all(one.aggregation == "mean" and one.weight_by_size for one in asked)


def _pooled(group: Any, results: Mapping[str, TaskResult]) -> TaskResult:
    """A group's result: the items of its tasks, each under the name of its task."""
    parts = [results[task.task_name] for task in group.get_all_tasks()]
    items = [{**item, "id": f"{part.task}:{item['id']}"} for part in parts for item in part.items]
    metrics = {}
    for one in group.aggregate_metric_list:
        if all(one.metric in part.metrics for part in parts):
            value = sum(part.metrics[one.metric].value * len(part.items) for part in parts) / len(items)
            metrics[one.metric] = replace(parts[0].metrics[one.metric], value=value)
    return TaskResult(group.name, parts[0].version, metrics, items)


def _item_value(value: Any, aggregation: str) -> Any:
    if aggregation == "mean":
        return float(value)
    if aggregation in _LIKELIHOODS:
        return [float(part) for part in value] if isinstance(value, (tuple, list)) else [float(value), 1.0]
    return None  # no interval is computed from it


def _names_of_aggregations() -> dict[Any, str]:
    from lm_eval.api.registry import get_aggregation

    return {get_aggregation(name): name for name in ("mean", *_LIKELIHOODS)}


def _watched_model(arguments: dict[str, str], device: str, batch_size: int) -> Any:
    """The harness's Hugging Face model, that also tells how far it is."""
    from lm_eval.models.huggingface import HFLM

    class Watched(HFLM):  # type: ignore[misc]
        def watch(self, report: Callable[[float, float], None], answers: Answers) -> None:
            self.report, self.done, self.total = report, 0, 0
            self.cache_hook = answers  # is told every answer

        def _known(self, kind: str, requests: Sequence[Any], ask: Callable[[list[Any]], list[Any]]) -> list[Any]:
            """Answers to requests, each with what names it; only what is not known is asked."""
            found = [self.cache_hook.get(kind, name) for name, _ in requests]
            missing = [request for (_, request), answer in zip(requests, found, strict=True) if answer is None]
            self.total += len(requests)
            self.done += len(requests) - len(missing)
            new = iter(ask(missing) if missing else ())
            return [next(new) if answer is None else answer for answer in found]

        def _loglikelihood_tokens(self, requests: Any, disable_tqdm: bool = True, **options: Any) -> Any:
            ask = partial(super()._loglikelihood_tokens, disable_tqdm=True, **options)
            found = self._known("loglikelihood", [(request[0], request) for request in requests], ask)
            if any(math.isnan(likelihood) for likelihood, _ in found):
                raise ModelError(
                    "the model gives a likelihood that is not a number",
                    where=arguments["pretrained"],
                    remedy="the weights are broken: take an earlier checkpoint, or a lower learning rate",
                )
            return found

        def generate_until(self, requests: Any, disable_tqdm: bool = True) -> Any:
            ask = partial(super().generate_until, disable_tqdm=True)
            return self._known("generate_until", [(request.args, request) for request in requests], ask)

        def _model_call(self, inps: Any, *rest: Any, **options: Any) -> Any:
            self._count(len(inps))
            return super()._model_call(inps, *rest, **options)

        def _model_generate(self, context: Any, *rest: Any, **options: Any) -> Any:
            self._count(len(context))
            return super()._model_generate(context, *rest, **options)

        def _count(self, n: int) -> None:
            self.report(self.done, self.total)
            self.done += n

    return Watched(**arguments, device=device, batch_size=batch_size)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the harness's own bars and notes: progress goes through our callback."""
    loggers = [logging.getLogger(name) for name in ("lm_eval", "datasets")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _harness_version() -> str:
    return version("lm_eval")


def hash_tasks(tasks: Sequence[str], task_path: Path | None, data_path: Path | None) -> str:
    """One hash of what the user's own tasks are made of: files of items, task files, and data."""
    files = {name: sha256_file(Path(name)) for name in tasks if is_items_file(name)}
    return sha256_bytes(canonical([sorted(files.items()), hash_folder(task_path), hash_folder(data_path)]))


def hash_folder(folder: Path | None) -> str | None:
    """One hash of all files of the task folder: an edited task is another task."""
    if folder is None:
        return None
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    return sha256_bytes(canonical({str(path.relative_to(folder)): sha256_file(path) for path in files}))
