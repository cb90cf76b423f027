"""A workspace in which people have worked: everything in it was made by real runs, asked for over the API.

The model is a Llama of two layers with random weights, the texts are what the caller brings: a run takes seconds.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import orjson

from rewarm.client import ENDED, Client
from rewarm.core.errors import ResourceError
from rewarm.core.workspace import Workspace
from rewarm.studio.ui.words import LANGUAGES
from tests.pipeline.conftest import make_model
from tests.servers import Store
from tests.studio.ui.conftest import Site

RECIPE = """\
name: {name}
base_model: small@1
data:
  sources:
    - {{name: law, path: uploads/law}}
  replay: {{name: english, path: uploads/english, share: 0.25}}
hyperparameters:
  learning_rate: {rate}
  epochs: {epochs}
  batch_size: 4
  gradient_accumulation_steps: 1
  max_sequence_length: 128
  logging_steps: 1
  checkpoint_strategy: steps
  checkpoint_steps: 40
infrastructure: {{devices: cpu, threads: 1}}
evaluation:
  panels:
    - {{name: packages, path: uploads/packages}}
  at: [0.1, 0.5]
  max_bytes_per_source: 20000
"""


@dataclass
class LivedIn:
    """The ids of what was made."""

    succeeded: str
    again: str
    failed: str
    dataset: str
    live: str = ""
    others: dict[str, str] = field(default_factory=dict)
    """More pages, by name."""

    def paths(self) -> dict[str, str]:
        """Every page by a name of its own."""
        run, pair = quote(self.succeeded), quote(f"{self.succeeded},{self.again}")
        tabs = ("metrics", "system", "logs", "events", "checkpoints", "data", "report", "configuration")
        settings = ("account", "users", "mail", "webhooks", "storage", "rules", "audit", "about")
        return {
            "overview": "/", "data-hub": "/data", "connection": "/data/connections/lake?uri=s3://corpora/law/",
            "preview": "/data/connections/lake?uri=s3://corpora/law/part-1.jsonl", "text": "/data/texts/law",
            "dataset": f"/data/datasets/{self.dataset}", "pipelines": "/pipelines",
            "pipeline": "/pipelines/of/legal-vi",
            "wizard": "/pipelines/new", "wizard-model": "/pipelines/new?edit=legal-vi",
            "wizard-training": "/pipelines/new?edit=legal-vi", "runs": "/runs",
            "run": f"/runs/{quote(self.live)}",
            **{f"run-{tab}": f"/runs/{run}?tab={tab}" for tab in tabs},
            "failed": f"/runs/{quote(self.failed)}", "compare": f"/compare?run={pair}", "models": "/models",
            "model": "/models/legal-vi@1", "playground": "/playground?model=legal-vi@1",
            **{f"settings-{tab}": f"/settings?tab={tab}" for tab in settings},
        }  # fmt: skip


def documents(language: str, count: int, seed: int = 0) -> list[str]:
    """Real sentences of a language, those that the pages say, at random."""
    words, draw = list(LANGUAGES[language][1].values()), random.Random(f"{language}{seed}")
    return [" ".join(draw.choices(words, k=draw.randint(8, 50))) for _ in range(count)]


def lines(texts: Sequence[str]) -> bytes:
    """Documents as jsonl."""
    return b"".join(orjson.dumps({"text": text}) + b"\n" for text in texts)


def connect(site: Site, store: Store) -> None:
    """The connection ``lake`` to an S3 server, which the administrator allows."""
    site.home.joinpath("network.json").write_text(f'{{"allow": ["{store.address.removeprefix("http://")}"]}}')
    workspace = Workspace(site.home)
    (workspace.connections / "lake.json").unlink(missing_ok=True)  # its port is another each time
    store.connect(workspace, "lake")


def move_in(site: Site, scratch: Path, texts: Mapping[str, Sequence[str]], epochs: int = 1, card: str = "") -> LivedIn:
    """Fill the workspace of a started ``site``; ``texts`` are law, english and packages, ``card`` the base model's."""
    make_model(scratch / "small", [*texts["law"][:300], *texts["english"][:100]])
    (scratch / "small" / "README.md").write_text(card, encoding="utf-8")
    site.rewarm("models", "import", str(scratch / "small"), "--name", "small")
    client = Client(site.url, site.rewarm("studio", "token").strip())
    for name, some in texts.items():
        _upload(client, name, lines(some))
    _upload(client, "scans", lines(texts["law"][:100]) + b'{"text": \n' * 40)
    client.post("/users", {"name": "mai", "role": "editor", "email": "mai@example.com"})
    client.post("/users", {"name": "vera", "role": "viewer"})
    law = RECIPE.format(name="legal-vi", rate="3e-3", epochs=epochs)
    pipelines = {
        "legal-vi": ("Vietnamese law, a quarter of English", law),
        "scans-vi": ("Scanned decisions", law.replace("legal-vi", "scans-vi").replace("uploads/law", "uploads/scans")),
        "legal-long": ("Vietnamese law, overnight", RECIPE.format(name="legal-long", rate="1e-3", epochs=4000)),
        "news-vi": ("After the law, the news", RECIPE.format(name="news-vi", rate="1e-3", epochs=16)),
    }
    for name, (description, recipe) in pipelines.items():
        client.post("/pipelines", {"name": name, "description": description, "recipe": recipe})
    client.put("/settings/scheduler", {"runs": 1})
    first = _run(client, "legal-vi")
    failed = _run(client, "scans-vi", "failed")
    again = _run(client, "legal-vi", overrides=["hyperparameters.learning_rate=1e-3"])
    client.put("/models/legal-vi/aliases/production", {"version": 1})
    return LivedIn(first, again, failed, client.get("/datasets")["datasets"][0]["dataset"])


def start_long(site: Site) -> str:
    """A run that goes on until it is stopped, and another that waits for it."""
    client = Client(site.url, site.rewarm("studio", "token").strip())
    passes = ["data.sources[0].max_epochs=10000", "data.replay.max_epochs=10000"]
    live = client.post("/pipelines/legal-long/runs", {"overrides": passes})["id"]
    client.post("/pipelines/news-vi/runs", {})
    return str(live)


def _upload(client: Client, text: str, data: bytes) -> None:
    upload = client.post("/uploads", {"text": text, "file": f"{text}.jsonl", "bytes": len(data)})
    client.send(f"/uploads/{upload['id']}", data, offset=0)
    client.post(f"/uploads/{upload['id']}/finish", {})


def _run(client: Client, pipeline: str, wanted: str = "succeeded", overrides: Sequence[str] = ()) -> str:
    run = client.post(f"/pipelines/{pipeline}/runs", {"overrides": list(overrides)})["id"]
    until = time.monotonic() + 240
    while (found := client.get(f"/runs/{run}"))["state"] not in ENDED:
        if time.monotonic() > until:
            raise ResourceError("the run did not end", where=run)
        time.sleep(0.3)
    assert found["state"] == wanted, orjson.dumps(found, option=orjson.OPT_INDENT_2).decode()
    return str(run)
