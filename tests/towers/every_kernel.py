"""Every kernel of the product, as numba sees it."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from numba.core.dispatcher import Dispatcher

import towers


def every_kernel() -> dict[str, Dispatcher[Any]]:
    """By its module's name and its own."""
    found = {}
    for module in pkgutil.walk_packages(towers.__path__, "towers."):
        if "__main__" not in module.name:
            for name, value in vars(importlib.import_module(module.name)).items():
                if isinstance(value, Dispatcher) and value.py_func.__module__ == module.name:
                    found[f"{module.name}.{name}"] = value
    return found
