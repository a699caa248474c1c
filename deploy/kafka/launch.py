#!/usr/bin/env python3
"""Run one real Apache Kafka broker (KRaft) on free loopback ports, from a folder of its own.

    launch.py fetch              get the jars with Maven into .kafka/ of the repository (once, about 43 MB)
    launch.py run --dir D        print `bootstrap=127.0.0.1:PORT` when ready; stop on SIGTERM, SIGINT, end of
                                 standard input, or when the process that started it is gone
    launch.py start --dir D      start it and leave it running
    launch.py stop --dir D       stop what `start` started

Needs Java 17 or newer and, for the first fetch, Maven; nothing from Python but the standard library. Also a
library: `Broker(folder).start()`, `.bootstrap`, `.kill()`, `.restart()`, `.stop()`. Not for production.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import ctypes
import fcntl
import json
import os
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
from pathlib import Path
from types import FrameType

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".kafka"
STOP_S = 20.0
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


class Broker:
    """One broker in one folder; a second start of the same folder has the same address and data."""

    def __init__(self, folder: str | Path, *, settings: dict[str, str] | None = None, outlives: bool = False) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._settings = settings or {}
        self._outlives = outlives
        self._process: subprocess.Popen[bytes] | None = None
        self._state = self._load_state()

    @property
    def bootstrap(self) -> str:
        """The address for clients."""
        return f"127.0.0.1:{self._state['port']}"

    @property
    def is_running(self) -> bool:
        """Whether the broker that this object started still runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The broker's process, when this object started it."""
        return self._process.pid if self._process else None

    def start(self, timeout_s: float = 60.0) -> Broker:
        """Format the folder if it is new, start the broker, and return when it answers.

        Raises:
            LaunchError: Java is missing, or the broker did not come up.
        """
        if shutil.which("java") is None:
            raise LaunchError("Java (`java`, 17 or newer) is not installed; it is needed to run Apache Kafka")
        fetch()
        self._write_properties()
        if not (self.folder / "data" / "meta.properties").exists():
            self._format()
        self._spawn()
        self._wait_ready(timeout_s)
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

    def _load_state(self) -> dict[str, object]:
        path = self.folder / "broker.json"
        if path.exists():
            return dict(json.loads(path.read_text()))
        port, controller_port = _free_ports(2)
        # A cluster id that begins with a dash would be read as an option by the formatter.
        cluster_id = "T" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:]
        state: dict[str, object] = {"port": port, "controller_port": controller_port, "cluster_id": cluster_id}
        path.write_text(json.dumps(state))
        return state

    def _write_properties(self) -> None:
        client, controller = f"127.0.0.1:{self._state['port']}", f"127.0.0.1:{self._state['controller_port']}"
        properties = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{controller}",
            "listeners": f"CLIENT://{client},CONTROLLER://{controller}",
            "advertised.listeners": f"CLIENT://{client}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "CLIENT",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,CLIENT:PLAINTEXT",
            "log.dirs": str(self.folder / "data"),
            "num.partitions": "1",
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
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

    def _java(self, main: str, *arguments: str) -> list[str]:
        options = ["-Xmx384m", "-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError"]
        logging = f"-Dlog4j2.configurationFile={HERE / 'log4j2.yaml'}"
        return ["java", *options, logging, "-cp", f"{CACHE / 'libs'}/*", main, *arguments]

    def _format(self) -> None:
        properties = str(self.folder / "server.properties")
        command = self._java(
            "kafka.tools.StorageTool", "format", "-t", str(self._state["cluster_id"]), "-c", properties
        )
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LaunchError(f"Kafka could not format {self.folder}: {done.stdout}{done.stderr}")

    def _spawn(self) -> None:
        with (self.folder / "broker.log").open("ab") as output:
            self._process = subprocess.Popen(
                self._java("kafka.Kafka", str(self.folder / "server.properties")),
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=None if self._outlives else _die_with_parent,  # noqa: PLW1509 - one call of libc
            )
        (self.folder / "broker.pid").write_text(str(self._process.pid))

    def _wait_ready(self, timeout_s: float) -> None:
        assert self._process is not None
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise LaunchError(f"Kafka ended with {self._process.returncode}; see {self.folder / 'broker.log'}")
            if _brokers_listed(int(str(self._state["port"]))) > 0:
                return
            time.sleep(0.05)
        self.kill()
        raise LaunchError(f"Kafka did not answer within {timeout_s:.0f} s; see {self.folder / 'broker.log'}")


def _brokers_listed(port: int) -> int:
    """Ask for metadata (version 5, no topics) and return how many brokers the answer lists; 0 without an answer."""
    body = struct.pack(">hhih8si?", 3, 5, 1, 8, b"launcher", 0, False)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2.0) as connection:
            connection.sendall(struct.pack(">i", len(body)) + body)
            answer = connection.recv(4096)
    except OSError:
        return 0
    # Size, correlation, throttle time, then the array of brokers.
    return int(struct.unpack_from(">i", answer, 12)[0]) if len(answer) >= 16 else 0


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def _die_with_parent() -> None:
    # Linux only; elsewhere a killed parent leaves the broker behind.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def stop_folder(folder: Path) -> bool:
    """Stop the broker that runs in a folder; return whether one did."""
    try:
        pid = int((folder / "broker.pid").read_text())
        if b"kafka.Kafka" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            return False
        os.kill(pid, signal.SIGTERM)
    except (OSError, ValueError):
        return False
    deadline = time.monotonic() + STOP_S
    while time.monotonic() < deadline and Path(f"/proc/{pid}").exists():
        time.sleep(0.05)
    return True


def run_until_told(folder: Path) -> None:
    """Start a broker, print its address, and stop it when asked or when nobody is left to ask."""
    parent = os.getppid()
    asked = False

    def ask(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        asked = True

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, ask)
    broker = Broker(folder).start()
    print(f"bootstrap={broker.bootstrap}", flush=True)
    watches_input = not sys.stdin.isatty()
    while not asked and os.getppid() == parent and broker.is_running:
        readable = select.select([sys.stdin] if watches_input else [], [], [], 0.2)[0]
        if readable and not os.read(sys.stdin.fileno(), 4096):
            break
    broker.stop()


def main() -> int:
    """Run one command; return its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("command", choices=["fetch", "run", "start", "stop"])
    parser.add_argument("--dir", type=Path, help="folder of the broker's data; `run` takes a temporary one without it")
    arguments = parser.parse_args()
    if arguments.dir is None and arguments.command in ("start", "stop"):
        parser.error(f"{arguments.command} needs --dir")
    try:
        if arguments.command == "fetch":
            print(fetch())
        elif arguments.command == "start":
            print(f"bootstrap={Broker(arguments.dir, outlives=True).start().bootstrap}")
        elif arguments.command == "stop":
            print("stopped" if stop_folder(arguments.dir) else "no broker runs there")
        elif arguments.dir is not None:
            run_until_told(arguments.dir)
        else:
            with tempfile.TemporaryDirectory(prefix="tailrace-kafka-") as folder:
                run_until_told(Path(folder))
    except LaunchError as error:
        print(error, file=sys.stderr)
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main())
