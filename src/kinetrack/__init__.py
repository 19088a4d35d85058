"""Kinetrack: folders of action videos into a trained, tracked, reproducible action recogniser."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # By name and late: every stage imports this package, and must not drag the rest in.
    if name == "load":
        return import_module("kinetrack.using.loading").load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
