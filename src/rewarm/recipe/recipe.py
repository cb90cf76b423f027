"""The recipe: one YAML file, one frozen tree. One recipe is one run."""

from __future__ import annotations

import glob
import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from rewarm.core.config import Frozen
from rewarm.core.connections import SCHEMES, check_uri
from rewarm.core.errors import UserError
from rewarm.core.storage import expand_home
from rewarm.recipe.hyperparameters import Hyperparameters
from rewarm.recipe.panels import with_named
from rewarm.recipe.steps import NearDuplicates, Step

Format = Literal["auto", "jsonl", "json", "txt", "csv", "parquet", "pdf"]


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", value):
        raise ValueError("must start with a letter or digit and hold only letters, digits, _ and -, at most 100")
    return value


Name = Annotated[str, AfterValidator(_name)]


class Text(Frozen):
    """Where documents come from: a file, a folder, a glob pattern or a URI, or a list of these."""

    name: Name = Field(description="what it is called in figures and reports: letters, digits, _ and -")
    path: str | list[str] = Field(description="file, folder, glob or URI, or a list; relative to the recipe")
    connection: str | None = Field(None, description="the connection that s3://, hf:// and https:// are read through")
    format: Format = Field("auto", description="how documents lie in the files")
    text_column: str | None = Field(
        None, min_length=1, description="the field that holds the text; detected when unset"
    )
    on_bad_file: Literal["stop", "skip"] = Field("stop", description="what a damaged file does")
    steps: list[Step] | None = Field(None, description="how this text is cleaned; data.steps for sources when unset")

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.path,) if isinstance(self.path, str) else tuple(self.path)

    @field_validator("path")
    @classmethod
    def _some_path(cls, value: str | list[str]) -> str | list[str]:
        if not value or (isinstance(value, list) and not all(value)):
            raise ValueError("must name at least one file, folder or glob")
        for path in [value] if isinstance(value, str) else value:
            check_uri(path)
        return value


class Trained(Text):
    """Text that is trained on."""

    max_epochs: float = Field(4.0, gt=0, description="passes in the whole run beyond which there is a warning")


class Source(Trained):
    """Text to learn. A source of weight w is seen w times an epoch; or so many tokens of it are."""

    weight: float | None = Field(None, ge=0, le=100, description="times that the source is seen in an epoch; 1")
    tokens: int | None = Field(
        None, ge=1, le=10**15, description="tokens of the source in an epoch, in place of the weight"
    )

    @property
    def times(self) -> float:
        """The weight, as given or 1."""
        return 1.0 if self.weight is None else self.weight

    @model_validator(mode="after")
    def _weight_or_tokens(self) -> Source:
        if self.weight is not None and self.tokens is not None:
            raise ValueError(f"source {self.name}: give its weight or its tokens, not both")
        return self


class Generate(Frozen):
    """Replay that the base model writes itself, from nothing (arXiv 2403.01244)."""

    tokens: int = Field(5_000_000, ge=1, le=10**12, description="tokens to write, repeated texts not counted")
    temperature: float = Field(1.0, gt=0, le=10, description="1 is what the model believes")
    top_p: float = Field(1.0, gt=0, le=1, description="draw among the likeliest tokens of this probability; 1: all")
    max_tokens: int = Field(1024, ge=2, le=1_000_000, description="tokens after which a text is broken off")
    seed: int = Field(0, ge=0, description="decides what is drawn")


class Replay(Trained):
    """Text of the old distribution, so that it is not forgotten: a corpus, or what the base model writes."""

    name: Name = "replay"
    path: str | list[str] = Field(default_factory=list, description="file, folder or glob; relative to the recipe")
    share: float = Field(
        0.25, ge=0, lt=1, description="share of all training tokens; left out, 0.05 to 0.25 as the corpus takes"
    )
    generate: Generate | None = Field(None, description="sampled from the base model, in place of path")

    @property
    def paths(self) -> tuple[str, ...]:
        if self.generate is not None:
            raise UserError(
                "data.replay.generate: the base model writes this text when a run begins; there is nothing to read yet",
                remedy="start the run, or leave replay out",
            )
        return super().paths

    @model_validator(mode="after")
    def _path_or_generate(self) -> Replay:
        if bool(self.path) == (self.generate is not None):
            raise ValueError("give path, or generate to let the base model write it; one of them")
        return self


class Panel(Text):
    """Text that is only ever measured, never trained on."""

    records: int | None = Field(None, ge=1, description="records that its files must hold; another number is an error")


class DocumentTokens(Frozen):
    """The control tokens around each document, where the tokenizer's own convention is wrong."""

    bos: str | None = Field(None, description="token before each document; null for none")
    eos: str | None = Field(None, description="token after each document; null for none")


class Anneal(Frozen):
    """The last part of the run, on the best data."""

    share: float = Field(0.1, gt=0, lt=1, description="of the run's tokens: the last ones")
    weights: dict[str, Annotated[float, Field(ge=0, le=1_000_000)]] = Field(
        min_length=1, description="weights of the sources there, relative to one another; 0 for those not named"
    )

    @field_validator("weights")
    @classmethod
    def _some_weight(cls, value: dict[str, float]) -> dict[str, float]:
        if not any(value.values()):
            raise ValueError("at least one weight must be above 0")
        return value


class Data(Frozen):
    sources: list[Source] = Field(min_length=1, description="what to learn")
    replay: Replay | None = Field(
        None, description="what not to forget; left out, the base model writes as much as the corpus takes; null: none"
    )
    temperature: float = Field(1.0, gt=0, le=100, description="evens out sizes: tokens ~ size ** (1/temperature)")
    anneal: Anneal | None = Field(None, description="another mixture over the last part of the run")
    held_out: float = Field(0.001, gt=0, lt=0.5, description="share of documents held out of training")
    steps: list[Step] = Field(default_factory=list, description="how the sources are cleaned, in this order")
    near_duplicates: NearDuplicates | None = Field(None, description="removes near-duplicates; {} for the defaults")
    max_rejected: float = Field(0.01, ge=0, le=1, description="share of bad records that ends the run")
    document_tokens: DocumentTokens | None = Field(None, description="overrides the tokenizer's convention")

    @property
    def trained(self) -> tuple[Trained, ...]:
        """Everything that is trained on."""
        return (*self.sources, self.replay) if self.replay else tuple(self.sources)

    @model_validator(mode="after")
    def _mixture_is_whole(self) -> Data:
        late = self.anneal.weights if self.anneal else {}
        known = [text.name for text in self.trained]
        if unknown := [name for name in late if name not in known]:
            raise ValueError(f"anneal.weights: no source is called {unknown[0]!r}; there are {', '.join(known)}")
        if unseen := [s.name for s in self.sources if s.weight == 0 and not late.get(s.name)]:
            raise ValueError(f"source {unseen[0]}: of weight 0, and anneal.weights does not name it: it would not come")
        if all(s.weight == 0 for s in self.sources):
            raise ValueError("sources: at least one needs a weight above 0")
        return self


def _rate(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _costs(value: str) -> str:
    if not re.fullmatch(r"\d{1,9}(\.\d{1,6})?( [^\d\s]{1,10})?", value):
        raise ValueError('must be an amount with or without a currency, such as 2.50 or "2.50 EUR"')
    return value


class Infrastructure(Frozen):
    devices: Literal["auto", "cpu", "cuda"] | Annotated[int, Field(ge=1, le=4096)] = Field(
        "auto", description="where to train and evaluate; a number: on so many GPUs, or CPU processes without any"
    )
    nodes: int = Field(
        1, ge=1, le=1024, description="computers that share the workspace, each with `devices`; torchrun starts several"
    )
    threads: int | None = Field(None, ge=1, le=4096, description="CPU threads; all cores when unset")
    cost_per_hour: Annotated[str, BeforeValidator(_rate), AfterValidator(_costs)] | None = Field(
        None, description="what an hour of one device costs, such as 2.50 EUR: check then says what the run costs"
    )

    @property
    def world_size(self) -> int:
        """Devices, each with a process of its own, that the training is spread over."""
        return self.nodes * (self.devices if isinstance(self.devices, int) else 1)


class Guard(Frozen):
    """What watches over the training. Updates that are not finite are never made, whatever stands here."""

    on_spike: Literal["warn", "skip", "rewind", "stop"] = Field(
        "warn",
        description="what a leap of the loss does: a warning; its update is skipped; back to a checkpoint; the end",
    )
    hang_minutes: float = Field(
        10.0,
        gt=0,
        le=10_000,
        description="without any computation after which the training begins again at its newest checkpoint",
    )


Average = Literal["average", "running_average"]
Publish = Literal["trained", "best", "chat_vector"] | Average
CHAT_VECTOR = "chat_vector"
_FOLDER = (".", "/", "~")
MERGES = (0.5, 0.6, 0.7, 0.8, 0.9)


def _per_cent(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return float(value.removesuffix("%"))
    except ValueError:
        raise ValueError("must be a number of per cent, such as 1 %") from None


def is_items_file(task: str) -> bool:
    """Whether an entry of ``evaluation.tasks`` is a file of items rather than a task's name."""
    return task.endswith(".jsonl")


class Evaluation(Frozen):
    tasks: list[str] = Field(
        default_factory=list, description="lm-evaluation-harness tasks, or jsonl files of own items"
    )
    general_tasks: list[str] = Field(
        default_factory=list, description="tasks of general ability, where a fall is forgetting; such as general_quick"
    )
    task_path: str | None = Field(None, description="folder of own task YAML files")
    data_path: str | None = Field(None, description="folder with the data of the ViLLM-Eval tasks; the hub when unset")
    add_bos: bool | None = Field(
        None, description="whether the prompts of tasks begin with BOS; as the tokenizer does when unset"
    )
    num_fewshot: int | None = Field(
        None, ge=0, le=10_000, description="examples in the prompt; the task's own when unset"
    )
    limit: int | None = Field(None, ge=1, description="items per task; all when unset")
    batch_size: int = Field(
        1, ge=1, le=1024, description="requests of tasks that are answered together: faster on a GPU"
    )
    panels: Annotated[list[Panel], BeforeValidator(with_named)] = Field(
        default_factory=list, description="texts that are measured, never trained on; or names, such as general_quick"
    )
    max_bytes_per_source: int = Field(1_000_000, ge=1, description="bytes of held-out text scored per source")
    at: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        [0.01, 0.02, 0.05, 0.1, 0.2, 0.5],
        description="shares of the training tokens at which the curve gets a point, dense where a dip is",
    )
    max_bytes_on_curve: int = Field(100_000, ge=1, description="bytes of held-out text scored per source and point")
    candidates: list[Average] = Field(
        default_factory=list, description="other weights that are scored too: of the last checkpoints, of the run"
    )
    merges: list[Annotated[float, Field(gt=0, lt=1)]] | None = Field(
        None, description="shares of the trained weights in merges with the base that are scored too"
    )
    instruct_model: str | None = Field(
        None,
        description="the instruct model made from the base: what it was taught, added, is the candidate chat_vector",
    )
    max_forgetting: Annotated[float, Field(ge=0, le=1000), BeforeValidator(_per_cent)] | None = Field(
        None, description="per cent of forgetting beyond which nothing is published, such as 1 %"
    )
    publish: Publish | None = Field(
        None, description="the weights that are published; trained, or best where max_forgetting is set"
    )

    @property
    def folders(self) -> tuple[Path | None, Path | None]:
        """``task_path`` and ``data_path``."""
        return Path(self.task_path) if self.task_path else None, Path(self.data_path) if self.data_path else None

    @property
    def all_tasks(self) -> list[str]:
        """Everything that is scored by lm-evaluation-harness."""
        return [*self.tasks, *self.general_tasks]

    @property
    def bytes_on_curve(self) -> int:
        """Held-out bytes of a source that a point on the way pays for."""
        return min(self.max_bytes_on_curve, self.max_bytes_per_source)

    @property
    def published(self) -> Publish:
        """The rule that chooses the weights to publish."""
        return self.publish or ("trained" if self.max_forgetting is None else "best")

    @property
    def averages(self) -> tuple[Average, ...]:
        """The averages that are scored; one that is to be published is one of them."""
        named = {*self.candidates, self.publish}
        return tuple(name for name in get_args(Average) if name in named)

    @property
    def merged(self) -> dict[str, float]:
        """The merges that are scored, by their names: the share of the trained weights, the base's is the rest."""
        shares = (MERGES if self.published == "best" else ()) if self.merges is None else self.merges
        return {f"merge-{share:g}": share for share in sorted(set(shares))}

    @model_validator(mode="after")
    def _one_role_each(self) -> Evaluation:
        if both := set(self.tasks) & set(self.general_tasks):
            raise ValueError(f"{min(both)} stands in tasks and in general_tasks: it shows a gain, or forgetting")
        return self

    @model_validator(mode="after")
    def _vector_of_something(self) -> Evaluation:
        if self.publish == CHAT_VECTOR and self.instruct_model is None:
            raise ValueError("publish: chat_vector needs instruct_model, the instruct model made from the base")
        return self

    @model_validator(mode="after")
    def _best_within_a_budget(self) -> Evaluation:
        if self.publish == "best" and self.max_forgetting is None:
            raise ValueError("publish: best needs max_forgetting, the forgetting that it may cost, such as 1 %")
        return self


class Notify(Frozen):
    email: list[str] = Field(default_factory=list, description="who hears what the run came to")
    webhooks: list[str] = Field(default_factory=list, description="webhooks of the Studio that are told")


class Recipe(Frozen):
    name: Name = Field(description="name of the run and of the model it publishes")
    base_model: str = Field(min_length=1, description="hub id, folder, or version of ours such as legal-vi@3")
    data: Data
    trainer: Literal["pretraining"] = Field("pretraining", description="how to train")
    pilot: bool | None = Field(
        None, description="short runs first, which choose learning rate and replay; unset: where max_forgetting is set"
    )
    hyperparameters: Hyperparameters = Field(default_factory=Hyperparameters)
    infrastructure: Infrastructure = Field(default_factory=Infrastructure)
    guard: Guard = Field(default_factory=Guard)
    evaluation: Evaluation = Field(default_factory=Evaluation)
    notify: Notify = Field(default_factory=Notify)
    trackers: list[Literal["tensorboard", "mlflow", "wandb"]] = Field(
        default_factory=list, description="programs that are told the metrics too; events.jsonl stays the truth"
    )

    @field_validator("trainer", mode="before")
    @classmethod
    def _trainer(cls, value: Any) -> Any:
        if isinstance(value, str) and value.lower() in ("sft", "dpo"):
            raise ValueError("not available in this version; pretraining is")
        return "pretraining" if value == "Pre-training" else value

    @model_validator(mode="after")
    def _one_name_each(self) -> Recipe:
        names = [text.name for text in self.texts]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"sources, replay and panels need different names; twice: {', '.join(sorted(twice))}")
        return self

    @model_validator(mode="after")
    def _forgetting_is_measured(self) -> Recipe:
        wanted = "evaluation.max_forgetting" if self.evaluation.max_forgetting is not None else "pilot"
        if (wanted != "pilot" or self.pilot) and not self.evaluation.panels and not self.data.replay:
            raise ValueError(f"{wanted} needs evaluation.panels (or data.replay) to measure forgetting on")
        return self

    @model_validator(mode="after")
    def _pilot_has_one_computer(self) -> Recipe:
        if self.pilot and self.infrastructure.nodes > 1:
            raise ValueError("pilot trains on one computer; choose with infrastructure.nodes: 1, then train on more")
        return self

    @property
    def has_pilot(self) -> bool:
        """Whether short runs choose learning rate and replay, before a training on one computer."""
        if self.pilot is None:
            return self.evaluation.max_forgetting is not None and self.infrastructure.nodes == 1
        return self.pilot

    @property
    def texts(self) -> tuple[Text, ...]:
        """Everything that is read: panels first, so that a text on a panel is never trained on."""
        replay = (self.data.replay,) if self.data.replay else ()
        return (*self.evaluation.panels, *self.data.sources, *replay)

    @property
    def leaves_replay_open(self) -> bool:
        """Whether the run is to choose the replay itself; ``replay: null`` is a choice."""
        return self.data.replay is None and "replay" not in self.data.model_fields_set

    def replaying(self, replay: Replay) -> Recipe:
        """The recipe with this replay in place of its own."""
        return self.model_copy(update={"data": self.data.model_copy(update={"replay": replay})})

    def steps_of(self, text: Text) -> list[Step]:
        """How a text of the recipe is cleaned: panels and replay are taken as they are unless they say otherwise."""
        if text.steps is not None:
            return text.steps
        return self.data.steps if isinstance(text, Source) else []

    def located(self, folder: Path) -> Recipe:
        """The recipe with its relative paths made absolute, as seen from ``folder``."""

        def at(path: str) -> str:
            return str(folder / expand_home(path))

        def pattern(path: str) -> str:
            if path.startswith(SCHEMES):
                return path
            # What looks like a pattern in the name of the recipe's own folder is none.
            if path.startswith(("/", "~")) or not glob.has_magic(path) or Path(at(path)).exists():
                return at(path)
            return str(Path(glob.escape(str(folder))) / path)

        def text(value: Any) -> Any:
            path = pattern(value.path) if isinstance(value.path, str) else [pattern(one) for one in value.path]
            given = {"path": path, "steps": value.steps and steps(value.steps)}
            return value.model_copy(update={name: one for name, one in given.items() if one})  # unset stays unset

        def steps(values: list[Step]) -> list[Step]:
            return [step.located(at) for step in values]

        def tasks(names: list[str]) -> list[str]:
            return [at(name) if is_items_file(name) else name for name in names]

        data, asked = self.data, self.evaluation
        texts: dict[str, Any] = {
            "sources": [text(source) for source in data.sources],
            **({"replay": text(data.replay)} if data.replay else {}),  # unset stays unset
            "steps": steps(data.steps),
        }
        instruct = asked.instruct_model
        evaluation: dict[str, Any] = {
            "panels": [text(panel) for panel in asked.panels],
            "tasks": tasks(asked.tasks),
            "general_tasks": tasks(asked.general_tasks),
            "task_path": asked.task_path and at(asked.task_path),
            "data_path": asked.data_path and at(asked.data_path),
            "instruct_model": at(instruct) if instruct and instruct.startswith(_FOLDER) else instruct,
        }
        is_folder = self.base_model.startswith(_FOLDER)
        return self.model_copy(
            update={
                "base_model": at(self.base_model) if is_folder else self.base_model,
                "data": data.model_copy(update=texts),
                "evaluation": asked.model_copy(update=evaluation),
            }
        )
