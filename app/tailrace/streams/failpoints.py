"""Named places at which a process may be killed by a test: between every acknowledgement and what follows it.

`reached` does nothing unless a test has set `hook`. Each name below stands once in the code. At a place that ends in
`_sent` something is on its way and not acknowledged yet. Those of `store.` are steps of one put, told by the store.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

NAMES: Final = (
    "score.predictions_acknowledged",
    "score.scored_acknowledged",
    "join.owner_read",
    "join.claim_committed",
    "join.claim_acknowledged",
    "join.side_acknowledged",
    "join.block_sent",
    "join.block_acknowledged",
    "join.committed",
    "join.kept",
    "learn.block_folded",
    "learn.snapshot_encoded",
    "learn.snapshot_signed",
    "store.half_written",
    "store.written",
    "learn.snapshot_stored",
    "learn.snapshot_sent",
    "learn.snapshot_indexed",
)

hook: Callable[[str], None] | None = None


def reached(name: str) -> None:
    """Tell the hook, if there is one, that this place was reached."""
    if hook is not None:
        hook(name)
