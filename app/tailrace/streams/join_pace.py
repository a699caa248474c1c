"""How often the join of one partition commits, and tells the others how far it is.

Of many partitions each does so less often: brokers see no more commits than of a few, and marks, of which each goes to
all other partitions, grow with the number of partitions and not with its square. Pure.
"""

from __future__ import annotations

_COMMIT_EVERY_S = 0.2
_MARK_EVERY_S = 1.0
_MARK_MOST_S = 4.0  # what waits for a mark is decided so much later: an event without a label, above all
_FEW_PARTITIONS = 4


def commit_every_s(partitions: int, *, on_disk: bool, was_refused: bool) -> float:
    """Return the seconds from one commit of a partition to the next.

    Args:
        on_disk: Its waiting room is on disk: what is not committed stays in memory, so that commits are not put off.
        was_refused: The last one was: whether the partition has gone to another member should be known soon.
    """
    return _COMMIT_EVERY_S if on_disk or was_refused else _COMMIT_EVERY_S * _share(partitions)


def mark_every_s(partitions: int, *, is_held: bool) -> float:
    """Return the seconds from one mark of a partition to the next.

    Args:
        is_held: It holds as many records as it may, and goes on as the marks of others come.
    """
    return _MARK_EVERY_S if is_held else min(_MARK_MOST_S, _MARK_EVERY_S * _share(partitions))


def _share(partitions: int) -> float:
    return max(1.0, partitions / _FEW_PARTITIONS)
