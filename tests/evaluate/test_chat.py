"""The chat probe: the model's own template, patterns that a right answer fits, and a turn that ends or does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from rewarm.core.errors import DataError
from rewarm.evaluate.chat_template import render
from rewarm.evaluate.harness import run_tasks
from rewarm.evaluate.tasks.general import chat

RIGHT = [
    "Blue.", "cold", "Paris.", "7", "5", "6", "Yes.", "No", "No.", "An elephant", "Cat.", "April",
    "The train leaves at noon.", "stone river lamp", "BANANA", "paper", "red\ngreen\nblue", "apple\npear\nplum",
    "- cat\n- dog\n- cow", "apples and pears", "1, 2, 3, 4, 5", "A B C D", "The sea is wide!", "Will it rain?",
    "The dog sleeps in the garden.", "Today it rains.", "Certainly: Spain", "Mars DONE", '"moon"', '{"name": "Ada"}',
]  # fmt: skip


@pytest.fixture
def chatting(folder: Path, tmp_path: Path) -> Path:
    """The tiny model, with a template."""
    model = Path(shutil.copytree(folder, tmp_path / "chatting"))
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
    tokenizer.save_pretrained(model)
    config = model / "config.json"  # room for an answer
    config.write_text(config.read_text().replace('"max_position_embeddings": 64', '"max_position_embeddings": 512'))
    return model


def test_a_right_answer_fits_and_another_does_not(chatting: Path) -> None:
    rows = list(chat.items(str(chatting))["test"])
    assert rows[0]["prompt"].startswith("<user>What colour") and rows[0]["prompt"].endswith("<assistant>")
    assert [chat.judged(row, [said])["followed"] for row, said in zip(rows, RIGHT, strict=True)] == [1.0] * len(rows)
    assert not any(chat.judged(row, ["I am a helpful assistant. I cannot say more"])["followed"] for row in rows)


def test_a_turn_that_does_not_end_is_told(chatting: Path) -> None:
    row = chat.items(str(chatting))["test"][0]
    assert [chat.judged(row, [text])["ended"] for text in ("blue", "x" * chat.MOST)] == [1.0, 0.0]


def test_the_harness_asks_and_judges(chatting: Path, folder: Path) -> None:
    found = run_tasks(chatting, ["chat"], limit=2)["chat"]
    assert set(found.metrics) == {"followed", "ended"} and len(found.items) == 2
    with pytest.raises(DataError, match="no chat template"):
        run_tasks(folder, ["chat"])


TURNS = [[{"role": "user", "content": "Hi"}]]


def test_a_template_says_what_transformers_makes_of_it() -> None:
    path = (
        "{{ bos_token }}{% for m in messages %}\n  {% if m.role == 'user' %}\n<u>{{ m.content | tojson }}{% endif %}\n"
    )
    template = path + "{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), bos_token="<s>")
    expected = tokenizer.apply_chat_template(
        TURNS[0], chat_template=template, tokenize=False, add_generation_prompt=True
    )
    assert render(template, TURNS, {"bos_token": "<s>"}) == [expected]


def test_s8_a_hostile_template_does_nothing_and_ends(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    call = f"os.system('touch {canary}')"
    for template in (
        f"{{{{ cycler.__init__.__globals__.{call} }}}}",
        f"{{{{ messages.__class__.__mro__[1].__subclasses__() }}}}{{{{ joiner.__init__.__globals__.{call} }}}}",
        "{{ messages.append(1) }}",
        "{{ raise_exception('no') }}",
        "{% for",
        "{% for i in range(10**5) %}{% for j in range(10**5) %}{% endfor %}{% endfor %}",
        "{{ 'x' * 10**10 }}",
    ):
        with pytest.raises(DataError, match="the model's chat template"):
            render(template, TURNS, {})
    assert not canary.exists()


def test_s8_a_hostile_model_is_refused_by_the_probe(chatting: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    (chatting / "chat_template.jinja").write_text(f"{{{{ cycler.__init__.__globals__.os.system('touch {canary}') }}}}")
    with pytest.raises(DataError, match="the model's chat template cannot be rendered"):
        run_tasks(chatting, ["chat"])
    assert not canary.exists()
