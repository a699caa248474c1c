"""Whether a partition holds what is asked of it."""

from __future__ import annotations

from tailrace.domain.errors import ForeignLogError
from tailrace.streams.log import Range, TopicPartition


def check_start(partition: TopicPartition, start: int, held: Range) -> None:
    """Refuse to read from an offset that a partition does not hold.

    Raises:
        ForeignLogError: `start` lies outside of the range.
    """
    if not held.start <= start <= held.end:
        raise ForeignLogError(
            f"offset {start} of {partition.topic}/{partition.partition} is asked for; the log holds "
            f"{held.start} to {held.end}. It was truncated or created anew, or it is another log: "
            "restore the topic, or start the loop anew under another name"
        )
