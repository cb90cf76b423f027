"""``python -m rewarm.pipeline.serve MODEL FOLDER``: a completion engine, one model in a process of its own.

FOLDER is the engine's: whoever started it holds ``lock`` through it as long as it lives, ``request.json`` keeps it
alive, ``engine.json`` says where it listens once the model is loaded, ``error.json`` why it never will be. It listens
on loopback and answers a line of JSON (``{token, prompt, ...}``) by lines of JSON, one for each piece of text; the
last one says how it ended. It writes one text at a time, gives up where the reader has left, and ends when nobody
asked for a while or ``request.json`` is gone.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import select
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import psutil

from rewarm.core.amounts import size
from rewarm.core.errors import ResourceError, UserError
from rewarm.core.manifest import to_json
from rewarm.core.slots import hold
from rewarm.core.storage import locked, write_file
from rewarm.core.workspace import Workspace

MOST_WAITING = 8
_LONGEST_REQUEST = 1 << 24
_LONGEST_CACHE = 8192  # tokens, for the estimate


class Engine:
    """A loaded model and those that wait for it."""

    def __init__(self, writer: Any, token: str) -> None:
        self.writer, self.token = writer, token
        self.used = time.monotonic()
        self._turn, self._count, self._waiting = threading.Lock(), threading.Lock(), 0

    @property
    def idle(self) -> float:
        """Seconds since anybody was served."""
        return 0.0 if self._waiting else time.monotonic() - self.used

    def answer(self, request: dict[str, Any], left: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        """The lines that answer a request; they end early where ``left()`` says that nobody reads them."""
        if not hmac.compare_digest(str(request.pop("token", "")), self.token):
            yield {"error": {"what": "wrong token", "status": 401}}
            return
        with self._count:
            self._waiting += 1
            busy = self._waiting > MOST_WAITING
        try:
            if busy:
                yield {"error": {"what": f"{MOST_WAITING} requests wait already", "status": 429}}
                return
            with self._turn:
                yield from self._write(request, left)
        finally:
            with self._count:
                self._waiting -= 1
            self.used = time.monotonic()

    def _write(self, request: dict[str, Any], left: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        from rewarm.models.generate import complete

        if left():
            return
        try:
            done, pieces = complete(self.writer, **request)
        except UserError as error:
            yield {"error": {"what": error.what, "remedy": error.remedy, "status": 400}}
            return
        for text in pieces:
            if left():
                return
            if text:
                yield {"text": text}
        yield {"finish": done.finish, "prompt_tokens": done.prompt_tokens, "completion_tokens": done.tokens}


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    engine: Engine


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        with contextlib.suppress(OSError, orjson.JSONDecodeError):  # a reader that left, or no request of ours
            self.connection.settimeout(60)
            request = orjson.loads(self.rfile.readline(_LONGEST_REQUEST))
            for line in self.server.engine.answer(request, self._left):
                self.wfile.write(orjson.dumps(line) + b"\n")

    def _left(self) -> bool:
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)


def serve(reference: str, folder: Path, idle_seconds: float, memory_bytes: int | None) -> None:
    """Load the model and answer until nobody asks any more.

    Args:
        memory_bytes: what all engines of the workspace may take together; unset, what is free.

    Raises:
        UserError: the model cannot be used; ``ResourceError`` where there is too little memory for it.
    """
    workspace = Workspace(folder.parent.parent)
    with contextlib.ExitStack() as stack:
        with locked(folder.parent / "loading.lock", "the loading of another model", lambda: None):
            writer, about = _load(reference, workspace, folder, memory_bytes, stack)
            server = stack.enter_context(_Server(("127.0.0.1", 0), _Handler))
            server.engine = engine = Engine(writer, secrets.token_hex(32))
            port = server.server_address[1]
            about |= {"port": port, "token": engine.token, "pid": os.getpid(), "started": time.time()}
            write_file(folder / "engine.json", to_json(about))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        while engine.idle < idle_seconds:
            time.sleep(min(0.5, idle_seconds))


def _load(
    reference: str, workspace: Workspace, folder: Path, limit: int | None, stack: contextlib.ExitStack
) -> tuple[Any, dict[str, Any]]:
    """The model, on a GPU that no run works on where there is one, and what is to be known of it."""
    from rewarm.pipeline.base import locate

    base = locate(reference, workspace, lambda *progress: None, weights=True)
    device = _device(workspace, base.reference, stack)
    facts, width = base.facts, 2 if device == "cuda" else 4
    cache = (
        2 * facts.layers * facts.kv_heads * facts.head_width * min(facts.positions or _LONGEST_CACHE, _LONGEST_CACHE)
    )
    from rewarm.recipe.memory import PROCESS

    need = int(PROCESS[device] + width * (base.parameters + cache))
    _check_room(base.reference, need, device, folder, limit)
    from rewarm.models.generate import load_writer

    writer = load_writer(base.folder, device, hashes=False)  # locate has just compared them
    return writer, {"model": base.reference, "device": device, "bytes": need}


def _device(workspace: Workspace, reference: str, stack: contextlib.ExitStack) -> str:
    """``cuda`` where a GPU is free of runs (engines share one), else ``cpu``."""
    from rewarm.core.slots import visible
    from rewarm.recipe.facts import Machine

    def give_up(reason: str) -> None:
        raise ResourceError(reason)

    gpus = visible(len(Machine.here().gpus))
    if not gpus:
        return "cpu"
    slots = [f"cuda-{gpu}" for gpu in gpus]
    try:
        held = stack.enter_context(
            hold(workspace.root / "locks", slots, 1, f"completions of {reference}", give_up, shared=True)
        )
    except ResourceError:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return "cpu"
    os.environ["CUDA_VISIBLE_DEVICES"] = held[0].removeprefix("cuda-")  # torch has not looked yet
    return "cuda"


def _check_room(reference: str, need: int, device: str, folder: Path, limit: int | None) -> None:
    """Raises ``ResourceError`` where the memory that is free, or that is left to engines, is less than ``need``."""
    from rewarm.recipe.facts import usable_memory

    free = min(psutil.virtual_memory().available, usable_memory())
    if device == "cuda":
        import torch

        free = torch.cuda.mem_get_info()[0]
    others = sum(about["bytes"] for about in living(folder.parent))
    if limit is not None and limit - others < free:
        free = limit - others
    if need > free:
        raise ResourceError(
            f"needs about {size(need)} of memory, {size(max(free, 0))} are free for it",
            where=reference,
            remedy="end another model's engine, or wait until it is idle for long enough",
        )


def living(engines: Path) -> Iterator[dict[str, Any]]:
    """What the engines say of themselves that are loaded and live."""
    for path in engines.glob("*/engine.json"):
        with contextlib.suppress(OSError, orjson.JSONDecodeError):
            about = orjson.loads(path.read_bytes())
            if psutil.pid_exists(about["pid"]):
                yield about


def _end_with(path: Path) -> None:
    """End this process at once when the file is gone."""

    def watch() -> None:
        while path.exists():
            time.sleep(0.5)
        os._exit(0)

    threading.Thread(target=watch, name="rewarm-request", daemon=True).start()


def main() -> None:
    reference, folder = sys.argv[1], Path(sys.argv[2])
    _end_with(folder / "request.json")
    request = orjson.loads((folder / "request.json").read_bytes())
    try:
        serve(reference, folder, request["idle_seconds"], request["memory_bytes"])
    except UserError as error:
        kind = "memory" if isinstance(error, ResourceError) else "model"
        write_file(folder / "error.json", to_json({"what": error.what, "remedy": error.remedy, "kind": kind}))
        sys.exit(error.exit_code)
    finally:
        (folder / "engine.json").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
