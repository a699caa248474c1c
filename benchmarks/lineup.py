"""Who runs, in which environment, over which topics, and what of it survives a crash."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from benchmarks.configuration import COMPILED, UNMODIFIED
from benchmarks.environments import OURS

RIVER = "bare River"
RIVER_AT_ONCE = "bare River, labels at once"
LOOP = "Tailrace"
LOOP_COMPILED = "Tailrace, compiled"
APART = "Tailrace, two processes"
APART_COMPILED = "Tailrace, two processes, compiled"
FOUR = "Tailrace, 4 partitions"
SIXTEEN = "Tailrace, 16 partitions"
ONE_SCORER = "Tailrace, 1 scorer of 16 partitions"
EIGHT_SCORERS = "Tailrace, 8 scorers of 16 partitions"
TRANSPORT = "transport, aiokafka"
TRANSPORT_CONFLUENT = "transport, confluent"
FAUST = "stock Faust"
QUIX = "Quix, dictionary"
QUIX_STATE = "Quix, State"
BYTEWAX = "Bytewax"
FASTSTREAM = "FastStream, per message"
FASTSTREAM_BATCH = "FastStream, batches"
AIOKAFKA = "plain aiokafka"
CONFLUENT = "plain confluent"
VW = "Vowpal Wabbit, confluent"
VW_MEMORY = "bare Vowpal Wabbit"

NOTHING = "nothing"
JOIN = "the join"
EVERYTHING = "everything"


@dataclass(frozen=True)
class Contender:
    """One line of the table.

    Attributes:
        module: Of `benchmarks.contenders`.
        environment: Of `environments.PINS`.
        packages: Whose versions the table names.
        keeps: What of join, model and predictions a crash leaves.
        is_short: It is given the first tenth of the examples: it would take minutes over all of them.
        parts: Of ours: the roles of each process; none: it is no process of ours.
        compiled: Of ours: `champion.compiled`.
        learns: Whether labels are learned at all.
        fills_late: The topics are filled when all of its processes are ready: one of them would be done before the
            others have come.
        options: Of `protocol.Task`.
        loop: Of ours: what differs in `configuration.Loop`.
    """

    name: str
    module: str
    environment: str = OURS
    packages: tuple[str, ...] = ("river",)
    keeps: str = NOTHING
    is_short: bool = False
    uses_kafka: bool = True
    partitions: int = 1
    parts: tuple[tuple[str, ...], ...] = ()
    compiled: str = UNMODIFIED
    learns: bool = True
    fills_late: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    loop: dict[str, Any] = field(default_factory=dict)


_OURS = ("aiokafka", "faust-streaming", "river")
_ALL = (("score", "join", "learn"),)
_APART = (("score",), ("join", "learn"))


def _ours(name: str, parts: tuple[tuple[str, ...], ...] = _ALL, **more: Any) -> Contender:
    packages = (*_OURS, "numba") if more.get("compiled") == COMPILED else _OURS
    return Contender(name, "tailrace_loop", packages=packages, keeps=EVERYTHING, parts=parts, **more)


YARDSTICK = Contender(RIVER, "bare_river", uses_kafka=False)
QUICK = (YARDSTICK, _ours(LOOP), _ours(LOOP_COMPILED, compiled=COMPILED))
"""Ours in one process and the yardstick: what `--quick` runs."""

LINEUP = (
    *QUICK,
    Contender(RIVER_AT_ONCE, "bare_river", uses_kafka=False, options={"lag": 0}),
    _ours(APART, _APART),
    _ours(APART_COMPILED, _APART, compiled=COMPILED),
    _ours(FOUR, partitions=4),
    _ours(SIXTEEN, partitions=16),
    _ours(ONE_SCORER, (("score",),), partitions=16, learns=False, fills_late=True),
    _ours(EIGHT_SCORERS, (("score",),) * 8, partitions=16, learns=False, fills_late=True),
    Contender(TRANSPORT, "transport_aiokafka", "clients", ("aiokafka",), learns=False),
    Contender(TRANSPORT_CONFLUENT, "transport_confluent", "clients", ("confluent-kafka",), learns=False),
    Contender(AIOKAFKA, "plain_aiokafka", "clients", ("aiokafka", "river")),
    Contender(CONFLUENT, "plain_confluent", "clients", ("confluent-kafka", "river")),
    Contender(VW, "vw_confluent", "vw", ("confluent-kafka", "vowpalwabbit")),
    Contender(VW_MEMORY, "vw_memory", "vw", ("vowpalwabbit",), uses_kafka=False),
    Contender(BYTEWAX, "bytewax_stateful", "bytewax", ("bytewax", "river")),
    Contender(QUIX, "quix_dict", "quix", ("quixstreams", "river")),
    Contender(QUIX_STATE, "quix_state", "quix", ("quixstreams", "river"), keeps=JOIN, is_short=True),
    Contender(FASTSTREAM_BATCH, "faststream_batch", "faststream", ("faststream", "aiokafka", "river")),
    Contender(FASTSTREAM, "faststream_each", "faststream", ("faststream", "aiokafka", "river"), is_short=True),
    Contender(FAUST, "stock_faust", "faust", ("faust-streaming", "aiokafka", "river"), is_short=True),
)
