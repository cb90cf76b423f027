"""Models from the Hugging Face hub: safetensors, tokenizer, configuration and licence, each failure with its remedy."""

from __future__ import annotations

import contextlib
import errno
import io
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    SafetensorsParsingError,
)
from tqdm import tqdm

from rewarm.core.errors import ModelError, ResourceError, Unreachable, UserError
from rewarm.core.storage import require_space

Progress = Callable[[str, float, float, str], None]

WANTED = ["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja", "README.md", "LICENSE*", "NOTICE*", "USE_POLICY*"]
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_UNREACHABLE = (OfflineModeIsEnabled, LocalEntryNotFoundError, HTTPError, OSError)
# The same weights in other formats, and the list of a version of ours, with files that are not wanted here.
UNWANTED = ["*/*", "consolidated*", "manifest.json"]


def download(model: str, progress: Progress, *, weights: bool = True, token: str | None = None) -> Path:
    """The folder of a hub id (``organisation/name``) in the hub's own cache; only what is missing is fetched.

    Args:
        weights: fetch them too; else what says what they are, and the tokenizer.
        token: of an account that may read the model; that of ``hf auth login`` or HF_TOKEN when unset.

    Raises:
        ModelError: the model is unknown, gated, without safetensors weights, or not here and HF_HUB_OFFLINE is set.
        Unreachable: the hub does not answer, or not for now; files that have come whole are kept.
        ResourceError: the disk has too little room for it.
    """
    unwanted = UNWANTED if weights else [*UNWANTED, "*.safetensors"]
    with _explained(model):
        size = _missing_bytes(model, unwanted, token)
        progress("download", 0, size, "bytes")
        return Path(
            snapshot_download(
                model,
                allow_patterns=WANTED,
                ignore_patterns=unwanted,
                tqdm_class=_reporter(size, progress),
                token=token,
            )
        )


def read_headers(
    model: str, revision: str, shards: list[str], progress: Progress, token: str | None = None
) -> dict[str, dict[str, Any]]:
    """The headers of a hub id's weights, by file, as safetensors writes them, without the weights.

    Raises:
        ModelError: as ``download``, or a header is damaged.
    """
    headers = {}
    with _explained(model):
        for number, shard in enumerate(shards):
            progress("read about the weights", number, len(shards), "files")
            found = HfApi(token=token).parse_safetensors_file_metadata(model, shard, revision=revision)
            headers[shard] = {name: vars(tensor) for name, tensor in found.tensors.items()}
    return headers


@contextlib.contextmanager
def _explained(model: str) -> Iterator[None]:
    """The hub client's errors as ours, each with its remedy."""
    try:
        yield
    except SafetensorsParsingError as error:
        raise ModelError(f"its weights are damaged: {error}", where=model, remedy="use another model") from error
    except GatedRepoError as error:
        raise ModelError(
            "this model is gated: its owner asks for an accepted licence, and for a token to prove it",
            where=model,
            remedy=f"accept the licence at {constants.ENDPOINT}/{model}, then `rewarm connections add hf` or "
            "`hf auth login` (or set HF_TOKEN); a token that is in use already belongs to an account without access",
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            "the hub has no such model, or it is private",
            where=model,
            remedy=f"compare the spelling with {constants.ENDPOINT}/models?search={model.rpartition('/')[2]}; "
            "for a private model log in with `hf auth login`; a local folder starts with ./ or /",
        ) from error
    except HFValidationError as error:
        raise ModelError(
            f"not a hub id: {error}", where=model, remedy="write organisation/name, ./folder or name@version"
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise ResourceError(
                f"the hub's cache cannot be written: {error.strerror}",
                where=error.filename or constants.HF_HUB_CACHE,
                remedy="free some space there, or set HF_HOME to a folder that you may write to",
            ) from error
        raise _unreachable(model, error) from error
    except _UNREACHABLE as error:
        raise _unreachable(model, error) from error


def _missing_bytes(model: str, unwanted: list[str], token: str | None) -> int:
    """Bytes to fetch, all told; 0 where the hub cannot be asked (a copy in the cache may do)."""
    try:
        info = HfApi(token=token).model_info(model, files_metadata=True)
    except RepositoryNotFoundError:
        raise
    except _UNREACHABLE:
        return 0
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or [] if "/" not in file.rfilename}
    if not any(name.endswith(".safetensors") for name in sizes):
        pickles = [name for name in sizes if name.endswith((".bin", ".pt", ".pth", ".ckpt"))]
        raise ModelError(
            f"its weights are pickles ({pickles[0]}), which can run code when they are loaded"
            if pickles
            else "it holds no weights in safetensors format",
            where=model,
            remedy="use a version of the model with .safetensors weights",
        )
    wanted = [name for name in sizes if _matches(name, WANTED) and not _matches(name, unwanted)]
    size = sum(sizes[name] for name in wanted if not try_to_load_from_cache(model, name, revision=info.sha))
    require_space(Path(constants.HF_HUB_CACHE), size, f"the download of {model}")
    return size


def _matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _unreachable(model: str, error: BaseException) -> UserError:
    """What keeps the model from being fetched: passing, so that a run waits for it, or not."""
    seen = error.__cause__ if isinstance(error, LocalEntryNotFoundError) and error.__cause__ else error
    status = getattr(getattr(seen, "response", None), "status_code", None)
    offline = constants.HF_HUB_OFFLINE or isinstance(seen, OfflineModeIsEnabled)
    how = f"does not answer ({type(seen).__name__})" if status is None else f"answers HTTP {status}"
    why = "HF_HUB_OFFLINE is set" if offline else f"{constants.ENDPOINT} {how}"
    passing = not offline and (status is None or status in _PASSING)
    return (Unreachable if passing else ModelError)(
        f"the model is not in the cache of this machine, and cannot be fetched: {why}",
        where=model,
        remedy="go online"
        + (" and unset HF_HUB_OFFLINE" if offline else "")
        + ", or fetch the model elsewhere (`hf download`) and name its folder",
    )


def _reporter(size: int, progress: Progress) -> type[tqdm]:
    """A progress bar class for the hub client, which tells ``progress`` instead of the terminal."""

    class Reporter(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            options.pop("name", None)
            self.reached = 0.0
            super().__init__(*args, **{**options, "file": io.StringIO()})

        def update(self, n: float | None = 1) -> bool | None:
            if self.unit == "B":
                self.reached += n or 0
                progress("download", min(self.reached, size), size, "bytes")
            shown: bool | None = super().update(n)
            return shown

    return Reporter
