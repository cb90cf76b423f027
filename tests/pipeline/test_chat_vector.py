"""The chat vector of a run: scored beside the other candidates, asked to chat, and published when chosen."""

from __future__ import annotations

import orjson
from transformers import AutoModelForCausalLM, AutoTokenizer

from rewarm.models.folder import fingerprint
from rewarm.pipeline.scores import CHAT
from tests.models.test_chat_vector import TEMPLATE, changed
from tests.pipeline.conftest import Bench


def test_it_is_published_when_it_is_chosen(bench: Bench) -> None:
    changed(bench.folder / "model", bench.folder / "instruct", 3, TEMPLATE)
    asked = ["evaluation.instruct_model=./instruct", "evaluation.publish=chat_vector"]
    done = bench.rewarm("run", "recipe.yaml", *asked)
    assert done.returncode == 0, done.stdout + done.stderr
    report = orjson.loads((bench.run().report / "report.json").read_bytes())
    assert report["result"]["weights"] == "chat_vector"
    assert [other["weights"] for other in report["candidates"]] == ["trained"]
    rows = {(row["task"], row["metric"]): row for row in report["rows"]}
    assert rows[CHAT, "followed"]["n"] == 30 and rows[CHAT, "ended"]["role"] == "forgetting"
    folder = bench.workspace.models / "tiny" / "1"
    lineage = orjson.loads((folder / "lineage.json").read_bytes())
    assert lineage["instruct"] == {"reference": "./instruct", "fingerprint": fingerprint(bench.folder / "instruct")}
    assert "chat template" in (folder / "README.md").read_text()
    AutoModelForCausalLM.from_pretrained(folder)
    assert AutoTokenizer.from_pretrained(folder).chat_template == TEMPLATE
    again = bench.rewarm("report", "last", "--recompute")
    assert again.returncode == 0, again.stdout + again.stderr

    done = bench.rewarm("run", "recipe.yaml", *asked, "base_model=tiny@1")
    assert done.returncode == 2 and "the vector is taken from the first base" in done.stdout + done.stderr


def test_what_is_no_instruct_model_of_the_base_is_refused(bench: Bench) -> None:
    changed(bench.folder / "model", bench.folder / "plain", 3)
    done = bench.rewarm("check", "recipe.yaml", "evaluation.instruct_model=./plain")
    assert done.returncode == 2 and "has no chat template" in done.stdout + done.stderr
    done = bench.rewarm("check", "recipe.yaml", "evaluation.publish=chat_vector")
    assert done.returncode == 2 and "needs instruct_model" in done.stdout + done.stderr
