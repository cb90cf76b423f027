"""How busy this computer is, and how busy one process and its children are: what a run and the Studio sample.

Names begin with ``system/``. Those of a run's own share begin with ``system/run/``; Linux does not say which process
sends what over the network, so that is the computer's alone.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

SAMPLE_SECONDS = 10.0
JOULES = "system/run/joules"
"""What the GPUs of a run have used since it began."""


class Meter:
    """Reads the computer's counters; rates are since the reading before, so that the first has none.

    Args:
        folder: the disk that holds it is looked at.
        process: sample this process with its children, too, and of the GPUs those that it sees alone.
        joules: what its GPUs used before.
    """

    def __init__(self, folder: Path, process: int | None = None, joules: float = 0.0) -> None:
        self.folder = folder
        self.joules = joules
        self._process = None if process is None else psutil.Process(process)
        self._before: dict[str, float] = {}
        self._at = 0.0

    def read(self) -> dict[str, float]:
        """Values by name: percent (of the whole computer), bytes, bytes per second, watts, joules."""
        now = time.monotonic()
        seconds, counters = now - self._at, _counters()
        disk, memory = psutil.disk_usage(str(self.folder)), psutil.virtual_memory()
        values = {"system/memory_bytes": float(memory.total - memory.available), "system/disk_bytes": float(disk.used)}
        if self._process is not None:
            with contextlib.suppress(psutil.Error):
                values["system/run/memory_bytes"] = _add_process(self._process, counters)
        values |= self._gpus(counters)
        if self._before:
            cores = psutil.cpu_count() or 1
            for name in counters.keys() & self._before.keys():
                grown = max(0.0, counters[name] - self._before[name])
                if name.endswith("joules"):
                    self.joules += grown
                elif name.endswith("cpu_percent"):
                    values[name] = min(100.0, 100 * grown / seconds / cores)
                else:
                    values[name] = grown / seconds
            if self._process is not None and any("joules" in name for name in counters):
                values[JOULES] = self.joules
        self._before, self._at = counters, now
        return values

    def _gpus(self, counters: dict[str, float]) -> dict[str, float]:
        import pynvml  # only where something is sampled

        values: dict[str, float] = {}
        for name, handle in _handles(alone=self._process is not None):
            with contextlib.suppress(pynvml.NVMLError):
                values[f"{name}/percent"] = float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
                values[f"{name}/memory_bytes"] = float(pynvml.nvmlDeviceGetMemoryInfo(handle).used)
            with contextlib.suppress(pynvml.NVMLError):
                values[f"{name}/watts"] = pynvml.nvmlDeviceGetPowerUsage(handle) / 1000
                counters[f"{name}/joules"] = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000
        return values


def _counters() -> dict[str, float]:
    """What the computer counts up since it was started; seconds of all cores where it is a percentage."""
    cpu, disk, network = psutil.cpu_times(), psutil.disk_io_counters(), psutil.net_io_counters()
    idle = cpu.idle + getattr(cpu, "iowait", 0.0)
    guests = getattr(cpu, "guest", 0.0) + getattr(cpu, "guest_nice", 0.0)  # counted in user and nice already
    counters = {"system/cpu_percent": sum(cpu) - guests - idle}
    if disk is not None:
        counters["system/disk_read_bytes_per_second"] = float(disk.read_bytes)
        counters["system/disk_written_bytes_per_second"] = float(disk.write_bytes)
    if network is not None:
        counters["system/network_received_bytes_per_second"] = float(network.bytes_recv)
        counters["system/network_sent_bytes_per_second"] = float(network.bytes_sent)
    return counters


def _add_process(process: psutil.Process, counters: dict[str, float]) -> float:
    """Add what a process and its children have used; return the bytes of memory that they hold now."""
    cpu = memory = read = written = 0.0
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.Error, AttributeError):  # one has ended meanwhile; macOS counts no io
            times, held = one.cpu_times(), one.memory_info()
            # Children that have ended count with their parent; pages that children share count once.
            cpu += times.user + times.system + times.children_user + times.children_system
            memory += held.rss if one is process else held.rss - getattr(held, "shared", 0)
            io = one.io_counters()
            read, written = read + io.read_bytes, written + io.write_bytes
    counters["system/run/cpu_percent"] = cpu
    counters["system/run/disk_read_bytes_per_second"] = read
    counters["system/run/disk_written_bytes_per_second"] = written
    return memory


def _handles(alone: bool) -> Iterator[tuple[str, Any]]:
    """The GPUs, each with its name here; ``alone``: those that this process sees."""
    import pynvml

    try:
        pynvml.nvmlInit()  # counted: it costs nothing where it was done before
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError:  # no driver
        return
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") if alone else None
    wanted = [str(number) for number in range(count)] if visible is None else visible.split(",")
    for number in range(count):
        if str(number) in (name.strip() for name in wanted):
            yield f"system/gpu-{number}", pynvml.nvmlDeviceGetHandleByIndex(number)
