"""What is set inside aiokafka is still where it is set."""

from __future__ import annotations

import inspect

from aiokafka.consumer.fetcher import Fetcher
from tests.streams.log_tools import Inbox, running, until

from tailrace.streams.kafka_source import UNTAKEN_WAIT_S
from tailrace.streams.log import Outgoing, TopicPartition


async def test_the_fetcher_waits_as_long_for_records_to_be_taken_as_it_is_told(log_form):
    assert "backoff=self._prefetch_backoff" in inspect.getsource(Fetcher)
    topic = await log_form.create(partitions=1)
    async with running(log_form.open().sink("test")) as sink:
        await (await sink.send(TopicPartition(topic, 0), [Outgoing(None, b"x")]))
    inbox = Inbox()

    async with running(log_form.open().source(log_form.spec(topic), inbox)) as inbox.source:
        await until(lambda: inbox.values)
        if log_form.name == "kafka":
            assert UNTAKEN_WAIT_S == inbox.source._consumer._fetcher._prefetch_backoff
