"""A bare fold of the training log in a process of its own: `python -m tests.faults.refold CONFIG`.

For every line `OFFSET` on standard input it reads the log as written from its first record, folds it up to that
offset with nothing but the fold, and prints one line of JSON: the position and the digest it came to.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from tailrace import settings as loading
from tailrace.domain.branches import Branch
from tailrace.domain.notices import read_notices
from tailrace.main import LoopDomain
from tailrace.opening import open_log
from tailrace.settings import Settings
from tailrace.streams.log import TopicPartition
from tailrace.streams.training_log import logged


async def refold(settings: Settings, domain: LoopDomain, end: int) -> dict[str, object]:
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
    fold.fold(state, [record for record in records if record.offset < end], notices)
    learned = 0 if state.champion is None else state.champion.learned
    return {"position": state.position, "digest": fold.digest(state), "learned": learned}


def main() -> None:
    """Answer until the input ends."""
    settings = loading.load(Path(sys.argv[1]))
    (name, loop) = next(iter(settings.loops.items()))
    domain = LoopDomain.of(name, loop, settings.folder)
    for line in sys.stdin:
        print(json.dumps(asyncio.run(refold(settings, domain, int(line)))), flush=True)


if __name__ == "__main__":
    main()
