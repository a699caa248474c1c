"""What only the embedded log promises: one worker, other processes beside it, compaction."""

from __future__ import annotations

import stat
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.log_forms import REPOSITORY
from tests.streams.log_tools import Inbox, outgoing, running, send, until

from tailrace.domain.errors import LogError, LogUnavailable
from tailrace.inspection.reading import is_there
from tailrace.streams.log import Commit, Outgoing, TopicPartition


def run_python(code: str, *arguments: str) -> subprocess.Popen[bytes]:
    environment = {"PYTHONPATH": f"{REPOSITORY / 'app'}:{REPOSITORY}", "PATH": "/usr/bin:/bin"}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments], stdout=subprocess.PIPE, env=environment
    )


async def test_a_second_worker_is_refused_and_told_who_has_the_log(embedded_form):
    topic = await embedded_form.create()
    first = embedded_form.open().source(embedded_form.spec(topic), Inbox())
    second = embedded_form.open().source(embedded_form.spec(topic), Inbox())

    async with running(first):
        with pytest.raises(LogError, match=r"process \d+ already works on the embedded log"):
            await second.start()


async def test_the_next_worker_may_begin_when_the_first_has_stopped(embedded_form):
    topic = await embedded_form.create()
    async with running(embedded_form.open().source(embedded_form.spec(topic), Inbox())):
        pass

    async with running(embedded_form.open().source(embedded_form.spec(topic), Inbox())) as source:
        await until(lambda: len(source.assigned) == 1)


async def test_a_log_that_was_abandoned_writes_nothing_more_and_frees_the_worker(embedded_form):
    topic = await embedded_form.create()
    partition = TopicPartition(topic, 0)
    log = embedded_form.open()
    inbox = Inbox(completes=False)
    source, sink = log.source(embedded_form.spec(topic), inbox), log.sink("test")
    await source.start()
    await sink.start()
    await send(sink, topic, "a")
    await until(lambda: inbox.values == ["a"])

    log.abandon()
    delivery = await sink.send(partition, outgoing("never"))
    refused = await source.commit({partition: Commit(1)})
    async with running(embedded_form.open().source(embedded_form.spec(topic), again := Inbox())):
        await until(lambda: again.values == ["a"])

    assert not refused
    assert not delivery.done()
    await source.stop()
    await sink.stop()
    delivery.cancel()


async def test_another_process_appends_and_the_worker_sees_it(embedded_form):
    topic = await embedded_form.create()
    inbox = Inbox()
    async with running(embedded_form.open().source(embedded_form.spec(topic), inbox)) as source:
        await until(lambda: len(source.assigned) == 1)
        writer = run_python(
            """
            import asyncio, sys
            from tailrace.streams.embedded_log import EmbeddedLog
            from tests.streams.log_tools import running, send
            async def main():
                async with running(EmbeddedLog(sys.argv[1]).sink("other")) as sink:
                    await send(sink, sys.argv[2], *map(str, range(100)))
            asyncio.run(main())
            """,
            str(embedded_form.folder),
            topic,
        )
        await until(lambda: len(inbox.values) == 100)
        assert writer.wait(20) == 0
        writer.communicate()

    assert inbox.values == [str(number) for number in range(100)]


async def test_a_process_that_is_killed_loses_nothing_that_was_acknowledged(embedded_form):
    topic = await embedded_form.create()
    writer = run_python(
        """
        import asyncio, sys
        from tailrace.streams.embedded_log import EmbeddedLog
        from tests.streams.log_tools import running, send
        async def main():
            async with running(EmbeddedLog(sys.argv[1]).sink("killed")) as sink:
                number = 0
                while True:
                    offsets = await send(sink, sys.argv[2], *[str(number + i) for i in range(20)])
                    number += 20
                    print(offsets[-1], flush=True)
        asyncio.run(main())
        """,
        str(embedded_form.folder),
        topic,
    )
    assert writer.stdout is not None
    for _ in range(200):
        writer.stdout.readline()
    writer.kill()
    acknowledged = int((writer.communicate()[0].splitlines() or [b"3999"])[-1])

    async with running(embedded_form.open().reader()) as reader:
        held = await reader.range_of(TopicPartition(topic, 0))
        values = [r.value async for batch in reader.read(TopicPartition(topic, 0), *held) for r in batch]

    assert held.end > acknowledged >= 3_999
    assert values == [str(number).encode() for number in range(held.end)]


async def test_a_compacted_topic_keeps_the_last_record_of_each_key(embedded_form):
    topic = await embedded_form.create(cleanup_policy="compact")
    partition = TopicPartition(topic, 0)
    async with running(embedded_form.open().sink("test")) as sink:
        for number in range(2_000):
            await sink.send(partition, [Outgoing(b"%d" % (number % 5), b"%d" % number)])
        await send(sink, topic, "no key")

    async with running(embedded_form.open().reader()) as reader:
        held = await reader.range_of(partition)
        records = [record async for batch in reader.read(partition, 0, held.end) for record in batch]

    last = {record.key: record.value for record in records if record.key is not None}
    assert held == (0, 2_001)
    assert len(records) < 1_500
    assert last == {b"%d" % key: b"%d" % (1_995 + key) for key in range(5)}


async def test_sending_to_a_sink_that_is_stopped_is_an_error(embedded_form):
    topic = await embedded_form.create()
    sink = embedded_form.open().sink("test")
    async with running(sink):
        await send(sink, topic, "a")

    with pytest.raises((LogUnavailable, LogError)):
        await send(sink, topic, "b")


async def test_reading_a_folder_without_a_log_creates_nothing(embedded_form):
    reader = embedded_form.open().reader()

    with pytest.raises(LogError, match="there is no log in"):
        await reader.start()
    assert not embedded_form.folder.exists()


async def test_other_accounts_of_the_machine_cannot_read_it(embedded_form):
    """It holds events and labels as they came."""
    topic = await embedded_form.create()
    async with running(embedded_form.open().source(embedded_form.spec(topic), Inbox())):
        modes = {path.name: mode_of(path) for path in embedded_form.folder.iterdir()}

    assert {"log.sqlite3", "log.sqlite3-wal", "log.sqlite3-shm", "worker.lock"} == modes.keys()
    assert ({0o600}, 0o700) == (set(modes.values()), mode_of(embedded_form.folder))


async def test_a_folder_that_was_there_before_keeps_its_permissions(embedded_form):
    embedded_form.folder.mkdir(mode=0o755)

    await embedded_form.create()

    assert (0o755, 0o600) == (mode_of(embedded_form.folder), mode_of(embedded_form.folder / "log.sqlite3"))


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


async def test_an_account_that_may_not_read_it_is_told_so(embedded_form, monkeypatch):
    """The super-user, as which tests may run, may read everything: that it may not is said by the test."""
    await embedded_form.create()

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", refuse)
    settings = SimpleNamespace(log=embedded_form.address, log_folder=embedded_form.folder)

    assert is_there(settings)
    with pytest.raises(LogError, match="cannot be used as a log .*Permission denied"):
        await embedded_form.open().reader().start()
