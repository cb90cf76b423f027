"""Completions over HTTP: real engines that load real (tiny) models, asked through a real server."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rewarm.core.errors import NotFound
from rewarm.core.workspace import Workspace
from rewarm.hub.aliases import point
from rewarm.hub.models import Version, publish
from rewarm.models.generate import generate
from rewarm.studio.api.app import build_app
from rewarm.studio.context import OWNER, Role, Studio, open_studio
from rewarm.studio.service import completions, process
from rewarm.studio.service.settings import put_setting
from tests.models.conftest import SHAPE, save_tokenizer
from tests.servers import free_port
from tests.studio.conftest import token_of

LONG = 8192


def save_endless(folder: Path) -> None:
    """A model without a token that ends a text."""
    save_tokenizer(folder)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, eos_token=None, chat_template=None)
    tokenizer.save_pretrained(folder)
    shape = {**SHAPE, "max_position_embeddings": 3 * LONG, "eos_token_id": None}
    LlamaForCausalLM(LlamaConfig(**shape)).save_pretrained(folder)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    found = open_studio(Workspace(tmp_path_factory.mktemp("completions") / "home"))
    yield found
    for engine in completions.list_engines(found, OWNER):
        completions.end_engine(found, OWNER, engine.id)
    found.database.close()


@pytest.fixture(scope="module")
def versions(studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> list[Version]:
    folder = tmp_path_factory.mktemp("model") / "endless"
    save_endless(folder)
    models = studio.workspace.models

    def fill(target: Path) -> None:
        shutil.copytree(folder, target, dirs_exist_ok=True)

    first = publish(models, "endless", fill, {"base": {"reference": "./gone"}, "run": "r"})
    second = publish(models, "endless", fill, {"base": {"reference": str(first)}, "run": "r"})
    point(models / "endless", "production", 2, "ana")
    return [first, second]


@pytest.fixture(scope="module")
def address(studio: Studio, versions: list[Version]) -> Iterator[str]:
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(build_app(studio), port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}/v1"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def ask(studio: Studio, address: str) -> Callable[..., httpx.Response]:
    headers = {"Authorization": f"Bearer {token_of(studio, Role.viewer)}"}

    def post(**values: Any) -> httpx.Response:
        body = {"model": "endless@production", "prompt": "word3 word8", "temperature": 0, **values}
        return httpx.post(f"{address}/completions", json=body, headers=headers, timeout=60)

    return post


def text_of(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["text"])


def test_an_answer_in_openais_shape(ask: Callable[..., httpx.Response], versions: list[Version]) -> None:
    answer = ask(max_tokens=12)
    want = generate(versions[1].path, "word3 word8", max_tokens=12)
    found = answer.json()
    assert text_of(answer) == want and want
    assert found["object"] == "text_completion" and found["choices"][0]["finish_reason"] == "length"
    assert found["usage"] == {"prompt_tokens": 2, "completion_tokens": 12, "total_tokens": 14}


def test_the_seed_decides(ask: Callable[..., httpx.Response]) -> None:
    texts = [text_of(ask(max_tokens=20, temperature=1.5, seed=seed)) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_a_stop_text_ends_it_before(ask: Callable[..., httpx.Response]) -> None:
    whole = text_of(ask(max_tokens=40))
    stop = whole[20:25]
    answer = ask(max_tokens=40, stop=["never this", stop])
    assert text_of(answer) == whole[: whole.index(stop)]
    assert answer.json()["choices"][0]["finish_reason"] == "stop"


def test_a_stream_is_the_same_text_in_pieces(ask: Callable[..., httpx.Response]) -> None:
    answer = ask(max_tokens=12, stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    events = [json.loads(line) for line in lines]
    assert len(events) > 5
    assert "".join(event["choices"][0]["text"] for event in events) == text_of(ask(max_tokens=12))
    assert events[-1]["choices"][0]["finish_reason"] == "length" and events[-1]["usage"]["total_tokens"] == 14


def test_who_leaves_is_not_written_for(address: str, studio: Studio, ask: Callable[..., httpx.Response]) -> None:
    headers = {"Authorization": f"Bearer {token_of(studio, Role.viewer)}"}
    body = {"model": "endless@2", "prompt": "word3", "max_tokens": LONG, "temperature": 0}
    for stream in (True, False):
        with pytest.raises(httpx.ReadTimeout), httpx.Client(timeout=0.7) as client:
            client.post(f"{address}/completions", json={**body, "stream": False}, headers=headers)
        if stream:
            with httpx.stream(
                "POST", f"{address}/completions", json={**body, "stream": True}, headers=headers
            ) as answer:
                next(answer.iter_lines())
        began = time.monotonic()
        text_of(ask(max_tokens=2))
        assert time.monotonic() - began < 5  # the whole text would take much longer


def test_base_and_result_live_side_by_side(ask: Callable[..., httpx.Response], studio: Studio) -> None:
    want = text_of(ask(max_tokens=3))
    put_setting(studio, OWNER, "completions", {"idle_seconds": 4.0})  # of those that start from now on
    assert text_of(ask(model="endless@production:base", max_tokens=3)) == want
    engines = completions.list_engines(studio, OWNER)
    assert [(engine.model, engine.state, engine.device) for engine in engines] == [
        ("endless@2", "ready", "cpu"),
        ("endless@1", "ready", "cpu"),
    ]
    again = open_studio(studio.workspace)  # as a server that was started again sees them
    assert completions.list_engines(again, OWNER) == engines
    again.database.close()


@pytest.mark.parametrize(
    ("values", "status", "message"),
    [
        ({"model": "endless@9"}, 404, "endless@1, endless@2, endless@production"),
        ({"model": "endless"}, 404, "name@1"),
        ({"model": "endless@1:base"}, 404, "not here any more"),
        ({"model": "../../etc@1"}, 404, "no model"),
        ({"prompt": "word3 " * LONG, "max_tokens": 2 * LONG}, 400, "max_tokens"),
        ({"prompt": "word3 " * 3 * LONG}, 400, "can look back on"),
        ({"n": 2}, 400, "n: "),
        ({"temperature": -1}, 400, "temperature"),
        ({"frequency_penalty": 0.5}, 400, "frequency_penalty"),
        ({"messages": []}, 400, "messages"),
    ],
)
def test_refusals_have_openais_shape(
    ask: Callable[..., httpx.Response], values: dict[str, Any], status: int, message: str
) -> None:
    answer = ask(**values)
    assert answer.status_code == status
    assert message in answer.json()["error"]["message"]


def test_names(address: str, studio: Studio) -> None:
    headers = {"Authorization": f"Bearer {token_of(studio, Role.viewer)}"}
    found = httpx.get(f"{address}/models", headers=headers).json()
    assert [model["id"] for model in found["data"]] == [
        "endless@1", "endless@1:base", "endless@2", "endless@2:base", "endless@production",
    ]  # fmt: skip
    assert httpx.get(f"{address}/models").status_code == 401


def test_an_idle_engine_ends_by_itself(studio: Studio) -> None:
    engine = next(engine for engine in completions.list_engines(studio, OWNER) if engine.model == "endless@1")
    folder = studio.workspace.root / "engines" / engine.id
    until = time.monotonic() + 20
    while process.lives(folder) and time.monotonic() < until:
        time.sleep(0.1)
    assert not process.lives(folder) and not (folder / "engine.json").exists()
    assert [engine.model for engine in completions.list_engines(studio, OWNER)] == ["endless@2"]


def test_too_little_memory_is_said(studio: Studio, ask: Callable[..., httpx.Response]) -> None:
    put_setting(studio, OWNER, "completions", {"memory_gb": 0.6})
    answer = ask(model="endless@1")
    assert answer.status_code == 507 and "of memory" in answer.json()["error"]["message"]
    assert [engine.model for engine in completions.list_engines(studio, OWNER)] == ["endless@2"]


def test_an_engine_that_is_ended_is_gone(studio: Studio) -> None:
    (engine,) = completions.list_engines(studio, OWNER)
    completions.end_engine(studio, OWNER, engine.id)
    assert completions.list_engines(studio, OWNER) == []
    with pytest.raises(NotFound):
        completions.end_engine(studio, OWNER, engine.id)
