"""What the combination of fields means: refused, ignored because, or worth an advice.

One table for the CLI, the API and the browser. A verdict depends on the recipe alone, never on the
machine, so that the same recipe gets the same notes everywhere.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rewarm.core.errors import Invalid, UserError
from rewarm.recipe.hyperparameters import Hyperparameters
from rewarm.recipe.recipe import Recipe


@dataclass(frozen=True)
class Ignored:
    """A field that was given and has no effect in this run."""

    field: str
    because: str

    def __str__(self) -> str:
        return f"{self.field}: ignored because {self.because}"


_LORA = (
    *("additional_target", "lora_alpha", "lora_dropout", "lora_rank"),
    *("target_modules", "merge_adapter", "use_rslora"),
)
_PREFERENCE = ("dpo_label_smoothing", "pref_beta", "pref_ftx", "pref_loss", "simpo_gamma")

_PACKED = "packed documents always go through the fastest attention that torch has for them"
_RULES: tuple[tuple[tuple[str, ...], str, Callable[[Hyperparameters], bool]], ...] = (
    (("checkpoint_steps",), "checkpoint_strategy", lambda h: h.checkpoint_strategy != "steps"),
    (("number_of_checkpoints",), "checkpoint_strategy", lambda h: h.checkpoint_strategy == "no"),
    (("eval_steps",), "eval_strategy", lambda h: h.eval_strategy != "steps"),
    (("zero_stage",), "distributed_backend", lambda h: h.distributed_backend == "ddp"),
    (_LORA, "finetuning_type", lambda h: h.finetuning_type == "full"),
    (_PREFERENCE, "the trainer is Pre-training", lambda h: True),
    (("flash_attention_v2",), _PACKED, lambda h: h.flash_attention_v2),
    (("lr_warmup_ratio",), "lr_warmup_steps wins", lambda h: h.lr_warmup_steps > 0 and h.lr_warmup_ratio > 0),
)
"""Fields, why they have no effect (the field whose value is the reason, or words), and whether that is so."""
_ALONE = "the training runs on one device, where there is nothing to share out (infrastructure.devices)"


def ignored(given: frozenset[str] | set[str], values: Hyperparameters, devices: int = 1) -> list[Ignored]:
    """The fields in ``given`` that do nothing when the run's hyperparameters are ``values``, on so many devices."""
    found: dict[str, Ignored] = {}
    for fields, why, applies in _RULES:
        if applies(values):
            because = f'{why} is "{getattr(values, why)}"' if why in Hyperparameters.model_fields else why
            found |= {field: Ignored(f"hyperparameters.{field}", because) for field in fields if field in given}
    if devices == 1 and values.distributed_backend == "deepspeed":
        for field in given & {"distributed_backend", "zero_stage"}:
            found[field] = Ignored(f"hyperparameters.{field}", _ALONE)
    return [found[field] for field in Hyperparameters.model_fields if field in found]


def refuse(recipe: Recipe) -> None:
    """Raise ``Invalid`` for a combination of fields that cannot be meant or cannot be run."""
    given, problems = recipe.hyperparameters, []
    if given.quantization_bit != "none":
        if given.finetuning_type == "full":
            problems.append("quantization_bit: quantised bases train adapters only; set finetuning_type: lora")
        elif given.distributed_backend == "deepspeed" and recipe.infrastructure.world_size > 1:
            problems.append("quantization_bit: quantised weights cannot be shared out; set distributed_backend: ddp")
    if given.weight_decay * given.learning_rate >= 1:
        problems.append("weight_decay: times the learning_rate it must be below 1, or an update takes weights beyond 0")
    if given.dpo_label_smoothing > 0 and given.pref_loss != "sigmoid":
        problems.append('dpo_label_smoothing: above 0 it needs pref_loss "sigmoid"')
    if given.save_best_checkpoint and (given.eval_strategy == "no" or given.eval_strategy != given.checkpoint_strategy):
        problems.append(
            "save_best_checkpoint: needs eval_strategy and checkpoint_strategy to be the same, epoch or steps; "
            f'they are "{given.eval_strategy}" and "{given.checkpoint_strategy}"'
        )
    if problems:
        raise Invalid([(("hyperparameters", p.partition(":")[0]), f"hyperparameters.{p}") for p in problems])


def advice(recipe: Recipe, values: Hyperparameters) -> list[str]:
    """What an experienced colleague would say about the recipe. Nothing here stops a run."""
    notes = []
    if values.checkpoint_strategy == "epoch" and values.number_of_checkpoints == 1 and values.epochs > 1:
        notes.append(
            "checkpoints are written once an epoch: a crash loses up to a whole epoch; checkpoint_strategy: steps "
            "loses minutes"
        )
    warm_up = values.lr_warmup_steps > 0 or values.lr_warmup_ratio > 0
    if not warm_up and values.finetuning_type == "full":
        notes.append("no warm-up: the loss jumps in the first steps; lr_warmup_ratio: 0.01 avoids it")
    if recipe.data.replay is None:
        notes.append(
            "no replay: expect forgetting of everything that is not in the new text; data.replay with share 0.25 for "
            "a new language, 0.15 for a new domain"
        )
    elif recipe.data.replay.generate is not None:
        notes.append(
            f"replay: the base model first writes {recipe.data.replay.generate.tokens:,} tokens, once for this base "
            "and these settings"
        )
    if recipe.evaluation.max_forgetting is not None and recipe.pilot is None and not recipe.has_pilot:
        notes.append(
            "no pilot, which trains on one computer: nothing looks for the rate and the replay that max_forgetting "
            "takes; a run with infrastructure.nodes: 1 does"
        )
    if not recipe.evaluation.panels:
        notes.append(
            "no panel of text that is neither learned nor replayed (evaluation.panels): forgetting is measured "
            "on the replayed kind only"
        )
    if "average" in recipe.evaluation.averages and (
        values.number_of_checkpoints < 2 or values.checkpoint_strategy == "no"
    ):
        notes.append(
            "the average of the last checkpoints is wanted, but only one is kept: set number_of_checkpoints to 3 or "
            "more and checkpoint_strategy to steps"
        )
    if recipe.notify.email or recipe.notify.webhooks:
        notes.append("notify: the Studio tells them, if one runs on this workspace")
    return notes


def replay_advice(recipe: Recipe) -> list[str]:
    """What there is to say before a run where it is to choose the replay, or its share, itself."""
    replay = recipe.data.replay
    if not recipe.leaves_replay_open and (replay is None or "share" in replay.model_fields_set):
        return []
    what = "data.replay.share is left out" if replay else "data.replay is left out: the base writes it (null: none)"
    shares = "5 % of the tokens for an update, 15 % for a domain, 25 % for a language"
    return [f"{what}; its share is measured when the run begins, {shares}; the figures here are those of 25 %"]


def best_advice(values: Hyperparameters, steps: int) -> list[str]:
    """What there is to say where no checkpoint before the last is evaluated, so that there is no best to choose."""
    if not values.save_best_checkpoint or values.eval_strategy != "steps":
        return []
    every = math.ceil(steps * values.eval_steps) if values.eval_steps < 1 else int(values.eval_steps)
    meet = math.lcm(max(1, every), values.checkpoint_steps)
    if meet < steps:
        return []
    return [
        f"save_best_checkpoint has nothing to choose from: evaluations come every {every:,} steps, checkpoints every "
        f"{values.checkpoint_steps:,}, and they do not meet before the last of {steps:,}; set both to the same"
    ]


_CHAT_MARKER = re.compile(r"im_end|eot_id|eom_id|end_of_turn|<\|end\|>|<\|eot\|>|<\|return\|>|turn\|>")
_TEXT_ENDS = ("<|endoftext|>", "<|end_of_text|>", "<eos>", "</s>", "<|eos|>")


class Tokenizer(Protocol):
    """The tokenizer of a recipe, as far as it matters here."""

    @property
    def eos_id(self) -> int | None: ...
    @property
    def added_tokens(self) -> list[str]: ...
    def decode(self, ids: Sequence[int], /) -> str: ...


def chats(base: Path) -> bool:
    """Whether the model in the folder was taught to chat: its tokenizer has a template for it."""
    config = base / "tokenizer_config.json"
    return any(base.glob("chat_template.*")) or (config.is_file() and b'"chat_template"' in config.read_bytes())


def check_chat(recipe: Recipe, base: Path) -> None:
    """Raise ``UserError`` where a base without a template is to be probed for chatting."""
    if "chat" in recipe.evaluation.all_tasks and not chats(base):
        raise UserError(
            "the task chat probes instruct models, and this base has no chat template",
            where="evaluation",
            remedy="leave chat out; in_context probes a base model",
        )


def chat_advice(recipe: Recipe, base: Path) -> list[str]:
    """What to say where the base was taught to chat: text without chats makes it forget that."""
    if not chats(base):
        return []
    probed = "chat" in recipe.evaluation.all_tasks
    remedy = "" if probed else "; evaluation.general_tasks: [chat] measures it"
    return [
        "this base has a chat template, so it was taught to follow instructions, and plain text makes it forget that: "
        f"better take the base that it was made from{remedy}"
    ]


def document_end_advice(recipe: Recipe, tokenizer: Tokenizer) -> list[str]:
    """What to say where the tokenizer's own end of a document is a marker of chats."""
    given = recipe.data.document_tokens is not None and "eos" in recipe.data.document_tokens.model_fields_set
    if given or tokenizer.eos_id is None:
        return []
    eos = tokenizer.decode([tokenizer.eos_id] * 2)  # it leaves out the last one
    if not _CHAT_MARKER.search(eos):
        return []
    plain = next((name for name in _TEXT_ENDS if name in tokenizer.added_tokens), None)
    remedy = f'eos: "{plain}"' if plain else "eos: null, or the name of a token that ends texts"
    return [
        f"documents would end with {eos}, which this tokenizer ends the turns of a chat with, and the model would "
        f"learn to confuse them; set data.document_tokens: {{{remedy}}}"
    ]
