"""Erasure: the training log written anew without what the filter of one branch leaves out.

Every record keeps its offset and every row its place, so that positions go on meaning what they meant: vectors,
skips, predictions. Of an erased row only what the books need is left, where it came from and that it was there; its
id, features, target and what was served are gone. In the new log the filter of the branch names no event, and it comes
to the same model, byte for byte, because a fold passes erased rows over as the filter did.

Other branches have learned what is erased, so the new log does not admit them.

A joiner that takes over reads events again from the lowest position that still waits, and knows by the rows of the
log which of them are settled. An event that it would read again must therefore not be erased yet (`Erasure.too_early`).
"""

from __future__ import annotations

from dataclasses import replace
from math import nan
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tailrace.domain.blocks import (
    ERASED,
    Corrections,
    Dropped,
    Examples,
    ScoredBlock,
    Served,
    TrainingBlock,
    Vector,
    XColumns,
)
from tailrace.domain.branches import Branch, hash_of_id
from tailrace.domain.notices import Identity, LogRecord, Notices, dropped_rows, erased_rows
from tailrace.domain.ownership import OwnershipState
from tailrace.domain.positions import position_of
from tailrace.domain.records import Admit, Claim, Skip

Source: TypeAlias = tuple[int, int]
"""Partition and offset in the events topic."""


class Erasure:
    """Rewrites the records of one log, in order.

    Args:
        branch: Whose filter says what is erased.
        notices: Of the whole log.
        log_id: Of the new log.
        digest: Of the body of `survivor` before it has learned anything.

    Attributes:
        survivor: The branch as the new log defines it.
        erased: Events whose example is gone.
        sources: Where the erased rows came from, in the events topic.
        vectors: Partition of `scored` → the last accepted vector.
        rows: How many rows were erased, of any kind.
    """

    def __init__(self, branch: Branch, notices: Notices, log_id: str, digest: str) -> None:
        self.survivor = survivor_of(branch)
        self.erased: set[Identity] = set()
        self.sources: set[Source] = set()
        self.vectors: dict[int, Vector] = {}
        self._owned = OwnershipState()
        self.rows = 0
        self._branch = branch
        self._notices = notices
        self._log_id = log_id
        self._digest = digest

    def rewrite(self, offset: int, record: LogRecord) -> LogRecord:
        """Return the record that stands in the place of this one."""
        if isinstance(record, TrainingBlock):
            if self._owned.accept(record.partition, record.owner, record.number):
                self.vectors[record.partition] = record.vector
            return self._block(offset, record)
        if isinstance(record, Claim):
            self._owned.claim(record)
            return replace(record, log_id=self._log_id)
        if isinstance(record, Admit):
            return self._admit(record)
        if isinstance(record, Skip) and record.branch == self._branch.lineage:
            return replace(record, branch=self.survivor.lineage)
        return record

    def too_early(self, offset: int, block: ScoredBlock, partition: int) -> bool:
        """Whether a joiner would read an erased event again from this block of `scored`; ask when all is rewritten."""
        vector = self.vectors.get(partition)
        low = 0 if vector is None else vector.scored_low.position
        return any(
            position_of(offset, row) >= low and (block.source_partition, source) in self.sources
            for row, source in enumerate(block.source_offsets.tolist())
        )

    def _admit(self, record: Admit) -> Admit:
        """Admit the survivor instead of whatever was admitted; from the second time on that changes nothing."""
        skips = tuple(sorted(self._notices.of(self._branch.lineage).skips))
        return replace(
            record,
            branch=self.survivor.lineage,
            definition=self.survivor.text,
            position=self.survivor.start,
            digest=self._digest,
            ids=(),
            skips=skips,
            why="the training log was written anew",
        )

    def _block(self, offset: int, block: TrainingBlock) -> TrainingBlock:
        examples = block.examples
        notices = self._notices.of(self._branch.lineage)
        gone = dropped_rows(examples, position_of(offset), self._branch.filter, notices) - erased_rows(examples)
        self.erased |= {(examples.ids[row], int(examples.times_ms[row])) for row in gone}
        self.sources |= {_source(examples, row) for row in gone}
        by_id = {row for row, event_id in enumerate(block.dropped.ids) if self._is_named(offset, event_id)}
        self.sources |= {_source(block.dropped, row) for row in by_id}
        said = [
            row
            for row, identity in enumerate(zip(block.corrections.ids, block.corrections.times_ms.tolist(), strict=True))
            if identity in self.erased
        ]
        self.rows += len(gone) + len(by_id) + len(said)
        return replace(
            block,
            log_id=self._log_id,
            examples=_without_examples(examples, sorted(gone)) if gone else examples,
            dropped=_without_dropped(block.dropped, by_id) if by_id else block.dropped,
            corrections=_without_corrections(block.corrections, said) if said else block.corrections,
        )

    def _is_named(self, offset: int, event_id: str) -> bool:
        if not self._branch.filter.may_name(position_of(offset)):
            return False
        return hash_of_id(event_id) in self._notices.of(self._branch.lineage).ids


def survivor_of(branch: Branch) -> Branch:
    """Return the same branch with a filter that names no event.

    Sources and bounds stay, since they may concern what is still to come, and so do corrections.
    """
    return replace(branch, filter=replace(branch.filter, ids="", ids_to=0))


def _without_examples(examples: Examples, gone: list[int]) -> Examples:
    x, strings = examples.x, list(examples.x.strings)
    for row in gone:
        strings[row] = ("",) * len(strings[row])
    return replace(
        examples,
        kinds=_with(examples.kinds, gone, ERASED),
        ids=_blank(examples.ids, gone),
        times_ms=_with(examples.times_ms, gone, 0),
        y=_with(examples.y, gone, 0.0),
        revisions=_with(examples.revisions, gone, 0),
        sources=_blank(examples.sources, gone),
        served=Served(_with(examples.served.y_pred, gone, nan), _with(examples.served.proba, gone, nan)),
        x=XColumns(_with(x.numbers, gone, 0.0), _with(x.integers, gone, 0), strings, x.absent),
    )


def _without_dropped(dropped: Dropped, gone: set[int]) -> Dropped:
    return replace(dropped, ids=_blank(dropped.ids, sorted(gone)), times_ms=_with(dropped.times_ms, sorted(gone), 0))


def _without_corrections(corrections: Corrections, gone: list[int]) -> Corrections:
    return replace(
        corrections,
        ids=_blank(corrections.ids, gone),
        times_ms=_with(corrections.times_ms, gone, 0),
        y=_with(corrections.y, gone, nan),
        revisions=_with(corrections.revisions, gone, 0),
        sources=_blank(corrections.sources, gone),
    )


def _source(rows: Examples | Dropped, row: int) -> Source:
    return int(rows.source_partitions[row]), int(rows.source_offsets[row])


def _blank(texts: list[str], gone: list[int]) -> list[str]:
    found = list(texts)
    for row in gone:
        found[row] = ""
    return found


def _with(column: NDArray[Any], gone: list[int], value: float) -> NDArray[Any]:
    found = np.array(column)
    found[gone] = value
    return found
