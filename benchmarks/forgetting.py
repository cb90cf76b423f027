"""What a run teaches and what it destroys: the naive recipe and the peers' against Rewarm's.

The model is a byte-level Llama of 0.1M parameters, which first learns English (the Python reference and the READMEs of
the packages that are installed), then Vietnamese law; minutes on a CPU. With `--ladder` it is SmolLM2-135M, which
learns Vietnamese law, Russian (Mercurial's help) or the documentation of software libraries (docstrings of torch and
transformers), four passes at most; that is for a GPU. Every arm has the same base and the same tokens processed
(replay counts), and is tried at the same three rates on the first seed:

- *naive*, the reference platform's recipe (4 rows an update, linear, no warm-up, no replay);
- *run_clm*, Hugging Face's Trainer with its defaults (8 rows, documents run together, linear, no warm-up);
- *llamafactory*, `stage: pt` as its examples have it (8 rows, cosine, warm-up 0.1): the program itself where
  `--llamafactory` names its command, else imitated by Hugging Face's Trainer;
- *schedule*, Rewarm's recipe without replay; *default*, a recipe that names only model and corpus, so that Rewarm
  chooses the replay and the base writes it; *corpus*, with a general corpus to replay (the Python reference).

Forgetting is what bits per byte of package descriptions rise by: short ones, of other packages than the small base
read, and of another kind than what is replayed. Each measured text is in two halves: development chooses the rate,
test is reported. Without replay the rate is the best for the new text; with it the lowest that lies within 0.03 bits
per byte of the best arm without (else the best for the new text), because a lower rate forgets less.

    python benchmarks/forgetting.py [--quick] [--seeds N] [--law FILE] [--arms NAME...] [--json PATH]
    python benchmarks/forgetting.py --ladder vietnamese [--tokens N] [--rates RATE...] [--arms NAME...] [--json PATH]
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    del sys.path[0]  # this folder: its tokenize.py would hide the standard library's
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

import argparse
import functools
import gettext
import hashlib
import importlib.util
import inspect
import json
import logging
import math
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from rewarm.cli.quickstart import MODEL, readmes, set_up, write_english, write_law
from rewarm.core.run import create_run
from rewarm.core.workspace import Workspace
from rewarm.data.tokenizer import DocumentTokenizer
from rewarm.models.causal import load_model
from rewarm.pipeline.__main__ import main as carry_out
from rewarm.pipeline.base import Base
from rewarm.pipeline.distance import bits_of, measure_shift
from rewarm.recipe.recipe import DocumentTokens, Recipe

LENGTH = {False: 128, True: 1024}
"""Tokens of a row: of the small model, and of the ladder's."""
RATES = {False: (2e-3, 4e-3, 8e-3), True: (4e-5, 1e-4, 2.5e-4)}
WANTED = {"default": 0.10, "corpus": 0.10}
"""Shares of the naive recipe's forgetting."""
WITHIN = 0.03
"""Bits per byte of the new text that an arm may lose against the best one without replay."""
T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}
"""Student's t for a mean of so many seeds."""
BASE = 819_200
"""Tokens, which are bytes there, that the small base learns from; an arm processes half as many."""
LADDER = {"vietnamese": "law-vi", "russian": "mercurial-ru", "library": "docstrings-en"}
Found = dict[str, float]


def make_model(folder: Path, seed: int) -> None:
    """Random weights, and a tokenizer whose tokens are the bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate([*letters, END])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END).save_pretrained(folder)
    torch.manual_seed(seed)
    shape = {"hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=257, max_position_embeddings=256, tie_word_embeddings=True, **shape)
    LlamaForCausalLM(config).save_pretrained(folder)


def write_readmes(folder: Path) -> None:
    lines = [json.dumps({"title": name, "text": text}) for name, text in readmes() if len(text.encode()) > 2200]
    (folder / "readmes-en.jsonl").write_text("\n".join(lines) + "\n")


def write_russian(folder: Path) -> None:
    """Mercurial's help and messages in Russian, as its wheel carries them (GPL-2.0-or-later)."""
    (package,) = importlib.util.find_spec("mercurial").submodule_search_locations  # type: ignore[union-attr, misc]
    with Path(package, "locale", "ru", "LC_MESSAGES", "hg.mo").open("rb") as file:
        catalog: dict[Any, str] = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
    texts = [there for here, there in catalog.items() if isinstance(here, str) and here and there != here]
    write(folder / "mercurial-ru.jsonl", ["\n\n".join(texts[at : at + 8]) for at in range(0, len(texts), 8)])


def write_docstrings(folder: Path) -> None:
    """What classes and functions of torch and transformers say of themselves, where that is a page."""
    found = dict[str, None]()
    for name in ("torch", "transformers"):
        (package,) = importlib.util.find_spec(name).submodule_search_locations  # type: ignore[union-attr, misc]
        for path in sorted(Path(package).rglob("*.py")):
            parts = path.read_text("utf-8", "replace").split('"""')[1::2]
            found |= dict.fromkeys(text for part in parts if len(text := inspect.cleandoc(part)) > 600)
    write(folder / "docstrings-en.jsonl", list(found))


def parted(folder: Path, new: str) -> dict[str, list[str]]:
    """The texts to measure on; those of the new kind are taken out of what is learned."""
    texts, packages = read(folder / f"{new}.jsonl"), read(folder / "packages-en.jsonl")
    write(folder / f"{new}.jsonl", [text for text in texts if part(text) >= 0.05])
    return {
        "new development": [text for text in texts if part(text) < 0.025],
        "new": [text for text in texts if 0.025 <= part(text) < 0.05],
        "old development": [text for text in packages if part(text) < 0.5],
        "old": [text for text in packages if part(text) >= 0.5],
    }


def write(path: Path, texts: list[str]) -> None:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def read(path: Path) -> list[str]:
    return [json.loads(line)["text"] for line in path.read_text().splitlines()]


def part(text: str) -> float:
    """A text's place between 0 and 1, which its content decides."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:12], 16) / 16**12


@dataclass(frozen=True)
class Bench:
    """A base, and the texts that every arm learns from and is measured on."""

    folder: Path
    base: Path
    new: str
    tokens: int
    measured: dict[str, list[str]]
    real: bool
    seed: int = 0
    llamafactory: str | None = None
    max_bytes: int = 60_000

    @property
    def ends(self) -> dict[str, Any]:
        """SmolLM2's own end of text is a marker of chats."""
        return {"document_tokens": {"bos": None, "eos": END}} if self.real else {}

    @property
    def length(self) -> int:
        return LENGTH[self.real]

    @functools.cached_property
    def share(self) -> float:
        """The share of replay that the corpus takes, as a run of Rewarm measures it."""
        recipe = Recipe.model_validate({"name": "a", "base_model": "a/b", "data": self.sources(1)})
        about = Base(str(self.base), self.base, json.loads((self.base / "config.json").read_text()), 0)
        return measure_shift(recipe, about, lambda *_: None).share

    def sources(self, tokens: int) -> dict[str, Any]:
        return {"sources": [of_source(self.folder, self.new, tokens)], **self.ends}

    def scores(self, model: Path) -> Found:
        """Bits per byte of each measured text."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        tokenizer = DocumentTokenizer.load(model, DocumentTokens(**self.ends["document_tokens"]) if self.real else None)
        loaded = load_model(model, device=device)
        return {
            name: bits_of(texts, loaded, tokenizer, device, self.max_bytes, lambda *_: None)
            for name, texts in self.measured.items()
        }


def rewarm(bench: Bench, base: Path, data: dict[str, Any], **values: Any) -> Path:
    """The model that a run of Rewarm ends with; what is not given it chooses."""
    given = {"finetuning_type": "full", "batch_size": "auto", "max_sequence_length": bench.length, "seed": bench.seed}
    recipe = {
        "name": "arm",
        "base_model": str(base),
        "data": {"held_out": 1e-6, **data},
        "hyperparameters": {**given, "eval_strategy": "no", **values},
        "infrastructure": {} if bench.real else {"devices": "cpu", "threads": 1},
        "evaluation": {"max_bytes_per_source": 1000, "at": []},
    }
    run = create_run(Workspace(bench.folder / "home"), "arm", yaml.safe_dump(recipe), [], bench.folder)
    if carry_out([str(run.path)]) != 0:
        raise SystemExit(f"a run failed: {run.status().reason}; see {run.events}")
    return run.path / "model"


def of_source(folder: Path, name: str, tokens: int) -> dict[str, Any]:
    return {"name": name, "path": str(folder / f"{name}.jsonl"), "tokens": tokens, "max_epochs": 16}


def with_rewarm(replay: dict[str, Any], **values: Any) -> Callable[[Bench, float], Path]:
    """An arm of Rewarm's; unless there is no replay, its measured share of the tokens is that."""

    def arm(bench: Bench, rate: float) -> Path:
        share = 0.0 if replay == NONE else bench.share
        data = bench.sources(round((1 - share) * bench.tokens)) | replay
        return rewarm(bench, bench.base, data, learning_rate=rate, **values)

    return arm


def with_trainer(end: str = "", **settings: Any) -> Callable[[Bench, float], Path]:
    """Hugging Face's Trainer on documents run together and cut into rows, as run_clm and LLaMA-Factory do."""

    def arm(bench: Bench, rate: float) -> Path:
        from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

        tokenizer = AutoTokenizer.from_pretrained(bench.base)
        texts = [text + end for text in read(bench.folder / f"{bench.new}.jsonl")]
        ids = torch.tensor([one for text in tokenizer(texts)["input_ids"] for one in text])
        whole = ids[: len(ids) // bench.length * bench.length].view(-1, bench.length)
        rows = [{"input_ids": row, "labels": row} for row in whole]
        model = AutoModelForCausalLM.from_pretrained(bench.base, dtype=torch.float32)
        target = bench.folder / f"trainer-{time.monotonic_ns()}"
        arguments = TrainingArguments(
            output_dir=str(target),
            learning_rate=rate,
            max_steps=max(1, bench.tokens // (8 * bench.length)),
            per_device_train_batch_size=8,
            seed=bench.seed,
            use_cpu=not torch.cuda.is_available(),
            bf16=torch.cuda.is_available(),
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            **settings,
        )
        Trainer(model=model, args=arguments, train_dataset=rows).train()  # type: ignore[arg-type]
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
        return target

    return arm


def llamafactory(bench: Bench, rate: float) -> Path:
    """LLaMA-Factory's own program where there is one, with the settings of its example of ``stage: pt``."""
    if bench.llamafactory is None:
        return with_trainer(END, lr_scheduler_type="cosine", warmup_steps=0.1)(bench, rate)
    target = bench.folder / f"llamafactory-{time.monotonic_ns()}"
    target.mkdir()
    about = {"law": {"file_name": str(bench.folder / f"{bench.new}.jsonl"), "columns": {"prompt": "text"}}}
    (target / "dataset_info.json").write_text(json.dumps(about))
    settings = {
        "model_name_or_path": str(bench.base),
        "output_dir": str(target / "model"),
        "stage": "pt",
        "do_train": True,
        "finetuning_type": "full",
        "dataset": "law",
        "dataset_dir": str(target),
        "cutoff_len": bench.length,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 8,
        "learning_rate": rate,
        "lr_scheduler_type": "cosine",
        "warmup_ratio": 0.1,
        "max_steps": max(1, bench.tokens // (8 * bench.length)),
        "bf16": torch.cuda.is_available(),
        "use_cpu": not torch.cuda.is_available(),
        "seed": bench.seed,
        "report_to": "none",
        "save_strategy": "no",
    }
    (target / "pt.yaml").write_text(yaml.safe_dump(settings))
    done = subprocess.run([bench.llamafactory, "train", str(target / "pt.yaml")], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stdout + done.stderr)
    return target / "model"


END = "<|endoftext|>"
NONE: dict[str, Any] = {"replay": None}
NAIVE = {"lr_scheduler_type": "linear", "lr_warmup_ratio": 0.0, "weight_decay": 0.0, "gradient_accumulation_steps": 4}
BLIND: dict[str, Callable[[Bench, float], Path]] = {
    "naive": with_rewarm(NONE, **NAIVE),
    "run_clm": with_trainer(),
    "llamafactory": llamafactory,
    "schedule": with_rewarm(NONE),
}
"""Arms without replay."""
ARMS = BLIND | {
    "default": with_rewarm({}),
    "corpus": with_rewarm({"replay": {"path": "python-en.jsonl", "max_epochs": 16}}),
}


def small_base(folder: Path, seed: int, tokens: int, measured: dict[str, list[str]]) -> Path:
    """The byte-level model that has learned English."""
    make_model(folder / f"random-{seed}", seed)
    bench = Bench(folder, folder / f"random-{seed}", "", tokens, measured, real=False, seed=seed)
    english = [of_source(folder, name, tokens // 2) for name in ("python-en", "readmes-en")]
    data = {"sources": english, "replay": None}
    return rewarm(bench, bench.base, data, learning_rate=4e-3, gradient_accumulation_steps=8)


def compared(bench: Bench, arms: list[str], rates: dict[str, list[float]]) -> dict[str, Found]:
    """What each arm came to at the best of its ``rates``, of which that one is kept for the next seed."""
    before, found = bench.scores(bench.base), dict[str, Found]()
    for name in arms:
        tried = [_one(bench, before, name, ARMS[name], rate) for rate in rates[name]]
        best = min(tried, key=lambda one: one["new development"])
        if name not in BLIND:
            limit = WITHIN + min(found[other]["new development"] for other in arms if other in BLIND)
            best = min((one for one in tried if one["new development"] <= limit), key=lambda o: o["rate"], default=best)
        found[name], rates[name] = best, [best["rate"]]
    return found


def _one(bench: Bench, before: Found, name: str, arm: Callable[[Bench, float], Path], rate: float) -> Found:
    started = time.monotonic()
    after = bench.scores(arm(bench, rate))
    found = {"rate": rate, **after, "forgetting": after["old"] - before["old"], "seconds": time.monotonic() - started}
    shown = {key: round(value, 4) for key, value in found.items()}
    print(f"seed {bench.seed}  {name:12} {json.dumps(shown)}", flush=True)
    return found


def spread(values: list[float]) -> dict[str, float | None]:
    """Mean and the half-width of its 95 % interval over seeds; none for a single one."""
    n = len(values)
    half = T_95[n] * statistics.stdev(values) / math.sqrt(n) if n > 1 else None
    return {"mean": statistics.fmean(values), "half_width": half}


def summary(seeds: list[dict[str, Found]]) -> dict[str, Any]:
    """Of each arm: its forgetting, that as a share of naive's, and its new text against the best without replay."""
    blind = [name for name in seeds[0] if name in BLIND]
    return {
        name: {
            "forgetting": spread([arms[name]["forgetting"] for arms in seeds]),
            "share": spread([arms[name]["forgetting"] / arms["naive"]["forgetting"] for arms in seeds]),
            "new": spread([arms[name]["new"] - min(arms[other]["new"] for other in blind) for arms in seeds]),
            "wanted": WANTED.get(name),
        }
        for name in seeds[0]
    }


def tell(found: dict[str, Any]) -> Iterator[str]:
    for name, arm in found.items():
        wanted = f" (wanted: at most {100 * arm['wanted']:.0f})" if arm["wanted"] else ""
        limit = f" (wanted: at most +{WITHIN})" if arm["wanted"] else ""
        yield (
            f"{name}: forgets {_shown(arm['forgetting'])} bits per byte, {_shown(arm['share'], 100)} % of what naive "
            f"forgets{wanted}; the new text {_shown(arm['new'])} against the best arm without replay{limit}"
        )


def _shown(part: dict[str, float | None], scale: float = 1.0) -> str:
    mean, half = part["mean"] or 0.0, part["half_width"]
    return f"{scale * mean:.3g}" + ("" if half is None else f" +- {scale * half:.2g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a quarter of the tokens")
    parser.add_argument("--seeds", type=int, choices=range(1, 6), default=1)
    parser.add_argument("--law", type=Path, help="jsonl of Vietnamese, in place of the downloaded law")
    parser.add_argument("--ladder", choices=LADDER, help="SmolLM2-135M learns this")
    parser.add_argument("--tokens", type=int, help="of an arm of the ladder; four passes over the text by default")
    parser.add_argument("--rates", type=float, nargs="+", help="tried by each arm")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), metavar="NAME", help="naive among them")
    parser.add_argument("--llamafactory", metavar="COMMAND", help="its llamafactory-cli")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    given.arms = [name for name in ARMS if name in given.arms]  # those without replay first: they set the limit
    logging.disable(logging.WARNING)
    rates = {name: list(given.rates or RATES[bool(given.ladder)]) for name in given.arms}
    seeds = list[dict[str, Found]]()
    with tempfile.TemporaryDirectory() as name:
        for bench in benches(Path(name), given):
            seeds.append(compared(bench, given.arms, rates))
            print(*tell(found := summary(seeds)), sep="\n", flush=True)
            if given.json:
                given.json.write_text(json.dumps({"seeds": seeds, "summary": found}, indent=1) + "\n")


def benches(folder: Path, given: argparse.Namespace) -> Iterator[Bench]:
    """One for each seed."""
    if given.law:
        (folder / "law-vi.jsonl").write_bytes(given.law.read_bytes())
    if given.ladder:
        set_up(folder)
        {"vietnamese": lambda _: None, "russian": write_russian, "library": write_docstrings}[given.ladder](folder)
    else:
        torch.set_num_threads(1)
        write_english(folder)
        write_readmes(folder)
        write_law(folder, lambda *_: None)
    new = LADDER[given.ladder or "vietnamese"]
    measured = parted(folder, new)
    tokens = (BASE // 4 if given.quick else BASE) // 2
    if given.ladder:
        tokenizer = DocumentTokenizer.load(folder / MODEL, None)
        tokens = given.tokens or 4 * sum(map(len, tokenizer.encode_batch(read(folder / f"{new}.jsonl"))))
    for seed in range(given.seeds):
        base = folder / MODEL if given.ladder else small_base(folder, seed, 2 * tokens, measured)
        size = 24_000 if given.ladder and given.tokens else 60_000
        yield Bench(folder, base, new, tokens, measured, bool(given.ladder), seed, given.llamafactory, size)


if __name__ == "__main__":
    main()
