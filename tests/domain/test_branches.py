"""A branch knows its lineage and refuses a body of another."""

from __future__ import annotations

import pytest

from tailrace.domain.branches import BranchState
from tailrace.domain.errors import SnapshotRefused


def test_a_branch_comes_back_from_its_plain_form() -> None:
    branch = BranchState(object(), "lineage", learned=7, skipped=1)

    assert branch == BranchState.load(branch.dump(), "lineage")


def test_a_body_of_another_lineage_is_refused() -> None:
    plain = BranchState(object(), "older").dump()

    with pytest.raises(SnapshotRefused, match="is of lineage older, this loop folds lineage") as caught:
        BranchState.load(plain, "lineage")
    assert "lineage" == caught.value.reason
