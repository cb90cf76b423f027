"""Worker processes for the two passes: one task at a time each, JSON lines over pipes.

They are plain child processes that import this package alone, so they start in a fifth of a second
whatever the parent has imported, and its main module is never run again. A worker ends when its
standard input does: also when the parent was killed, at any moment.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import selectors
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from rewarm.core.errors import DataError, ModelError, ResourceError, Stopped, Unreachable, UserError
from rewarm.data.scan import loaded, scan_slice
from rewarm.data.shards import tokenize_slice
from rewarm.data.slices import Slice
from rewarm.data.steps import Rule, build_steps
from rewarm.data.tokenizer import DocumentTokenizer

Task = dict[str, Any]
_POLL = 0.1
_ERRORS: dict[str, type[UserError]] = {kind.__name__: kind for kind in (Unreachable, ModelError, DataError)}


class _Worker:
    def __init__(self, threads: int) -> None:
        root = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "rewarm.data.workers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={
                **os.environ,
                "PYTHONPATH": path,
                "RAYON_NUM_THREADS": str(threads),
                "TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false",
                "OPENBLAS_NUM_THREADS": "1",
                "OMP_NUM_THREADS": "1",
            },
        )
        assert self.process.stdin and self.process.stdout
        self.input, self.output = self.process.stdin, self.process.stdout
        self.index = -1
        self._partial = b""

    def give(self, index: int, task: Task) -> None:
        self.index = index
        with contextlib.suppress(BrokenPipeError):  # a dead worker is noticed when its output ends
            self.input.write(json.dumps(task).encode() + b"\n")
            self.input.flush()

    def messages(self) -> Iterator[dict[str, Any]]:
        """What has arrived.

        Raises:
            ResourceError: if the process died.
        """
        data = os.read(self.output.fileno(), 1 << 16)
        if not data:
            code = self.process.wait()
            raise ResourceError(
                f"a worker process died ({'signal' if code < 0 else 'exit code'} {abs(code)})",
                remedy="if memory ran out, set infrastructure.threads to a lower number; then resume",
            )
        *lines, self._partial = (self._partial + data).split(b"\n")
        yield from (json.loads(line) for line in lines)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(BrokenPipeError):
            self.input.close()
        self.output.close()


class Engine(Protocol):
    """What maps tasks, each a pure function from its JSON to files, over cores: here, or on other machines."""

    def __enter__(self) -> Engine: ...

    def __exit__(self, *_: object) -> None: ...

    def run(self, tasks: Sequence[Task], progress: Callable[[float], None]) -> Iterator[int]:
        """Do all tasks; the index of each comes out when it is done, in any order."""
        ...


class Workers:
    """The engine of one machine: worker processes as long as the context lasts; none starts before there is a task.

    Args:
        cores: at most that many workers; with fewer tasks than cores each gets several threads.
        stop: asked several times a second.
    """

    def __init__(self, cores: int, stop: Callable[[], bool]) -> None:
        self._cores, self._stop = cores, stop
        self._workers: list[_Worker] = []

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self._start(0)

    def _start(self, count: int) -> None:
        if count != len(self._workers):
            for worker in self._workers:
                worker.end()
            self._workers = []
            for _ in range(count):
                self._workers.append(_Worker(max(1, self._cores // count)))

    def run(self, tasks: Sequence[Task], progress: Callable[[float], None]) -> Iterator[int]:
        """Do all tasks; the index of each comes out when it is done, in any order.

        Args:
            tasks: the longest should come first. Each has ``bytes`` for the progress.
            progress: is told the bytes done so far, several times a second.

        Raises:
            Stopped: when ``stop`` said so. UserError, OSError: what a task ended with. The workers
                must not be used after that.
        """
        if not tasks:
            return
        self._start(min(self._cores, len(tasks)))
        done, partial, left = 0.0, [0.0] * len(tasks), len(tasks)
        waiting = iter(enumerate(tasks))
        with selectors.DefaultSelector() as selector:
            for worker in self._workers:
                selector.register(worker.output, selectors.EVENT_READ, worker)
                worker.give(*next(waiting))
            while left:
                for key, _ in selector.select(_POLL):
                    worker = key.data
                    for message in worker.messages():
                        if "bytes" in message:
                            partial[worker.index] = message["bytes"]
                            continue
                        _raise(message)
                        partial[worker.index] = 0.0
                        done += tasks[worker.index]["bytes"]
                        left -= 1
                        yield worker.index
                        if (following := next(waiting, None)) is not None:
                            worker.give(*following)
                progress(done + sum(partial))
                if self._stop():
                    progress(done + sum(partial))  # the caller's own way to end, if it has one
                    raise Stopped


def _raise(message: dict[str, Any]) -> None:
    kind = message.get("error")
    if kind is None:
        return
    if kind in _ERRORS:
        raise _ERRORS[kind](message["what"], where=message["where"], remedy=message["remedy"])
    if kind == "OSError":
        raise OSError(message["errno"], message["what"], message["where"])
    raise RuntimeError(f"a worker failed:\n{message['what']}")


# ---- the other side ----


def main() -> None:
    """Do the tasks on standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what a library prints must not get between the messages
    tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, tasks), daemon=True).start()
    while True:
        task = tasks.get()
        try:
            perform(task, _reporter(out))
            _say(out, {"done": True})
        except BaseException as error:
            _say(out, _described(error))


def _listen(source: BinaryIO, tasks: queue.SimpleQueue[Task]) -> None:
    for line in source:
        tasks.put(json.loads(line))
    os._exit(0)  # the parent is done, or dead


def _say(out: BinaryIO, message: dict[str, Any]) -> None:
    out.write(json.dumps(message).encode() + b"\n")


def _reporter(out: BinaryIO) -> Callable[[int], None]:
    last = time.monotonic()

    def report(done: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= 2 * _POLL:
            last = now
            _say(out, {"bytes": done})

    return report


def _described(error: BaseException) -> dict[str, Any]:
    if isinstance(error, UserError):
        kind = next((name for name, known in _ERRORS.items() if isinstance(error, known)), "DataError")
        return {"error": kind, "what": error.what, "where": error.where, "remedy": error.remedy}
    if isinstance(error, OSError) and error.errno:
        return {"error": "OSError", "errno": error.errno, "what": error.strerror, "where": str(error.filename or "")}
    return {"error": "bug", "what": traceback.format_exc()}


def perform(task: Task, report: Callable[[int], None]) -> None:
    """A task is a pure function of what it names: a slice of the input to a scan, or to a shard."""
    part, rules = Slice.from_json(task["slice"]), _rules(json.dumps(task["steps"]))
    if task["do"] == "scan":
        near = None
        if task["near"]:
            from rewarm.recipe.steps import NearDuplicates  # pydantic: a quarter of a second, and few tasks need it

            near = NearDuplicates.model_validate(task["near"])
        scan_slice(part, rules, near, Path(task["scan"]), report)
        return
    scan = loaded(Path(task["scan"]))
    choice = np.fromfile(task["choice"], np.uint8, len(scan.ids), offset=task["offset"])
    tokenizer = _tokenizer(json.dumps(task["tokenizer"]))
    with contextlib.suppress(FileExistsError):  # another build made the same shard meanwhile
        tokenize_slice(part, scan, choice, rules, tokenizer, Path(task["shard"]), Path(task["staging"]), report)


@lru_cache(4)
def _rules(steps: str) -> list[Rule]:
    if steps == "[]":
        return []
    from pydantic import TypeAdapter  # a quarter of a second, and few tasks need it

    from rewarm.recipe.steps import Step

    return build_steps(TypeAdapter(list[Step]).validate_json(steps))


@lru_cache(1)
def _tokenizer(spec: str) -> DocumentTokenizer:
    return DocumentTokenizer.from_spec(json.loads(spec))


if __name__ == "__main__":
    main()
