"""Finds the function of a model that is given as `module:function`: yours, beside the configuration or installed."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path


def importer(folder: Path) -> Callable[[str], Callable[[], object]]:
    """Return what imports the function that "module:function" names.

    Args:
        folder: Of the configuration; modules beside it are found first. It stays on the path of this process, since
            a module may import its neighbours later.
    """

    def function_of(text: str) -> Callable[[], object]:
        """Import it; raises what the import raises, and AttributeError or TypeError when there is no such function."""
        module, _, name = text.partition(":")
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
            importlib.invalidate_caches()
        function: object = getattr(importlib.import_module(module), name)
        if not callable(function):
            raise TypeError(f"{name} is no function")
        return function

    return function_of
