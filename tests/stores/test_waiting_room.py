"""The waiting room on disk answers as the one in memory, whatever is written when."""

from __future__ import annotations

import pytest
from tests.stores.two_joins import TwoJoins


@pytest.mark.parametrize("seed", range(40))
def test_disk_and_memory_write_the_same_blocks_after_any_restart(seed, tmp_path):
    """Every batch is equal to the byte, every vector to the last move; the disk is made again from where it stood.

    Fails when an identity, an early label or a watermark is lost, doubled or kept past its time in either form.
    """
    joins = TwoJoins(seed, tmp_path)

    for _ in range(400):
        joins.step()

    assert joins.restarts > 0
    assert len(joins.log) > 10
