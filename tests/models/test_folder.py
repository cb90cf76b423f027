"""Bad model folders: each refused by name, fast, in little memory, and without running anything of theirs."""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save_file
from transformers import AutoModelForCausalLM

from rewarm.core.errors import ModelError
from rewarm.core.manifest import write_manifest
from rewarm.models import folder as module
from rewarm.models.folder import check_folder, count_parameters, fetch, fingerprint, read_header

from .conftest import MakeModel, save_tokenizer


def edit(path: Path, **values: Any) -> None:
    content = json.loads(path.read_text())
    content.update(values)
    path.write_text(json.dumps(content))


def rename(old: str, new: str) -> Callable[[Path], None]:
    return lambda folder: (folder / old).rename(folder / new) and None


def remove(*names: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return spoil


def configure(**values: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "config.json", **values)


def write(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def weights(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(change(path.read_bytes()))

    return spoil


def header(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def spoil(data: bytes) -> bytes:
        length = struct.unpack("<Q", data[:8])[0]
        content = json.loads(data[8 : 8 + length])
        change(content)
        new = json.dumps(content).encode()
        return struct.pack("<Q", len(new)) + new + data[8 + length :]

    return weights(spoil)


def flip(folder: Path) -> None:
    write_manifest(folder, {"kind": "model"})
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))


def index(**placed: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "a.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))

    return spoil


def overlap(content: dict[str, Any]) -> None:
    names = [name for name in content if name != "__metadata__"]
    content[names[1]]["data_offsets"] = content[names[0]]["data_offsets"]


def duplicate(data: bytes) -> bytes:
    """The header's first tensor a second time under its name, with the place of the second tensor."""
    length = struct.unpack("<Q", data[:8])[0]
    content = json.loads(data[8 : 8 + length])
    first, second = [name for name in content if name != "__metadata__"][:2]
    again = json.dumps({first: content[second]})[1:-1].encode()
    header = data[8 : 8 + length].rstrip(b" }") + b"}, " + again + b"}"
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


def link(name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to("/etc/passwd")

    return spoil


def quantise(folder: Path) -> None:
    path = folder / "model.safetensors"
    save_file({name: tensor.to(torch.int8) for name, tensor in load(path.read_bytes()).items()}, path)


def as_pickle(folder: Path) -> None:
    path = folder / "model.safetensors"
    torch.save(load(path.read_bytes()), path)


def extra_layer(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load(path.read_bytes())
    layer = {k: t.clone() for k, t in tensors.items() if k.startswith("model.layers.1.")}
    save_file(tensors | {k.replace("layers.1.", "layers.2."): t for k, t in layer.items()}, path, {"format": "pt"})


def nested_code(folder: Path) -> None:
    edit(folder / "config.json", text_config={"auto_map": {"AutoModel": "evil.Evil"}})


NORM = "model.norm.weight"
BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "no config": (remove("config.json"), "no config.json"),
    "config is no JSON": (write("config.json", b"{'a': 1"), "is not JSON"),
    "config is a list": (write("config.json", b"[1]"), "JSON object"),
    "no tokenizer": (remove("tokenizer.json"), "no tokenizer"),
    "sentencepiece only": (rename("tokenizer.json", "tokenizer.model"), r"only tokenizer.model[\s\S]*save_pretrained"),
    "tokenizer empty": (write("tokenizer.json", b""), "is not JSON"),
    "tokenizer without vocabulary": (write("tokenizer.json", b'{"model": {}}'), "no vocabulary"),
    "tokenizer too large": (lambda folder: save_tokenizer(folder, 140), "token 139, the embedding has 131"),
    "added token beyond": (
        lambda folder: edit(folder / "tokenizer.json", added_tokens=[{"id": 999, "content": "<x>"}]),
        "token 999",
    ),
    "special id beyond": (configure(eos_token_id=[2, 400]), "eos_token_id is 400"),
    "no weights": (remove("model.safetensors"), "no weights"),
    "pickle by name": (rename("model.safetensors", "pytorch_model.bin"), r"pickles \(pytorch_model.bin\)"),
    "ckpt by name": (rename("model.safetensors", "model.ckpt"), "pickles"),
    "zip pickle under a good name": (as_pickle, "is a pickle"),
    "plain pickle under a good name": (write("model.safetensors", pickle.dumps({"a": 1})), "is a pickle"),
    "code in config": (configure(auto_map={"AutoModelForCausalLM": "evil.Evil"}), "auto_map"),
    "code in a nested config": (nested_code, "auto_map"),
    "code in the tokenizer": (
        lambda folder: edit(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", None]}),
        "auto_map",
    ),
    "index out of the folder": (index(**{NORM: "../x.safetensors"}), "no .safetensors file beside"),
    "index names a pickle": (index(**{NORM: "a.bin"}), "no .safetensors file beside"),
    "index names a missing shard": (index(**{NORM: "b.safetensors"}), "missing"),
    "index names an absent tensor": (index(**{"model.more.weight": "a.safetensors"}), "in none of the shards"),
    "index is empty": (index(), "no shards"),
    "weights cut": (weights(lambda data: data[:-7]), "damaged or cut"),
    "weights of 5 bytes": (weights(lambda data: data[:5]), "damaged or cut"),
    "weights empty": (weights(lambda data: b""), "damaged or cut"),
    "header of 2**63 bytes": (weights(lambda data: struct.pack("<Q", 2**63) + data[8:]), "damaged or cut"),
    "header cut": (weights(lambda data: data[:100]), "damaged or cut"),
    "header no JSON": (weights(lambda data: data[:8] + b"x" + data[9:]), "damaged or cut"),
    "overlapping tensors": (header(overlap), "place of"),
    "duplicate key": (weights(duplicate), "place of"),
    "weights that lead to /etc": (link("model.safetensors"), "damaged or cut"),
    "a tokenizer that leads to /etc": (link("tokenizer.json"), "is not JSON"),
    "shard renamed": (
        lambda f: [spoil(f) for spoil in (index(**{NORM: "a.safetensors"}), rename("a.safetensors", "b.safetensors"))],
        "missing",
    ),
    "negative shape": (header(lambda content: content[NORM].update(shape=[-32])), "entry"),
    "offsets missing": (header(lambda content: content[NORM].pop("data_offsets")), "entry"),
    "flipped byte": (flip, "SHA-256"),
    "manifest damaged": (write("manifest.json", b"{"), "is not JSON"),
    "quantised by config": (configure(quantization_config={"quant_method": "gptq"}), "quantised"),
    "quantised by weights": (quantise, r"quantised \(I8\)"),
    "unknown family": (configure(model_type="lama"), "with model_type 'lama'; the nearest is 'llama'"),
    "no family": (configure(model_type=None), "no causal language model"),
    "clip": (configure(model_type="clip"), "no causal language model with model_type 'clip'"),
    "t5": (configure(model_type="t5", is_encoder_decoder=True), "no causal language model"),
    "bert": (configure(model_type="bert"), "bert is an encoder"),
    "bart": (configure(model_type="bart", is_encoder_decoder=True), "bart is an encoder"),
    "heads that do not divide": (configure(num_attention_heads=5, num_key_value_heads=5), "5 heads of 8 do not fit"),
    "heads in odd groups": (configure(num_key_value_heads=3), "4, no multiple of the 3"),
    "heads of no given width": (configure(num_attention_heads=6, head_dim=None), "6 heads do not fit q_proj of 32"),
    "unknown activation": (configure(hidden_act="sillu"), "'sillu', which transformers does not know;.* silu"),
    "positions below zero": (configure(max_position_embeddings=-5), "max_position_embeddings is -5"),
    "untied without a head": (configure(tie_word_embeddings=False), "no output head"),
    "text_config in words": (configure(text_config="x"), "text_config"),
    "text_config as a list": (configure(text_config=[1]), "text_config"),
    "nested deeply": (configure(auto_mapp=json.loads("[" * 900 + '{"auto_map": 1}' + "]" * 900)), "auto_map"),
    "added tokens in words": (lambda folder: edit(folder / "tokenizer.json", added_tokens=5), "vocabulary is damaged"),
    "added tokens as numbers": (lambda f: edit(f / "tokenizer.json", added_tokens=[5]), "vocabulary is damaged"),
    "fewer layers": (configure(num_hidden_layers=1), "num_hidden_layers is 1, but the weights have 2"),
    "layers ahead in words": (configure(num_nextn_predict_layers="one"), "num_nextn_predict_layers is 'one'"),
    "more layers in the weights": (extra_layer, "num_hidden_layers is 2, but the weights have 3"),
    "1e9 layers": (configure(num_hidden_layers=10**9), "num_hidden_layers is 1000000000, but the weights have 2"),
    "0 layers": (configure(num_hidden_layers=0), "num_hidden_layers is 0"),
    "layers in words": (configure(num_hidden_layers="two"), "num_hidden_layers is 'two'"),
    "1e9 wide": (configure(hidden_size=10**9), "hidden_size"),
    "1e12 tokens": (configure(vocab_size=10**12), "vocab_size"),
    "adapter only": (rename("config.json", "adapter_config.json"), "adapter, not a model"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_folders_are_refused(make_model: MakeModel, case: str) -> None:
    folder = make_model(tie_word_embeddings=True)
    check_folder(folder)
    spoil, message = BAD[case]
    spoil(folder)
    start = time.perf_counter()
    with pytest.raises(ModelError, match=message) as caught:
        check_folder(folder)
    assert time.perf_counter() - start < 5
    assert caught.value.where is not None and caught.value.remedy is not None


def test_ten_thousand_files_beside_a_model_are_no_matter(make_model: MakeModel) -> None:
    folder = make_model()
    for number in range(10_000):
        (folder / f"{number}.json").write_bytes(b"{}")
    start = time.perf_counter()
    check_folder(folder)
    assert time.perf_counter() - start < 5


def test_s6_s7_a_canary_in_pickle_or_code_never_runs(make_model: MakeModel, tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (canary,))

    folder = make_model()
    (folder / "model.safetensors").write_bytes(pickle.dumps(Evil()))
    (folder / "evil.py").write_text(f"open({str(canary)!r}, 'w')")
    edit(folder / "config.json", auto_map={"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"})
    with pytest.raises(ModelError):
        check_folder(folder)
    assert not canary.exists()


def test_no_such_folder(tmp_path: Path) -> None:
    for look in (check_folder, lambda path: fetch(str(path))):
        with pytest.raises(ModelError, match="no such folder"):
            look(tmp_path / "absent")


def test_a_hub_id_is_not_a_folder_of_where_the_command_is_given(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_model(name="some/model")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("rewarm.models.download.download", lambda model, progress, **_: Path("/downloaded") / model)
    assert fetch("some/model") == Path("/downloaded/some/model")
    assert fetch("./some/model") == Path("some/model")
    assert fetch("~/some/model") == tmp_path / "some/model"


def test_good_folders_pass_and_are_counted(make_model: MakeModel) -> None:
    tied = make_model("qwen3", name="tied", tie_word_embeddings=True)
    model = AutoModelForCausalLM.from_pretrained(tied)
    assert check_folder(tied)["model_type"] == "qwen3"
    assert count_parameters(tied) == model.num_parameters()
    assert fetch(str(tied)) == tied
    model.save_pretrained(tied, max_shard_size="10KB")
    (tied / "model.safetensors").unlink(missing_ok=True)
    assert len(list(tied.glob("model-*.safetensors"))) > 1
    check_folder(tied)
    assert count_parameters(tied) == model.num_parameters()
    write_manifest(tied, {"kind": "model"})
    check_folder(tied)
    (tied / "manifest.json").write_text('{"a manifest": "of somebody else"}')
    check_folder(tied)


def test_hashes_are_compared_unless_told_not_to(make_model: MakeModel) -> None:
    folder = make_model()
    flip(folder)
    with pytest.raises(ModelError, match="SHA-256"):
        check_folder(folder)
    check_folder(folder, hashes=False)


def test_header_agrees_with_the_library(make_model: MakeModel) -> None:
    path = make_model(dtype=torch.bfloat16) / "model.safetensors"
    found = {name: (tensor.dtype, tensor.shape) for name, tensor in read_header(path).items()}
    assert found == {name: ("BF16", tuple(tensor.shape)) for name, tensor in load(path.read_bytes()).items()}


def test_fingerprint_follows_what_makes_the_model(make_model: MakeModel) -> None:
    folder = make_model()
    before = fingerprint(folder)
    (folder / "README.md").write_text("a card")
    (folder / "lineage.json").write_text("{}")
    write_manifest(folder, {})
    assert fingerprint(folder) == before
    flip(folder)
    assert fingerprint(folder) != before


def test_layers_for_more_tokens_ahead_may_be_counted_on(make_model: MakeModel) -> None:
    folder = make_model()
    extra_layer(folder)
    edit(folder / "config.json", num_nextn_predict_layers=1)
    check_folder(folder)
    edit(folder / "config.json", num_hidden_layers=3)  # a version of ours, from which they are gone
    check_folder(folder)


@pytest.mark.timeout(60)  # a pipe has no end
def test_only_regular_files_are_read(make_model: MakeModel) -> None:
    folder = make_model()
    before = fingerprint(folder)
    for name in ("x.json", "x_config.json"):
        os.mkfifo(folder / name)
    (folder / "extra_config.json").mkdir()
    (folder / "extra.json").mkdir()
    (folder / "x.txt").symlink_to("absent")
    check_folder(folder)
    assert fingerprint(folder) == before


UNREADABLE = """
import sys
from pathlib import Path
from rewarm.core.errors import ModelError
from rewarm.models.folder import check_folder, fetch, fingerprint
folder = Path(sys.argv[1])
for path in (*sorted(folder.iterdir()), folder):
    mode = path.stat().st_mode
    path.chmod(0)
    for look in (check_folder, fingerprint, lambda folder: fetch(str(folder / "deeper"))):
        try:
            look(folder)
        except ModelError as error:
            print(path.name, error.where, "cannot be read: Permission denied" in error.what, bool(error.remedy))
    path.chmod(mode)
"""


def test_what_may_not_be_read_is_named(make_model: MakeModel) -> None:
    bound = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    folder = make_model()
    done = subprocess.run(
        [*bound, sys.executable, "-c", UNREADABLE, folder], capture_output=True, text=True, timeout=100, check=True
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    named = {name for name, where, *said in lines if Path(where).name == name and said == ["True", "True"]}
    assert named >= {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    }
    assert [Path(where).parent for name, where, *said in lines if name == folder.name and said == ["True", "True"]]


def test_unchanged_files_are_hashed_once_in_a_process(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, read = make_model(), []
    write_manifest(folder, {"kind": "model"})
    hash_file = module.sha256_file
    monkeypatch.setattr(module, "sha256_file", lambda path: read.append(path) or hash_file(path))
    monkeypatch.setattr(module, "_SETTLED", 0)
    before = fingerprint(folder)
    first = len(read)
    check_folder(folder)
    assert fingerprint(folder) == before and len(read) == first > 0
    (folder / "config.json").touch()
    assert fingerprint(folder) == before and len(read) == first + 1


def test_a_changed_byte_shows_at_once_even_under_the_old_date(make_model: MakeModel) -> None:
    folder = make_model()
    path = folder / "model.safetensors"
    old = path.stat()
    seen = {fingerprint(folder)}
    for place in range(1, 20):
        with path.open("r+b") as file:
            file.seek(-place, os.SEEK_END)
            byte = file.read(1)
            file.seek(-place, os.SEEK_END)
            file.write(bytes([byte[0] ^ 1]))
        os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
        seen.add(fingerprint(folder))
    assert len(seen) == 20
