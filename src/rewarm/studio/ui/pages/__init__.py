"""The pages, one file for each place in the navigation: a new file here is a new page."""

from __future__ import annotations

import importlib
import pkgutil


def register() -> None:
    """Make NiceGUI know all pages, once in a process."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
