"""Several processes as one training: how they meet, how a model is shared out over them, and what each holds of it.

``ddp`` keeps the whole state on each rank. The word ``deepspeed`` runs as PyTorch's own FSDP2: up to stage 2 the
parameters are gathered once an update, at stage 3 layer by layer, forward and backward. Over several nodes the state
is sharded within a node and repeated on each, so that only gradients travel between them.

Weights stay fp32 wherever they are and autocast chooses the type of the products, as on one device: all of these
compute the same. (FSDP's own policy would gather half the bytes, and round the residual stream to bf16.)
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Shard
from torch.nn.parallel import DistributedDataParallel

from rewarm.models.causal import CausalModel
from rewarm.models.ranks import rank, world_size
from rewarm.recipe.hyperparameters import Hyperparameters
from rewarm.recipe.memory import KEPT_GRADIENTS

Store = Any  # torch declares its stores only where it was built with them
PATIENCE = timedelta(days=7)
"""One rank may wait long for another that waits for disk space; a dead one is noticed by whoever started them."""


def launched() -> bool:
    """Whether torchrun has started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ["WORLD_SIZE"]) > 1


def begun_again() -> bool:
    """Whether torchrun, which repeats the command as it was given, has started this process in place of another."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


def meeting(file: Path) -> Store:
    """Where the ranks of the environment meet: at a new file that all share."""
    return dist.FileStore(str(file), int(os.environ["WORLD_SIZE"]))  # type: ignore[attr-defined]


def call(word: str) -> Store:
    """Be the first of the ranks that torchrun has started: wait until each other one has heard ``word``.

    Where torchrun begins all ranks again, what the last ones have left still stands in its store. So each names
    itself anew, is called by that name, and answers; the store that is returned belongs to this meeting alone.
    """
    store, name, missing = _torchruns_store(), uuid.uuid4().hex, set(range(1, int(os.environ["WORLD_SIZE"])))
    while missing:
        for other in sorted(missing):
            if store.check([f"name-{other}"]):
                store.set(f"call-{store.get(f'name-{other}').decode()}", f"{word} {name}")
        missing = {other for other in missing if not store.check([f"{name}-{other}"])}
        time.sleep(0.1)
    return dist.PrefixStore(name, store)  # type: ignore[attr-defined]


def answer() -> tuple[str, Store]:
    """Be one of the others: wait for the first one's word; returns that and the store of the meeting."""
    store, me, number = _torchruns_store(), uuid.uuid4().hex, os.environ["RANK"]
    store.set(f"name-{number}", me)
    store.wait([f"call-{me}"], PATIENCE)
    word, name = store.get(f"call-{me}").decode().split()
    store.set(f"{name}-{number}", "here")
    return word, dist.PrefixStore(name, store)  # type: ignore[attr-defined]


def _torchruns_store() -> Store:
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    mine = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True" and os.environ["RANK"] == "0"
    store: Store = dist.TCPStore(host, port, is_master=mine, wait_for_workers=False, timeout=PATIENCE)  # type: ignore[attr-defined]
    return store


@contextlib.contextmanager
def joined(device_type: str, store: Store) -> Iterator[torch.device]:
    """Join the other ranks of the environment (RANK, WORLD_SIZE, LOCAL_RANK); yields this rank's device."""
    number, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if nodes() == 1:  # nothing of a training on one computer is to be reached from another
        loopback = "lo0" if sys.platform == "darwin" else "lo"
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", loopback)
    device = torch.device("cpu") if device_type == "cpu" else torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, store=store, rank=number, world_size=size, timeout=PATIENCE)
    yield device
    dist.destroy_process_group()  # not after an error: it could wait for the others


def nodes() -> int:
    """How many computers the ranks are spread over."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    return max(1, size // int(os.environ.get("LOCAL_WORLD_SIZE", str(size))))


def what_runs(given: Hyperparameters) -> str:
    """The kind of parallelism in words."""
    if world_size() == 1:
        return "one device"
    if given.distributed_backend == "ddp":
        return f"DDP over {world_size()} ranks"
    kind = (
        "parameters gathered layer by layer (ZeRO-3)" if given.zero_stage == 3 else "parameters gathered once (ZeRO-2)"
    )
    spread = f", within each of {nodes()} nodes" if nodes() > 1 else ""
    return f"FSDP2 over {world_size()} ranks{spread}, {kind}"


def shard(model: CausalModel, given: Hyperparameters) -> nn.Module:
    """Share ``model`` out over the ranks; returns what to call in training, ``model`` itself but for DDP.

    The embedding, the last norm and the head belong to the root, together: a tied weight is one parameter there,
    and the loss, which reads it, is computed inside the root's forward pass.
    """
    if world_size() == 1:
        return model
    device = next(model.parameters()).device
    if given.distributed_backend == "ddp":
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated")  # its heir came with torch 2.13
        # DDP orders its buckets anew after the first update unless it looks for unused parameters. A resumed training
        # would then add in another order than one that went on: on a CPU, equal to the last bit is promised.
        exact = device.type == "cpu"
        return DistributedDataParallel(
            model, broadcast_buffers=False, gradient_as_bucket_view=True, find_unused_parameters=exact
        )
    shape: tuple[int, ...] = (world_size(),)
    names: tuple[str, ...] = ("shard",)
    if nodes() > 1:
        shape, names = (nodes(), world_size() // nodes()), ("repeat", "shard")
    mesh = init_device_mesh(device.type, shape, mesh_dim_names=names)
    for module in (*model.layers(), model):
        fully_shard(module, mesh=mesh, reshard_after_forward=given.zero_stage == 3)
    return model


@contextlib.contextmanager
def accumulating(network: nn.Module, last: bool) -> Iterator[None]:
    """A forward and backward pass after which gradients are shared only if it is the ``last`` of the update."""
    if isinstance(network, DistributedDataParallel):
        with contextlib.nullcontext() if last else network.no_sync():
            yield
        return
    if isinstance(network, FSDPModule):
        small = sum(p.numel() for p in network.parameters() if p.requires_grad) <= KEPT_GRADIENTS
        network.set_requires_gradient_sync(last or not small)
    yield


def reshard(model: nn.Module) -> None:
    """Give back what a forward pass without a backward pass has left gathered.

    Until then the model's parameters are whole copies, which the optimizer does not know.
    """
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def local(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def rows_here(tensor: Tensor) -> tuple[int, int]:
    """The rows (along the first dimension, half-open) of a parameter that this rank holds."""
    if not isinstance(tensor, DTensor):
        return 0, (tensor.shape[0] if tensor.ndim else 1)
    (dimension,) = (i for i, placement in enumerate(tensor.placements) if isinstance(placement, Shard))
    mesh = tensor.device_mesh
    part = -(-tensor.shape[0] // mesh.size(dimension))
    first = min(tensor.shape[0], part * mesh.get_local_rank(dimension))
    return first, min(tensor.shape[0], first + part)


def like(parameter: Tensor, part: Tensor) -> Tensor:
    """``part``, rows ``rows_here`` of a tensor of the parameter's shape, laid out as the parameter is."""
    if not isinstance(parameter, DTensor):
        return part
    return DTensor.from_local(
        part, parameter.device_mesh, parameter.placements, shape=parameter.shape, stride=parameter.stride()
    )


def writers(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parameters of which this rank writes what it holds: of copies one, shared out evenly by bytes."""
    sizes = [tensor.numel() for tensor in parameters.values()]
    done, mine = 0, dict[str, Tensor]()
    for (name, tensor), size in zip(parameters.items(), sizes, strict=True):
        if isinstance(tensor, DTensor):
            copies = [i for i, placement in enumerate(tensor.placements) if not isinstance(placement, Shard)]
            take = all(tensor.device_mesh.get_local_rank(i) == 0 for i in copies)
        else:
            take = done * world_size() // max(1, sum(sizes)) == rank()
        done += size
        if take:
            mine[name] = tensor
    return mine
