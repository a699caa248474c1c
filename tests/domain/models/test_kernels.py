"""How kernels are compiled, where they can be."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tailrace.domain.models import kernels
from tailrace.domain.models.kernels import compiler_of, numba_or_none, run


def kernel(x: Any, factor: float) -> float:
    return x[0] * factor


class Compiled:
    """Like what numba makes of a function."""

    def __init__(self, function: Callable[..., float]) -> None:
        self.py_func = function

    def __call__(self, *arguments: Any) -> Any:
        return type(arguments[0]).__name__, self.py_func(*arguments)


def njit(function: Any = None, **options: Any) -> Any:
    if options:
        raise RuntimeError("cannot cache function: no locator available")
    return Compiled(function)


def test_a_broken_numba_is_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_name: str) -> Any:
        raise OSError("libllvmlite.so: cannot open shared object file")

    monkeypatch.setattr(kernels, "import_module", broken)

    assert numba_or_none() is None


def test_without_numba_a_kernel_is_plain_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)

    assert numba_or_none() is None
    assert kernel is compiler_of(None)(kernel)
    assert 3.0 == run(kernel, np.array([1.5]), 2.0)


def test_plain_python_overflows_silently() -> None:
    assert float("inf") == run(kernel, np.array([1e308]), 1e10)


def test_with_numba_it_is_compiled_and_kept_for_later_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    numba = SimpleNamespace(njit=lambda **options: asked.append(options) or Compiled)
    monkeypatch.setitem(sys.modules, "numba", numba)

    made = compiler_of(numba_or_none())(kernel)

    assert [{"cache": True}] == asked
    assert ("ndarray", 3.0) == run(made, np.array([1.5]), 2.0)


def test_where_no_folder_can_be_written_every_process_compiles_for_itself() -> None:
    made = compiler_of(SimpleNamespace(njit=njit))(kernel)

    assert ("ndarray", 3.0) == run(made, np.array([1.5]), 2.0)


def test_what_cannot_be_kept_for_later_processes_is_no_error() -> None:
    class Full:
        asked = 0

        def save_overload(self, *_: Any) -> None:
            self.asked += 1
            raise OSError(28, "No space left on device")

    cache = Full()
    made: Any = compiler_of(SimpleNamespace(njit=lambda **_: lambda _: SimpleNamespace(_cache=cache)))(kernel)

    made._cache.save_overload("signature", "code")

    assert 1 == cache.asked
