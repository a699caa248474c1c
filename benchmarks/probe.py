"""Sends events at a steady rate, their labels a moment later, and notes when each was answered and from which state.

Runs in the environment of the clients: librdkafka waits for nothing where linger is 0, so what is measured is the
contender and the broker; where linger is more, it is part of each latency. Its argument is a `Load` as JSON; it writes
rows to `Load.out` and ends.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import orjson
from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.load import Load

_PATIENCE_S = 60.0
_KNOCK_S = 0.05
_REST_S = 1.0
_LAST_S = 5.0
_TICK_S = 0.001
_SWITCH_S = 0.0002  # sending and seeing share the interpreter; Python's 5 ms would be seen in the latencies


class Probe:
    """One load on one loop.

    Attributes:
        sent_s: When each event was handed to the client, by number.
        labelled_s: Likewise its label.
        answered: Number → when its prediction came and the position of the state that gave it.
    """

    def __init__(self, load: Load) -> None:
        self.load = load
        self.sent_s: list[float] = []
        self.labelled_s: list[float] = []
        self.answered: dict[int, tuple[float, str]] = {}
        self._values = [line.split(b"\t") for line in Path(load.values).read_bytes().splitlines()]
        self._stopping = threading.Event()
        common = {"bootstrap.servers": load.bootstrap}
        self._producer = Producer({**common, "linger.ms": load.linger_ms, "queue.buffering.max.messages": 1_000_000})
        self._consumer = Consumer({**common, "group.id": "probe", "enable.auto.commit": False, "fetch.wait.max.ms": 10})
        self._consumer.assign([TopicPartition(load.predictions, 0, 0)])

    def run(self) -> int:
        """Send everything; return how many events came before those that are measured."""
        load = self.load
        seeing = threading.Thread(target=self._see, daemon=True)
        seeing.start()
        deadline_s = time.perf_counter() + _PATIENCE_S
        while not self.answered and time.perf_counter() < deadline_s:  # until it answers at all
            self._send()
            time.sleep(_KNOCK_S)
        time.sleep(_REST_S)
        first = len(self.sent_s)
        before, begun_s = first, time.perf_counter()
        total = int(load.rate * (load.warm_s + load.seconds))
        while (number := len(self.sent_s) - before) < total:
            due = min(int((time.perf_counter() - begun_s) * load.rate) + 1, total)
            for _ in range(number, due):
                self._send()
            self._label()
            wait_s = begun_s + due / load.rate - time.perf_counter()
            if wait_s > 0:
                time.sleep(min(wait_s, _TICK_S))
        self._producer.flush()
        deadline_s = time.perf_counter() + _LAST_S
        while time.perf_counter() < deadline_s and len(self.labelled_s) < len(self.sent_s):
            self._label()
            time.sleep(_TICK_S)
        self._producer.flush()
        while time.perf_counter() < deadline_s and len(self.answered) < len(self.sent_s):
            time.sleep(_KNOCK_S)
        self._stopping.set()
        seeing.join()
        return first + int(load.rate * load.warm_s)

    def _send(self) -> None:
        number = len(self.sent_s)
        rest, _ = self._values[number % len(self._values)]
        event_id = b"n%d" % number
        self.sent_s.append(time.perf_counter())
        value = b'{"id":"%s","at":%d,%s' % (event_id, time.time_ns() // 1_000_000, rest)
        self._producer.produce(self.load.events, value, event_id)
        self._producer.poll(0)

    def _label(self) -> None:
        ready_s = time.perf_counter() - self.load.label_after_s
        while len(self.labelled_s) < len(self.sent_s) and self.sent_s[len(self.labelled_s)] <= ready_s:
            number = len(self.labelled_s)
            _, target = self._values[number % len(self._values)]
            event_id = b"n%d" % number
            self.labelled_s.append(time.perf_counter())
            self._producer.produce(self.load.labels, b'{"id":"%s","y":%s}' % (event_id, target), event_id)
        self._producer.poll(0)

    def _see(self) -> None:
        while not self._stopping.is_set():
            first = self._consumer.poll(0.1)
            if first is None:
                continue
            messages = [first, *self._consumer.consume(10_000, 0)]
            now_s = time.perf_counter()
            for message in messages:
                if message.error():
                    continue
                prediction = orjson.loads(message.value())
                event_id = prediction.get("event_id") or prediction["id"]
                if event_id.startswith("n"):
                    self.answered.setdefault(int(event_id[1:]), (now_s, prediction.get("position", "")))


def main() -> None:
    sys.setswitchinterval(_SWITCH_S)
    load = Load(**json.loads(sys.argv[1]))
    probe = Probe(load)
    first = probe.run()
    rows = [
        (number, sent_s, labelled_s, *probe.answered.get(number, (None, "")))
        for number, (sent_s, labelled_s) in enumerate(zip(probe.sent_s, probe.labelled_s, strict=False))
    ]
    Path(load.out).write_bytes(orjson.dumps({"first": first, "rows": rows}))


if __name__ == "__main__":
    main()
