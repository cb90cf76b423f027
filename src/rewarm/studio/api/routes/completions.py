"""Completions in the shape of OpenAI's API, under /v1, and the engines that write them."""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Any, Literal

import orjson
from fastapi import Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from rewarm.core.errors import UserError
from rewarm.studio.api.access import ALWAYS, Editor, TheStudio, Viewer, routes
from rewarm.studio.api.errors import documented, in_openais_words, openai_errors, problem_of
from rewarm.studio.service import completions
from rewarm.studio.service.completions import EngineView

openai = routes("/v1", "completions", root="", responses=openai_errors(*ALWAYS))
router = routes("/engines", "completions")


class StreamOptions(BaseModel):
    include_usage: bool = True


class CompletionRequest(BaseModel):
    """OpenAI's fields. Those that nothing here stands behind are taken with the value that means nothing."""

    model_config = ConfigDict(extra="forbid")
    model: str = Field(max_length=300, examples=["legal-vi@3"], description="name@n, name@alias, or name@n:base")
    prompt: str | Annotated[list[str], Field(min_length=1, max_length=1)] = Field(examples=["Article 1. "])
    max_tokens: int = Field(16, ge=1, le=8192)
    temperature: float = Field(1.0, ge=0, le=2, description="0 always takes the likeliest token")
    top_p: float = Field(1.0, gt=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63, description="the same seed, the same text; random when unset")
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Literal[1] = 1
    best_of: Literal[1] | None = None
    echo: Literal[False] = False
    logprobs: None = None
    suffix: None = None
    logit_bias: None = None
    presence_penalty: Literal[0] = 0
    frequency_penalty: Literal[0] = 0
    user: str | None = None

    def settings(self) -> dict[str, Any]:
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return {
            "prompt": self.prompt if isinstance(self.prompt, str) else self.prompt[0],
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": secrets.randbits(63) if self.seed is None else self.seed,
            "stop": [text for text in stop if text],
        }


class Choice(BaseModel):
    text: str
    index: int = 0
    logprobs: None = None
    finish_reason: Literal["stop", "length"] | None


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CompletionAnswer(BaseModel):
    id: str = Field(examples=["cmpl-5c1d"])
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage | None = None


class ModelName(BaseModel):
    id: str = Field(examples=["legal-vi@3"])
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["rewarm"] = "rewarm"


class ModelNames(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelName]


@openai.get("/models")
def list_names(studio: TheStudio, user: Viewer) -> ModelNames:
    """The models that can be asked for completions."""
    found = completions.list_names(studio, user)
    return ModelNames(data=[ModelName(id=name, created=int(since)) for name, since in found])


@openai.post(
    "/completions",
    response_model=CompletionAnswer,
    responses={200: {"content": {"text/event-stream": {}}}, **openai_errors(400, 404, 429)},
)
async def complete(request: Request, asked: CompletionRequest, studio: TheStudio, user: Viewer) -> Response:
    """Let a model continue a text; with ``stream``, piece by piece as server-sent events.

    The first request for a model waits until it is loaded.
    """
    lines = completions.write(studio, user, asked.model, asked.settings())
    first = await anext(lines)  # a refusal is known by now
    head = {"id": f"cmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": asked.model}
    if asked.stream:
        headers = {"X-Accel-Buffering": "no"}
        return StreamingResponse(_events(head, first, lines), media_type="text/event-stream", headers=headers)
    text, last = first.get("text", ""), first
    async for last in lines:
        text += last.get("text", "")
        if await request.is_disconnected():
            await lines.aclose()
            break
    answer = CompletionAnswer(**head, choices=[Choice(text=text, finish_reason=last.get("finish"))], usage=_usage(last))
    return JSONResponse(answer.model_dump())


async def _events(
    head: dict[str, Any], first: dict[str, Any], lines: AsyncGenerator[dict[str, Any], None]
) -> AsyncIterator[bytes]:
    try:
        yield _event(head, first)
        async for line in lines:
            yield _event(head, line)
    except UserError as error:
        yield b"data: " + orjson.dumps(in_openais_words(*problem_of(error))[1].model_dump()) + b"\n\n"
        return
    finally:
        await lines.aclose()
    yield b"data: [DONE]\n\n"


def _event(head: dict[str, Any], line: dict[str, Any]) -> bytes:
    choice = Choice(text=line.get("text", ""), finish_reason=line.get("finish"))
    answer = CompletionAnswer(**head, choices=[choice], usage=_usage(line))
    return b"data: " + answer.model_dump_json().encode() + b"\n\n"


def _usage(line: dict[str, Any]) -> Usage | None:
    if "finish" not in line:
        return None
    prompt, written = line["prompt_tokens"], line["completion_tokens"]
    return Usage(prompt_tokens=prompt, completion_tokens=written, total_tokens=prompt + written)


@router.get("")
def list_engines(studio: TheStudio, user: Viewer) -> list[EngineView]:
    """The models that are loaded for completions."""
    return completions.list_engines(studio, user)


@router.delete("/{id}", status_code=204, responses=documented(404))
def end_engine(studio: TheStudio, user: Editor, id: str) -> None:
    """Free the memory that a loaded model takes; it is loaded again when somebody asks for it."""
    completions.end_engine(studio, user, id)
