"""The machine that a training ran on: what it is, and how busy it was."""

import os
import platform
import re
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

_PACKAGES = ("kinetrack", "torch", "torchvision", "numpy", "pillow", "av", "dvc", "mlflow")


def host_facts() -> dict[str, str]:
    """Return tags on the machine and on the versions of what a result depends on.

    No name of the machine or of its network: runs are shared.
    """
    facts = {
        "host.system": f"{platform.system()} {platform.machine()}",
        "host.processor": _processor(),
        "host.cores": str(os.cpu_count() or 0),
        "host.memory_gb": str(round(psutil.virtual_memory().total / 2**30)),
        "version.python": platform.python_version(),
    }
    for package in _PACKAGES:
        try:
            facts[f"version.{package}"] = version(package)
        except PackageNotFoundError:  # kinetrack itself, run from its sources
            continue
    return facts


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    found = (
        re.search(r"^model name\s*:\s*(.+)$", path.read_text(), re.M) if path.is_file() else None
    )
    return found[1].strip() if found else platform.processor() or "unknown"


class SystemMonitor:
    """Use of processor, memory, disk and GPU, under the names that MLflow's pages group."""

    def __init__(self) -> None:
        self._monitors: list[Any] | None = None  # MLflow's, without types

    def sample(self) -> dict[str, float]:
        """Return `system/...` metrics: the processor's mean since the last time, else of now."""
        if self._monitors is None:
            self._monitors = _make_monitors()
        metrics: dict[str, float] = {}
        for monitor in self._monitors:
            with suppress(Exception):  # a driver that fails is no reason to end a training
                monitor.collect_metrics()
                found = monitor.aggregate_metrics()
                metrics |= {f"system/{key}": float(value) for key, value in found.items()}
                monitor.clear_metrics()
        return metrics


def _make_monitors() -> list[Any]:
    from mlflow.system_metrics.metrics import cpu_monitor, disk_monitor, gpu_monitor

    modules: list[Any] = [cpu_monitor, disk_monitor, gpu_monitor]
    monitors = [modules[0].CPUMonitor(), modules[1].DiskMonitor()]
    with suppress(Exception):  # no NVIDIA GPU, no nvidia-ml-py, or a driver that fails
        monitors.append(modules[2].GPUMonitor())
    return monitors
