"""The pilot: short trainings before the real one, which choose its learning rate and its share of replay.

``rewarm.recipe.pilot`` says which are tried and which is taken. One half of the held-out documents decides here, as in
every choice; the other half is what the report speaks of. A short run leaves its scores in ``pilot/KEY/scores.json``:
a run that is killed does none of them twice. Its metrics stand in ``pilot/KEY/events.jsonl``.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import torch

from rewarm.core.errors import Stopped, UserError
from rewarm.core.events import EventLog
from rewarm.core.manifest import canonical, to_json
from rewarm.core.storage import sha256_bytes, write_file
from rewarm.data.batches import Batches
from rewarm.data.plan import Plan, sizes_of
from rewarm.models.causal import CausalModel
from rewarm.models.ranks import rank, world_size
from rewarm.pipeline.choice import choose, keeps
from rewarm.pipeline.execution import Execution
from rewarm.pipeline.prepare import dataset_of, hyperparameters_of
from rewarm.pipeline.ranks import begin_again, train_on_ranks
from rewarm.pipeline.scores import Scores, device_of, measured_texts, score_text, text_rows, tokenizer_of
from rewarm.pipeline.train import build_job, mixture_settings
from rewarm.recipe.mixture import Mixture, build_mixture, check_passes
from rewarm.recipe.pilot import CLOSE, TOLERANCE, Arm, next_arm, pilot_steps, with_arm
from rewarm.report.compare import headline
from rewarm.train.loop import Job, train

WARM_UP = 0.1
"""Of a short run's updates: the share of a long one would be none of twenty."""


def pilot_facts(x: Execution) -> Any:
    """What the choice depends on, beside base, dataset and evaluation; nothing where there is no pilot."""
    if not x.recipe.has_pilot:
        return None
    return {"mixture": mixture_settings(x.recipe), "hyperparameters": x.facts["prepare"]["hyperparameters"]}


def choose_arm(x: Execution, base: Scores) -> dict[str, Any]:
    """Try arm after arm; what was found, with ``chosen``, the number of the one that is taken.

    A run that cannot be trained through, since its loss did not stay finite, has forgotten too much; unless it is the
    first, whose rate is the recipe's.

    Raises:
        Stopped: if a stop was asked for; finished short runs are kept.
    """
    asked = x.recipe.evaluation.max_forgetting
    most = TOLERANCE if asked is None else asked
    replay, values = x.recipe.data.replay, hyperparameters_of(x)
    arm: Arm | None = Arm(values.learning_rate, replay.share if replay else 0.0)
    tried: list[tuple[Arm, bool]] = []
    runs: list[dict[str, Any]] = []
    while arm is not None:
        number = len(tried) + 1
        try:
            found = _tried(x, arm, number)
        except UserError as error:
            if not runs or error.exit_code != UserError.exit_code:
                raise
            x.warn(f"pilot, run {number}: {error.what}")
            tried.append((arm, False))
        else:
            rows = text_rows(x, base, found["texts"], "development")
            tried.append((arm, keeps(rows, most)))
            facts = {key: found[key] for key in ("steps", "tokens", "seconds")}
            runs.append({**arm._asdict(), **facts, "kept": tried[-1][1], "headline": headline(rows), "rows": rows})
        arm = next_arm(tried, partial(_has_text, x))
    named = {str(number): one["rows"] for number, one in enumerate(runs)}
    chosen = int(choose(named, most, CLOSE))
    best = runs[chosen]
    told = f"learning rate {best['learning_rate']:g}, replay {100 * best['replay_share']:g} %"
    x.log.result("pilot", told)
    if not best["kept"]:
        x.warn(f"pilot: of {len(runs)} short runs none forgot at most {most:g} %; the least: {told}")
    return {"max_forgetting": most, "given": asked is not None, "runs": runs, "chosen": chosen}


def _has_text(x: Execution, arm: Arm) -> bool:
    """Whether the replay would not be gone through until nothing is left to learn from it."""
    if arm.replay_share and x.recipe.data.replay is None:
        return False
    try:
        check_passes(with_arm(x.recipe, arm), sizes_of(dataset_of(x)), hyperparameters_of(x).epochs)
    except UserError:
        return False
    return True


def _tried(x: Execution, arm: Arm, number: int) -> dict[str, Any]:
    """The scores of a short run, from its file or after it has run."""
    folder = x.run.path / "pilot" / _key(x, arm)
    scores, began = folder / "scores.json", time.time()
    if not scores.exists():
        folder.mkdir(parents=True, exist_ok=True)
        if (ranks := x.recipe.infrastructure.world_size) == 1:
            job = replace(pilot_job(x, device_of(x), arm, number), on_hang=partial(begin_again, x))
            outcome = train(job)
        else:
            outcome = train_on_ranks(x, ranks, folder / "checkpoints", (arm, number))
        if not outcome.finished or not (new := scores.with_suffix(".new")).exists():
            raise Stopped(x.stop.reason)
        found = {**orjson.loads(new.read_bytes()), "seconds": round(time.time() - began, 3)}
        write_file(scores, to_json(found))
        new.unlink()
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return dict(orjson.loads(scores.read_bytes()))


def _key(x: Execution, arm: Arm) -> str:
    facts = x.facts["prepare"]
    evaluation = x.recipe.evaluation.model_dump(include={"max_bytes_on_curve", "max_bytes_per_source"})
    told = [list(arm), facts["base"]["fingerprint"], facts["dataset"], evaluation, pilot_facts(x)]
    return sha256_bytes(canonical(told))[:16]


def pilot_job(x: Execution, device: torch.device, arm: Arm, number: int) -> Job:
    """A short run as this process is to train it: the beginning of every source, in the shares of ``arm``."""
    whole, dataset = build_job(x, device), dataset_of(x)
    given, folder = whole.hyperparameters, x.run.path / "pilot" / _key(x, arm)
    warm = given.lr_warmup_steps > 0 or given.lr_warmup_ratio > 0
    values = given.model_copy(
        update={
            "learning_rate": arm.learning_rate,
            "epochs": 1,
            "lr_warmup_steps": 0,
            "lr_warmup_ratio": WARM_UP if warm else 0.0,
            "checkpoint_strategy": "no",
            "eval_strategy": "no",
            "save_best_checkpoint": False,
            "resume_from_checkpoint": "last",
        }
    )

    def steps_of(plan: Plan) -> int:
        return Batches(plan, given.batch_size, given.gradient_accumulation_steps, world_size=world_size()).steps

    mixture = build_mixture(with_arm(x.recipe, arm).data, sizes_of(dataset))
    part = Fraction(whole.plan.total_tokens * pilot_steps(steps_of(whole.plan)), steps_of(whole.plan)) / mixture.total
    shares = {name: part * tokens for name, tokens in mixture.tokens.items()}
    plan = Plan(dataset, Mixture(shares), 1, values.max_sequence_length, values.seed)
    tokenizer, steps = tokenizer_of(x), steps_of(plan)

    def evaluate(model: CausalModel, step: int, tokens: int) -> None:
        names = measured_texts(dataset)
        with contextlib.suppress(Stopped):  # the loop asks for itself, and writes a checkpoint first
            texts = {name: score_text(x, model, dataset, name, tokenizer, on_curve=True) for name in names}
            if rank() == 0:
                write_file(folder / "scores.new", to_json({"texts": texts, "steps": step, "tokens": tokens}))

    return replace(
        whole,
        folder=folder,
        plan=plan,
        hyperparameters=values,
        log=_Log(x.log, folder / "events.jsonl", f"pilot, run {number}"),
        evaluate=evaluate,
        evaluate_at=[steps],
        on_spike="skip" if whole.on_spike == "skip" else "warn",  # a leap of a rate that is only tried ends nothing
        running_average=False,
        compile_layers=False,
    )


class _Log(EventLog):
    """Of a short run: its metrics go to a file of its own, what people must hear to the record of the run."""

    def __init__(self, main: EventLog, path: Path, what: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        super().__init__(path, main.attempt, silent=main.silent)
        self.main, self.what = main, what

    @property
    def last_state(self) -> str | None:
        return self.main.last_state

    @last_state.setter
    def last_state(self, state: str | None) -> None:
        pass

    def state(self, state: str, **fields: Any) -> None:
        self.main.state(state, **fields)

    def progress(self, done: float, total: float, unit: str, **fields: Any) -> None:
        self.main.progress(done, total, unit, what=self.what, speed=fields.get("speed"))

    def warning(self, message: str, **fields: Any) -> None:
        self.main.warning(f"{self.what}: {message}", **fields)
