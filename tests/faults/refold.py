"""A bare fold of the training log in a process of its own: `python -m tests.faults.refold CONFIG`.

For every line `OFFSET [AT …]` on standard input it reads the log as written from its first record, folds it up to that
offset with nothing but the fold, and prints one line of JSON:
    position, digest, learned   of the state it came to
    digests                     AT → the digest of the state before that offset
    epochs                      [offset of the record after which it was so, epoch, champion], rising
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tailrace import settings as loading
from tailrace.domain.branches import Branch
from tailrace.domain.notices import read_notices
from tailrace.main import LoopDomain
from tailrace.opening import open_log
from tailrace.settings import Settings
from tailrace.streams.log import TopicPartition
from tailrace.streams.training_log import logged


async def refold(settings: Settings, domain: LoopDomain, end: int, at: Sequence[int] = ()) -> dict[str, object]:
    """Fold the log up to an offset."""
    partition = TopicPartition(domain.topics.training, 0)
    reader = open_log(settings, reach_within_s=10.0).reader()
    await reader.start()
    try:
        held = await reader.range_of(partition)
        records = [logged(record) async for batch in reader.read(partition, 0, held.end) for record in batch]
    finally:
        await reader.stop()
    fold = domain.fold()
    state = fold.begin()
    notices = read_notices(records, state.ownership)
    for text in notices.admitted.values():
        fold.hold(state, fold.begin_branch(Branch.read(text)))
    digests: dict[int, str] = {}
    epochs: list[tuple[int, int, str]] = []
    asked = set(at)
    for record in (each for each in records if each.offset < end):
        if record.offset in asked:
            digests[record.offset] = fold.digest(state)
        fold.fold(state, [record], notices)
        now = state.pointers.epoch, state.pointers.champion
        if now != (epochs[-1][1:] if epochs else (0, "")):
            epochs.append((record.offset, *now))
    digest = fold.digest(state)
    if end in asked:
        digests[end] = digest
    learned = 0 if state.champion is None else state.champion.learned
    return {
        "position": state.position,
        "digest": digest,
        "learned": learned,
        "digests": digests,
        "epochs": epochs,
    }


def main() -> None:
    """Answer until the input ends."""
    settings = loading.load(Path(sys.argv[1]))
    (name, loop) = next(iter(settings.loops.items()))
    domain = LoopDomain.of(name, loop, settings.folder)
    for line in sys.stdin:
        end, *at = map(int, line.split())
        print(json.dumps(asyncio.run(refold(settings, domain, end, at))), flush=True)


if __name__ == "__main__":
    main()
