"""How clients of Kafka are made, waited for and let go; what its errors mean to us.

An outage is waited out, and said once every few seconds; what a person must change is a `LogError`; what nobody
can explain is `UnexplainedState`, which ends the process.
"""

# ruff: noqa: SLF001 - aiokafka cannot be closed within a deadline by its public methods.
from __future__ import annotations

import asyncio
import itertools
import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.conn import CloseReason, collect_hosts, create_conn
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import (
    AuthenticationFailedError,
    AuthenticationMethodNotSupported,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    KafkaError,
    ProducerClosed,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.group import LeaveGroupRequest

from tailrace.domain.errors import LogError, LogUnavailable, UnexplainedState

log = logging.getLogger(__name__)

SAY_EVERY_S = 5.0
RETRY_S = 0.3
# Without an answer to one request for so long, its connection is given up: a peer that is gone without a word, or a
# lost answer, costs no more. aiokafka's 40 s would outlast every deadline of ours, and only a request that is waited
# for to its own end closes the connection. Longer than a round trip of 5 s.
REQUEST_MS = 8_000
# A connection that nobody asked on for so long is closed, where asking is rare: it may have died without a word, and to
# open another one takes milliseconds.
IDLE_MS = 5_000
# What an attempt asks one after the other, the first of it on a connection that turns out to be dead.
ATTEMPT_S = 25.0
# The same, of one request.
ASKED_S = 10.0
CLOSE_S = 3.0

T = TypeVar("T")

_REFUSALS = (
    AuthenticationFailedError,
    AuthenticationMethodNotSupported,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnsupportedSaslMechanismError,
)


@dataclass(frozen=True, slots=True)
class KafkaOptions:
    """How to reach a cluster.

    Attributes:
        bootstrap: `host:port`, comma-separated.
        ssl_cafile: Trusted certificates; None: the system's.
        ssl_certfile: The client's certificate, where the cluster asks for one; with `ssl_keyfile`.
        compression: None, "lz4", "snappy", "zstd" or "gzip".
        reach_within_s: Give up with `LogUnavailable` after this long without an answer; None: wait for ever.
    """

    bootstrap: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = "PLAIN"
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    compression: str | None = None
    reach_within_s: float | None = None

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments that every aiokafka client takes. Files are read anew: they may be renewed.

        Raises:
            OSError: A file cannot be read, or holds nothing of the kind.
        """
        context = None
        if self.security_protocol in ("SSL", "SASL_SSL"):
            context = ssl.create_default_context(cafile=self.ssl_cafile)
            if self.ssl_certfile is not None:
                # A passphrase of nothing: without one, OpenSSL would ask at the terminal.
                context.load_cert_chain(self.ssl_certfile, self.ssl_keyfile, password=lambda: "")
        return {
            "bootstrap_servers": self.bootstrap,
            "client_id": "tailrace",
            "request_timeout_ms": REQUEST_MS,
            "security_protocol": self.security_protocol,
            "ssl_context": context,
            "sasl_mechanism": self.sasl_mechanism,
            "sasl_plain_username": self.sasl_username,
            "sasl_plain_password": self.sasl_password,
        }


def new_consumer(options: KafkaOptions, **settings: Any) -> AIOKafkaConsumer:
    """Make a consumer that asks again when a request was not answered."""
    consumer = AIOKafkaConsumer(**options.arguments(), **settings)
    # Else what it asks for offsets would be over just before the request is, and the connection never be closed.
    consumer._request_timeout_ms = int(2 * ATTEMPT_S * 1_000)
    return consumer


async def topics_of(consumer: AIOKafkaConsumer) -> set[str]:
    """Return the names of all topics."""
    try:
        return set(await consumer.topics())
    except KafkaError as error:
        if type(error) is not KafkaError:
            raise
        # No broker told; aiokafka has no error of its own for that, and leaves the connections open.
        for connection in list(consumer._client._conns.values()):
            connection.close(reason=CloseReason.CONNECTION_TIMEOUT)
        raise KafkaConnectionError(*error.args) from error


class Waiting:
    """Says what is waited for, once every few seconds, and that it is over."""

    def __init__(self, options: KafkaOptions, what: str) -> None:
        self._options = options
        self._what = what
        self._since = time.monotonic()
        self._said = self._since - SAY_EVERY_S

    @property
    def lasted_s(self) -> float:
        """Seconds since the waiting began."""
        return time.monotonic() - self._since

    def say(self, error: BaseException | str) -> None:
        """Log the reason, unless it was logged a moment ago."""
        now = time.monotonic()
        if now - self._said >= SAY_EVERY_S:
            self._said = now
            reason = error if isinstance(error, str) else _named(error)
            log.warning(
                "waiting for Kafka at %s, since %.0f s, to %s (%s)",
                self._options.bootstrap,
                self.lasted_s,
                self._what,
                reason,
            )

    def over(self) -> None:
        """Log that the waiting ended, if it was ever mentioned."""
        if self._said >= self._since:
            log.warning("Kafka at %s answers again after %.1f s", self._options.bootstrap, self.lasted_s)


def is_outage(error: BaseException) -> bool:
    """Return whether waiting may help."""
    if isinstance(error, KafkaError):
        return bool(error.retriable) and not isinstance(error, _REFUSALS)
    return isinstance(error, OSError | TimeoutError) and not isinstance(error, ssl.SSLCertVerificationError)


def is_refusal(error: object) -> bool:
    """Return whether the brokers refuse this user: its credentials, or a right."""
    return isinstance(error, _REFUSALS)


def explained(error: BaseException, options: KafkaOptions) -> Exception:
    """Return our error for one that waiting does not help against."""
    if isinstance(error, UnsupportedSaslMechanismError):
        return LogError(
            f"Kafka at {options.bootstrap} refuses the SASL mechanism {options.sasl_mechanism}. Set "
            "kafka.sasl_mechanism to one that its listener offers"
        )
    if isinstance(error, _REFUSALS):
        return LogError(
            f"Kafka at {options.bootstrap} refuses: {_named(error)}. Check the credentials, and the rights of this "
            "user: docs/access.md lists those that are needed"
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        return LogError(
            f"Kafka at {options.bootstrap} shows a certificate that does not count here: {error.verify_message}. Check "
            "kafka.ca_file, and that the certificate names the address"
        )
    return UnexplainedState(
        f"Kafka's client at {options.bootstrap} is in a state that nobody can explain: {_named(error)}. "
        "The process ends so that it is started anew"
    )


async def keep_trying(
    attempt: Callable[[], Awaitable[T]],
    options: KafkaOptions,
    what: str,
    *,
    gives_up: Callable[[], bool] = lambda: False,
) -> T:
    """Call `attempt` until it succeeds, through any outage.

    Raises:
        LogUnavailable: `gives_up` became true, or `reach_within_s` passed.
        LogError: Kafka refuses what was asked.
        UnexplainedState: It failed in another way.
    """
    waiting = Waiting(options, what)
    limit_s = ATTEMPT_S if options.reach_within_s is None else min(ATTEMPT_S, max(options.reach_within_s, ASKED_S))
    while True:
        try:
            async with asyncio.timeout(limit_s):
                result = await attempt()
        except (KafkaError, OSError, TimeoutError) as problem:
            error = problem
            if isinstance(problem, KafkaConnectionError):
                error = await _refusal(options) or problem
            if not is_outage(error):
                raise explained(error, options) from error
            too_long = options.reach_within_s is not None and waiting.lasted_s >= options.reach_within_s
            if too_long or gives_up():
                raise LogUnavailable(
                    f"Kafka at {options.bootstrap} gave no answer for {waiting.lasted_s:.0f} s "
                    f"({_named(error)}); check the address, the credentials and that it runs"
                ) from error
            waiting.say(error)
            await asyncio.sleep(RETRY_S)
        else:
            waiting.over()
            return result


async def _refusal(options: KafkaOptions) -> Exception | None:
    """Return why the brokers refuse this client; None where they do not, or give no answer.

    aiokafka takes a wrong password, or a certificate that is not trusted, for a broker that cannot be reached.
    """
    if options.security_protocol == "PLAINTEXT":
        return None
    arguments = options.arguments()
    for host, port, _ in collect_hosts(arguments.pop("bootstrap_servers")):
        try:
            connection = await create_conn(host, port, **arguments)
        except (*_REFUSALS, ssl.SSLCertVerificationError) as error:
            return error
        except (KafkaError, OSError, TimeoutError):
            continue
        connection.close()
        return None
    return None


def _named(error: BaseException) -> str:
    """Return the name of an error and its text; errors of the client name themselves in their texts."""
    name, text = type(error).__name__, str(error)
    return text if name in text else f"{name}: {text}".removesuffix(": ")


async def start_or_close(client: AIOKafkaConsumer | AIOKafkaAdminClient) -> None:
    """Start a consumer or admin client; leave nothing open when that fails."""
    try:
        await client.start()
    except BaseException:
        if isinstance(client, AIOKafkaConsumer):
            await close_consumer(client)
        else:
            await close_admin(client)
        raise


async def close_consumer(consumer: AIOKafkaConsumer) -> None:
    """Leave the group and close, within a deadline even while Kafka is away."""
    if await _ends_in_time(consumer.stop()):
        await _close_late_connections(consumer._client)
        return
    # Its coordinator retries for ever; end its tasks by hand, then the connections.
    coordinator = consumer._coordinator
    tasks = [
        getattr(coordinator, name, None) for name in ("_coordination_task", "_heartbeat_task", "_commit_refresh_task")
    ]
    await _cancel([task for task in tasks if task is not None])
    if isinstance(coordinator, GroupCoordinator) and coordinator.coordinator_id is not None:
        # A request to join that waits for other members holds up whatever comes behind it on its connection.
        joining = consumer._client._conns.get((coordinator.coordinator_id, ConnectionGroup.COORDINATION))
        if joining is not None:
            joining.close()
        if coordinator.member_id and coordinator._group_instance_id is None:  # known to the broker, if not yet joined
            leave = LeaveGroupRequest(coordinator.group_id, coordinator.member_id)
            await _ends_in_time(coordinator._send_req(leave))
    if consumer._fetcher is not None:
        await _ends_in_time(consumer._fetcher.close())
    await _ends_in_time(consumer._client.close())
    await _close_late_connections(consumer._client)


async def close_admin(admin: AIOKafkaAdminClient) -> None:
    """Close within a deadline."""
    await _ends_in_time(admin.close())
    await _close_late_connections(admin._client)


async def discard_producer(producer: AIOKafkaProducer) -> None:
    """Close a producer at once, whatever it still holds; nothing that it holds is sent after this."""
    sender = producer._sender.sender_task
    if sender is not None:
        sender.cancel()
    await _ends_in_time(producer.client.close())
    accumulator = producer._message_accumulator
    accumulator.fail_all(ProducerClosed())
    for batch in itertools.chain(*accumulator._batches.values(), accumulator._pending_batches):
        if batch._drain_waiter.done():
            batch._drain_waiter.exception()  # Nobody waits for it; asyncio would log it as forgotten.
    if not await _ends_in_time(producer.stop()) and sender is not None:
        await _cancel([sender])
    await _close_late_connections(producer.client)


async def _close_late_connections(client: AIOKafkaClient) -> None:
    """Close what was being opened while the client was closed."""

    async def close() -> None:
        async with client._get_conn_lock:
            await client.close()

    await _ends_in_time(close())


async def _ends_in_time(work: Awaitable[Any]) -> bool:
    """Wait for work at most CLOSE_S; return whether it ended. Errors at closing change nothing and are dropped."""
    task = asyncio.ensure_future(work)
    done, _ = await asyncio.wait([task], timeout=CLOSE_S)
    if not done:
        await _cancel([task])
        return False
    if not task.cancelled() and (error := task.exception()) is not None:
        log.debug("closing a client of Kafka failed: %r", error)
    return True


async def _cancel(tasks: list[asyncio.Future[Any]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        done, _ = await asyncio.wait(tasks, timeout=1.0)
        for task in done:
            if not task.cancelled():
                task.exception()
