"""The constants of `tailrace size` are those that were measured."""

from __future__ import annotations

import json

import pytest
from benchmarks.report import FOLDER

from tailrace.domain import sizing

MEASURED = FOLDER / "sizing.json"


@pytest.mark.parametrize("role", ["score", "join", "learn"])
def test_a_constant_is_what_was_measured(role: str):
    measured = json.loads(MEASURED.read_text())["roles"][role]

    assert (measured["fixed_us"], measured["feature_us"]) == getattr(sizing, role.upper())
