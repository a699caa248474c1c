#!/usr/bin/env python3
"""Run real Apache Kafka (KRaft) on free loopback ports, from a folder of its own: one broker, or a cluster of them.

    launch.py fetch              get the jars with Maven into .kafka/ of the repository (once, about 43 MB)
    launch.py run --dir D        print `bootstrap=127.0.0.1:PORT` when ready; stop on SIGTERM, SIGINT, end of
                                 standard input, or when the process that started it is gone
    launch.py start --dir D      start it and leave it running
    launch.py stop --dir D       stop what `start` started

`--brokers 3` makes `run` and `start` a cluster of three. Needs Java 17 or newer and, for the first fetch, Maven;
nothing from Python but the standard library. Also a library: `Broker(folder).start()`, `.bootstrap`, `.kill()`,
`.restart()`, `.stop()`, and `Cluster(folder, size=3)` with the same and `.brokers`. Not for production.

A broker that does not outlive its launcher dies with the thread that started it.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import ctypes
import fcntl
import json
import os
import random
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".kafka"
START_S = 60.0
STOP_S = 20.0
# Below the ports that the system gives to clients. A client that keeps trying the port of a dead broker may be given
# that very port for its own end; it is then connected to itself, and the broker cannot come back.
PORTS = range(20_000, 32_000)
_PR_SET_PDEATHSIG = 1


class LaunchError(Exception):
    """The broker cannot be had; the message says why and what to install."""


def missing_tools() -> list[str]:
    """Return which of Java and Maven are missing; Maven counts only while the jars are not there."""
    tools = ["java"] if _has_jars() else ["java", "mvn"]
    return [tool for tool in tools if shutil.which(tool) is None]


def fetch() -> Path:
    """Return the folder of the jars, filled by Maven at the first call.

    Raises:
        LaunchError: Maven is missing or failed.
    """
    libs = CACHE / "libs"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _has_jars():
            return libs
        if shutil.which("mvn") is None:
            raise LaunchError("Maven (`mvn`) is not installed; it is needed once to get Apache Kafka")
        command = ["mvn", "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies"]
        done = subprocess.run(
            [*command, "-Dstyle.color=never", f"-DoutputDirectory={libs}"],
            stdout=sys.stderr,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            raise LaunchError(f"Maven ended with {done.returncode} while it got Apache Kafka; its output says why")
        (libs / ".complete").write_text(_pom_text())
    return libs


def _has_jars() -> bool:
    stamp = CACHE / "libs" / ".complete"
    return stamp.exists() and stamp.read_text() == _pom_text()


def _pom_text() -> str:
    return (HERE / "pom.xml").read_text()


class Seat(NamedTuple):
    """A broker's place in its cluster; it keeps it for life.

    Attributes:
        port: Where clients and other brokers reach it.
        controller_port: Where the voters of the cluster reach it.
        voters: The controller ports of the whole cluster, by node id from 1; may be empty for a broker that is alone.
    """

    port: int
    controller_port: int
    cluster_id: str
    node_id: int = 1
    voters: Sequence[int] = ()


SMALL_JAVA = ("-Xmx384m", "-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError")
"""Small and quick to start, for tests: its code is not optimised, and under load it stops twice a second for 10 ms."""

KAFKA_JAVA = (
    *("-server", "-Xmx1G", "-Xms1G", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"),
    *("-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent", "-Djava.awt.headless=true"),
    "-XX:+ExitOnOutOfMemoryError",
)
"""Heap and collector as `kafka-server-start.sh` and `kafka-run-class.sh` set them."""


class Broker:
    """One broker in one folder; a second start of the same folder has the same address and data.

    Args:
        settings: Added to `server.properties`; they win over ours.
        users: The passwords of its users of SCRAM-SHA-512, by name; they are made with the folder of its data.
        java: Options of its Java.
        outlives: It goes on when its launcher is gone.
        front: The port of a TCP proxy on 127.0.0.1, which is to connect to `front_address`. Clients that come through
            it are told its address for whatever they ask next, and so stay on it; those of `bootstrap` are not.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        settings: dict[str, str] | None = None,
        users: dict[str, str] | None = None,
        java: Sequence[str] = SMALL_JAVA,
        outlives: bool = False,
        front: int | None = None,
    ) -> None:
        self.folder = Path(folder)
        self._settings = settings or {}
        self._users = users or {}
        self._java = java
        self._outlives = outlives
        self._front = front
        self._front_port: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._seat = Seat(**_kept(self.folder / "broker.json", _new_broker))
        if front is not None:
            self._front_port = int(_kept(self.folder / "front.json", _new_front)["port"])

    @property
    def bootstrap(self) -> str:
        """The address for clients."""
        return f"127.0.0.1:{self._seat.port}"

    @property
    def front_address(self) -> tuple[str, int]:
        """Host and port that the proxy of `front` connects to."""
        assert self._front_port is not None, "this broker was made without front=PORT"
        return "127.0.0.1", self._front_port

    @property
    def node_id(self) -> int:
        """Its number in the cluster, from 1 on."""
        return self._seat.node_id

    @property
    def is_running(self) -> bool:
        """Whether the broker that this object started still runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The broker's process, when this object started it."""
        return self._process.pid if self._process else None

    def start(self, timeout_s: float = START_S) -> Broker:
        """Format the folder if it is new, start the broker, and return when it answers and its cluster lists it.

        Raises:
            LaunchError: Java is missing, or the broker did not come up.
        """
        _start([self], {self.node_id}, timeout_s)
        return self

    def restart(self) -> None:
        """Stop it if it runs, and start it again with the same data."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """End it at once, as a power cut of the process would (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_S)

    def stop(self) -> None:
        """End it in order; by force after a while."""
        if self._process is None or not self.is_running:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def format(self) -> None:
        """Write its settings, and make the folder of its data if there is none.

        Raises:
            LaunchError: Kafka refused.
        """
        self._write_properties()
        if (self.folder / "data" / "meta.properties").exists():
            return
        properties = str(self.folder / "server.properties")
        command = _java(SMALL_JAVA, "kafka.tools.StorageTool", "format", "-t", self._seat.cluster_id, "-c", properties)
        for name, password in self._users.items():
            command += ["--add-scram", f"SCRAM-SHA-512=[name={name},password={password}]"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LaunchError(f"Kafka could not format {self.folder}: {done.stdout}{done.stderr}")

    def spawn(self) -> None:
        """Start its process and do not wait until it answers."""
        with (self.folder / "broker.log").open("ab") as output:
            self._process = subprocess.Popen(
                _java(self._java, "kafka.Kafka", str(self.folder / "server.properties")),
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=None if self._outlives else _die_with_parent,  # noqa: PLW1509 - one call of libc
            )
        (self.folder / "broker.pid").write_text(str(self._process.pid))

    def await_ready(self, nodes: set[int], deadline_s: float) -> None:
        """Return when its answer lists these nodes.

        Args:
            deadline_s: On the monotonic clock.

        Raises:
            LaunchError: It ended, or did not answer so in time.
        """
        assert self._process is not None
        listed: set[int] = set()
        while time.monotonic() < deadline_s:
            if self._process.poll() is not None:
                raise LaunchError(f"Kafka ended with {self._process.returncode}; see {self.folder / 'broker.log'}")
            listed = _nodes_listed(self._seat.port)
            if nodes <= listed:
                return
            time.sleep(0.05)
        raise LaunchError(
            f"Kafka was to list the brokers {sorted(nodes)} and listed {sorted(listed)} when its time to start was "
            f"over; see {self.folder / 'broker.log'}"
        )

    def _write_properties(self) -> None:
        seat = self._seat
        controllers = list(seat.voters) or [seat.controller_port]
        replicas = min(3, len(controllers))
        enough = min(2, replicas)
        listeners = {"CLIENT": seat.port, "CONTROLLER": seat.controller_port}
        advertised = {"CLIENT": seat.port}
        if self._front is not None and self._front_port is not None:
            listeners["FRONT"], advertised["FRONT"] = self._front_port, self._front
        properties = {
            "process.roles": "broker,controller",
            "node.id": str(seat.node_id),
            "controller.quorum.voters": ",".join(
                f"{node}@127.0.0.1:{port}" for node, port in enumerate(controllers, start=1)
            ),
            "listeners": _addresses(listeners),
            "advertised.listeners": _addresses(advertised),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "CLIENT",
            "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in listeners),
            "log.dirs": str(self.folder / "data"),
            "num.partitions": "1",
            "auto.create.topics.enable": "false",
            "default.replication.factor": str(replicas),
            "min.insync.replicas": str(enough),
            "unclean.leader.election.enable": "false",
            "offsets.topic.replication.factor": str(replicas),
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": str(replicas),
            "transaction.state.log.min.isr": str(enough),
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": str(replicas),
            "share.coordinator.state.topic.min.isr": str(enough),
            "share.coordinator.state.topic.num.partitions": "4",
            "group.initial.rebalance.delay.ms": "0",
            # A broker that was killed may come back when its session has ended; the default is 9 s.
            "broker.session.timeout.ms": "2000",
            "broker.heartbeat.interval.ms": "500",
            # The default of 128 MiB is taken from the heap.
            "log.cleaner.dedupe.buffer.size": str(16 << 20),
            "num.network.threads": "2",
            "num.io.threads": "4",
            "background.threads": "2",
            **self._settings,
        }
        text = "".join(f"{name}={value}\n" for name, value in properties.items())
        (self.folder / "server.properties").write_text(text)


class Cluster:
    """Several brokers, each of which is a controller too, in one folder; a later start has the same addresses.

    Every topic has three replicas unless it asks for fewer, and takes a record that two of them have.

    Raises:
        LaunchError: The folder holds a cluster of another size.
    """

    def __init__(
        self, folder: str | Path, size: int = 3, settings: dict[str, str] | None = None, *, outlives: bool = False
    ) -> None:
        self.folder = Path(folder)
        kept = _kept(self.folder / "cluster.json", lambda: {"brokers": [seat._asdict() for seat in _new_seats(size)]})
        seats = kept["brokers"]
        if len(seats) != size:
            raise LaunchError(
                f"{self.folder} holds a cluster of {len(seats)} brokers, not {size}; take another folder, or remove it"
            )
        self.brokers: list[Broker] = []
        for seat in seats:
            own = self.folder / f"broker-{seat['node_id']}"
            _kept(own / "broker.json", seat.copy)
            self.brokers.append(Broker(own, settings=settings, outlives=outlives))

    @property
    def bootstrap(self) -> str:
        """The addresses for clients, all of them."""
        return ",".join(broker.bootstrap for broker in self.brokers)

    @property
    def is_running(self) -> bool:
        """Whether any of the brokers that this object started still runs."""
        return any(broker.is_running for broker in self.brokers)

    def start(self, timeout_s: float = START_S) -> Cluster:
        """Start the brokers that do not run, all at once, and return when each answers and lists all of them.

        Raises:
            LaunchError: Java is missing, or a broker did not come up; those that were started are then ended.
        """
        resting = [broker for broker in self.brokers if not broker.is_running]
        _start(resting, {broker.node_id for broker in self.brokers}, timeout_s)
        return self

    def restart(self) -> None:
        """Stop them if they run, and start them again with the same data."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """End all of them at once, as a power cut would (SIGKILL)."""
        for broker in self.brokers:
            broker.kill()

    def stop(self) -> None:
        """End all of them in order; by force after a while."""
        with ThreadPoolExecutor(len(self.brokers)) as pool:
            list(pool.map(Broker.stop, self.brokers))


def _start(brokers: Sequence[Broker], nodes: set[int], timeout_s: float) -> None:
    """Start brokers together and wait until each of them lists these nodes; none is left running if one fails."""
    if not brokers:
        return
    if shutil.which("java") is None:
        raise LaunchError("Java (`java`, 17 or newer) is not installed; it is needed to run Apache Kafka")
    fetch()
    deadline_s = time.monotonic() + timeout_s
    with ThreadPoolExecutor(len(brokers)) as pool:
        list(pool.map(Broker.format, brokers))
    try:
        for broker in brokers:
            broker.spawn()
        for broker in brokers:
            broker.await_ready(nodes, deadline_s)
    except BaseException:
        for broker in brokers:
            broker.kill()
        raise


def _new_broker() -> dict[str, Any]:
    return _new_seats(1)[0]._asdict()


def _new_front() -> dict[str, Any]:
    return {"port": _free_ports(1)[0]}


def _new_seats(count: int) -> list[Seat]:
    ports = _free_ports(2 * count)
    # A cluster id that begins with a dash would be read as an option by the formatter.
    cluster_id = "T" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:]
    voters = ports[count:]
    return [Seat(ports[each], voters[each], cluster_id, each + 1, voters) for each in range(count)]


def _kept(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what a file of JSON holds, which is made at the first call."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        written = path.with_suffix(".new")
        written.write_text(json.dumps(make()))
        written.replace(path)
    return dict(json.loads(path.read_text()))


def _addresses(ports: dict[str, int]) -> str:
    return ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())


def _java(options: Sequence[str], main: str, *arguments: str) -> list[str]:
    logging = f"-Dlog4j2.configurationFile={HERE / 'log4j2.yaml'}"
    return ["java", *options, logging, "-cp", f"{CACHE / 'libs'}/*", main, *arguments]


def _nodes_listed(port: int) -> set[int]:
    """Ask for metadata (version 5, no topics) and return the node ids that the answer lists; none without an answer."""
    body = struct.pack(">hhih8si?", 3, 5, 1, 8, b"launcher", 0, False)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2.0) as connection:
            connection.sendall(struct.pack(">i", len(body)) + body)
            with connection.makefile("rb") as answers:
                (size,) = struct.unpack(">i", answers.read(4))
                return _node_ids(answers.read(size))
    except (OSError, struct.error):
        return set()


def _node_ids(answer: bytes) -> set[int]:
    # Correlation, throttle time, then the array of brokers: node id, host, port, rack; a text is its length and bytes.
    (count,) = struct.unpack_from(">i", answer, 8)
    nodes, at = set(), 12
    for _ in range(count):
        node, host_size = struct.unpack_from(">ih", answer, at)
        (rack_size,) = struct.unpack_from(">h", answer, at + 10 + host_size)
        nodes.add(node)
        at += 12 + host_size + max(rack_size, 0)
    return nodes


def _free_ports(count: int) -> list[int]:
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise LaunchError(f"no {count} free ports on 127.0.0.1 from {PORTS.start} to {PORTS.stop - 1}")


def _die_with_parent() -> None:
    # Linux only; elsewhere a killed parent leaves the broker behind.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def stop_folder(folder: Path) -> bool:
    """Stop the brokers that run in a folder; return whether any did."""
    told = [pid for path in (folder, *folder.glob("broker-*")) if (pid := _terminate(path / "broker.pid")) is not None]
    deadline = time.monotonic() + STOP_S
    while time.monotonic() < deadline and any(Path(f"/proc/{pid}").exists() for pid in told):
        time.sleep(0.05)
    return bool(told)


def _terminate(pid_file: Path) -> int | None:
    try:
        pid = int(pid_file.read_text())
        if b"kafka.Kafka" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            return None
        os.kill(pid, signal.SIGTERM)
    except (OSError, ValueError):
        return None
    return pid


def kafka_of(folder: Path, brokers: int, *, outlives: bool = False) -> Broker | Cluster:
    """Return the one broker or the cluster of a folder."""
    return Broker(folder, outlives=outlives) if brokers == 1 else Cluster(folder, brokers, outlives=outlives)


def run_until_told(folder: Path, brokers: int) -> None:
    """Start Kafka, print its address, and stop it when asked or when nobody is left to ask."""
    parent = os.getppid()
    asked = False

    def ask(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        asked = True

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, ask)
    kafka = kafka_of(folder, brokers).start()
    print(f"bootstrap={kafka.bootstrap}", flush=True)
    watches_input = not sys.stdin.isatty()
    while not asked and os.getppid() == parent and kafka.is_running:
        readable = select.select([sys.stdin] if watches_input else [], [], [], 0.2)[0]
        if readable and not os.read(sys.stdin.fileno(), 4096):
            break
    kafka.stop()


def main() -> int:
    """Run one command; return its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("command", choices=["fetch", "run", "start", "stop"])
    parser.add_argument("--dir", type=Path, help="folder of its data; `run` takes a temporary one without it")
    parser.add_argument("--brokers", type=int, choices=range(1, 10), default=1, help="1 without it; 3 can lose one")
    arguments = parser.parse_args()
    if arguments.dir is None and arguments.command in ("start", "stop"):
        parser.error(f"{arguments.command} needs --dir")
    try:
        if arguments.command == "fetch":
            print(fetch())
        elif arguments.command == "start":
            kafka = kafka_of(arguments.dir, arguments.brokers, outlives=True).start()
            print(f"bootstrap={kafka.bootstrap}")
        elif arguments.command == "stop":
            print("stopped" if stop_folder(arguments.dir) else "no broker runs there")
        elif arguments.dir is not None:
            run_until_told(arguments.dir, arguments.brokers)
        else:
            with tempfile.TemporaryDirectory(prefix="tailrace-kafka-") as folder:
                run_until_told(Path(folder), arguments.brokers)
    except LaunchError as error:
        print(error, file=sys.stderr)
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main())
