"""The books hold at every moment, not only at quiet ones: each look makes a cut at which everything is explained."""

from __future__ import annotations

import asyncio
import json
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.settings.toml_builders import LABELS, make_loop, make_toml

from tailrace import main
from tailrace.inspection.books import Account, account_of
from tailrace.inspection.reading import Reading, opened
from tailrace.inspection.topics import applied
from tailrace.settings import Settings, load_text
from tailrace.streams.log import Outgoing, Sink, TopicPartition, TopicState
from tailrace.wire.partitioner import partitions_of

LOOKS = 8
PARTITIONS = 3
WITHIN_S = 30.0


@dataclass
class HostileUser:
    """Sends events and labels of every kind: poison, repeated, stale, twice, misplaced, late, never, unknown."""

    sink: Sink
    rng: random.Random = field(default_factory=lambda: random.Random(1))
    sent: int = 0
    later: list[tuple[int, str]] = field(default_factory=list)

    async def send_some(self, events: int) -> None:
        now_ms = time.time_ns() // 1_000_000
        for _ in range(events):
            await self._event(now_ms)
        due = [event_id for at_ms, event_id in self.later if at_ms <= now_ms]
        self.later = [(at_ms, event_id) for at_ms, event_id in self.later if at_ms > now_ms]
        for event_id in due:
            for _ in range(self.rng.choice([1] * 9 + [2])):
                await self._label(event_id)

    async def _event(self, now_ms: int) -> None:
        rng, self.sent = self.rng, self.sent + 1
        event_id = f"e{self.sent if rng.random() > 0.03 else max(1, self.sent - 5)}"
        time_ms = now_ms - rng.randrange(200) - (3_000 if rng.random() < 0.02 else 0)
        age: object = "poison" if rng.random() < 0.02 else float(self.sent % 7)
        await self._send("pages", rng.randrange(2), event_id, {"page_id": event_id, "seen_at": time_ms, "age": age})
        if rng.random() < 0.8:
            self.later.append((now_ms + rng.choice([-50, 50, 200, 500, 1_500]), event_id))
        if rng.random() < 0.02:
            await self._label(f"unknown-{self.sent}")

    async def _label(self, event_id: str) -> None:
        rng = self.rng
        home = partitions_of([event_id.encode()], PARTITIONS)[0]
        partition = home if rng.random() > 0.1 else rng.randrange(PARTITIONS)
        verdict, version = rng.choice(["phishing", "fine", "phishing", "fine", None]), rng.choice([0, 0, 1, 2])
        is_poison = rng.random() < 0.02
        label = "poison" if is_poison else {"page_id": event_id, "verdict": verdict, "version": version}
        await self._send("verdicts", partition, event_id, label)

    async def _send(self, topic: str, partition: int, key: str, value: object) -> None:
        await self.sink.send(TopicPartition(topic, partition), [Outgoing(key.encode(), json.dumps(value).encode())])


def settings_in(folder: Path) -> Settings:
    times = 'disorder = "400ms"\nskew = "300ms"\nidle_after = "500ms"'
    text = make_toml(
        make_loop(horizon="1s", more=times, labels=LABELS.replace("}", ', revision = "version" }')),
        top='http = ""',
        below='\n[snapshots]\nevery = "300ms"\nstore = "file:./s"\n',
    )
    return load_text(text, folder=folder)


def unexplained(account: Account) -> list[str]:
    return [str(balance) for balance in account.books.balances if not balance.holds]


async def look(reading: Reading) -> Account:
    return await account_of(reading, "phishing", reading.settings.loops["phishing"])


async def test_the_books_hold_at_every_look_at_a_loop_that_runs(tmp_path: Path):
    settings = settings_in(tmp_path)
    async with opened(settings, must_exist=False) as reading, asyncio.timeout(WITHIN_S):
        await reading.admin.create([TopicState("pages", 2, 1), TopicState("verdicts", PARTITIONS, 1)])
        await applied(reading, "phishing", settings.loops["phishing"])
        process = main.Process(settings)
        await process.start()
        accounts: list[Account] = []
        try:
            async with reading.sink() as sink:
                user = HostileUser(sink)
                for _ in range(LOOKS):
                    for _ in range(8):
                        await user.send_some(10)
                        await asyncio.sleep(0.05)
                    accounts.append(await look(reading))
        finally:
            await process.stop()
        accounts.append(await look(reading))

    assert [[]] * len(accounts) == [unexplained(account) for account in accounts]
    assert not any(account.books.learned_twice for account in accounts)
    final = {balance.line: balance for balance in accounts[-1].books.balances}
    assert user.sent == final["events"].total
    assert {part for part, count in final["scored"].parts.items() if not count} <= {"implicit"}
    assert {part for part, count in final["labels"].parts.items() if not count} <= {"waiting", "late", "orphaned"}
