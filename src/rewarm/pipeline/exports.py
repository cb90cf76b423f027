"""Any checkpoint of a run as a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path

import orjson

from rewarm.core.errors import UserError
from rewarm.core.run import Run
from rewarm.core.storage import staged_folder
from rewarm.models.export import export_checkpoint
from rewarm.recipe.hyperparameters import Hyperparameters
from rewarm.train.checkpoint import list_checkpoints


def export_run(run: Run, target: Path, checkpoint: str) -> Path:
    """Write the checkpoint (``step-N`` or ``last``) of ``run`` into the new folder ``target``.

    Raises:
        UserError: if there is no such checkpoint, or ``target`` exists.
    """
    prepared = run.stage_record("prepare")
    names = [path.name for path in list_checkpoints(run.checkpoints)]
    name = (names[-1] if names else "") if checkpoint == "last" else checkpoint
    if not prepared.is_file() or name not in names:
        known = ", ".join(names) or "none yet"
        raise UserError(f"there is no checkpoint {checkpoint!r}", where=run.id, remedy=f"it has: {known}")
    if target.exists():
        raise UserError("exists already", where=target, remedy="name a folder that does not exist")
    facts = orjson.loads(prepared.read_bytes())["facts"]
    values = Hyperparameters.model_validate(facts["hyperparameters"])
    with staged_folder(target.resolve()) as folder:
        export_checkpoint(
            run.checkpoints / name, Path(facts["base"]["folder"]), folder, values, base_name=facts["base"]["reference"]
        )
    return target
