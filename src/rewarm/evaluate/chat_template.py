"""Chat templates of models, rendered where they can do no harm: they are programs of strangers.

A process of its own renders them, in Jinja's immutable sandbox, with a limit on time and memory. Names and filters are
those that transformers gives a template.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rewarm.core.errors import DataError

SECONDS = 5
"""For the process and all that it renders; rendering takes milliseconds."""
MEMORY = 1 << 30


def render(template: str, chats: Sequence[Sequence[Mapping[str, str]]], names: Mapping[str, str]) -> list[str]:
    """Each chat, a list of ``{"role", "content"}``, as the model reads it before its own turn.

    Args:
        names: the tokenizer's special tokens, such as bos_token.

    Raises:
        DataError: the template is broken, endless or greedy, or does what no template may.
    """
    job = json.dumps({"template": template, "chats": chats, "names": names})
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__], input=job, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise DataError(f"the model's chat template did not end within {SECONDS} s") from None
    if done.returncode:
        said = done.stderr.strip().rpartition("\n")[2]
        raise DataError(f"the model's chat template cannot be rendered: {said or 'its process was ended'}")
    found: list[str] = json.loads(done.stdout)
    return found


def _main() -> None:
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    with contextlib.suppress(ImportError):  # Windows has no such limits
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    job = json.load(sys.stdin)
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
    environment.globals.update(raise_exception=_refuse, strftime_now=lambda form: datetime.now().strftime(form))
    template = environment.from_string(job["template"])
    chats = [template.render(messages=chat, add_generation_prompt=True, **job["names"]) for chat in job["chats"]]
    json.dump(chats, sys.stdout)


def _refuse(message: Any) -> None:
    raise ValueError(str(message))


if __name__ == "__main__":
    _main()
