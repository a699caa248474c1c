"""Prometheus, Alertmanager and a webhook on loopback; each is stopped by the process that started it."""

from __future__ import annotations

import json
import math
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

READY_WITHIN_S: Final = 20.0
STOP_WITHIN_S: Final = 15.0


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that are free now."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Server:
    """A program that runs until it is stopped."""

    def __init__(self, words: list[str], folder: Path, port: int) -> None:
        if shutil.which(words[0]) is None:
            raise SystemExit(
                f"there is no {words[0]}; install Debian's packages prometheus and prometheus-alertmanager"
            )
        self.url = f"http://127.0.0.1:{port}"
        self._log = (folder / f"{words[0]}.log").open("wb")
        self._process = subprocess.Popen(words, cwd=folder, stdout=self._log, stderr=subprocess.STDOUT)
        deadline_s = time.monotonic() + READY_WITHIN_S
        while not _answers(f"{self.url}/-/ready"):
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                self.stop()
                raise SystemExit(f"{words[0]} did not start; see {self._log.name}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it, in order if it wants to."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._log.close()


class Prometheus(Server):
    """Debian's Prometheus with the configuration that lies in a folder."""

    def __init__(self, folder: Path, port: int) -> None:
        listen = f"--web.listen-address=127.0.0.1:{port}"
        super().__init__(
            ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=tsdb", listen], folder, port
        )

    def ask(self, path: str, **parameters: Any) -> Any:
        """Ask the API.

        Raises:
            ValueError: It does not accept the question.
        """
        try:
            with urllib.request.urlopen(
                f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}", timeout=10
            ) as got:
                return json.load(got)["data"]
        except urllib.error.HTTPError as refused:
            raise ValueError(f"{parameters.get('query', path)}: {json.load(refused)['error']}") from refused

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        return {each["labels"]["alertname"] for each in self.ask("alerts")["alerts"] if each["state"] == "firing"}

    def series_of(self, expr: str, since_s: float) -> list[list[float]]:
        """Return the values of each series of a query, from a time until now, without those that are no numbers."""
        now_s = time.time()  # noqa: TID251 - Prometheus is asked for the present
        asked = self.ask("query_range", query=expr, start=since_s, end=now_s, step=1)
        values = [[float(value) for _, value in series["values"]] for series in asked["result"]]
        return [kept for each in values if (kept := [value for value in each if not math.isnan(value)])]


class Alertmanager(Server):
    """Debian's Alertmanager, alone."""

    def __init__(self, folder: Path, port: int) -> None:
        words = ["prometheus-alertmanager", "--config.file=alertmanager.yml", "--storage.path=alertmanager"]
        words += [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]
        super().__init__(words, folder, port)


class Webhook:
    """Takes what Alertmanager tells.

    Attributes:
        told: (alert, "firing" or "resolved"), without the time.
    """

    def __init__(self, port: int) -> None:
        self.told: set[tuple[str, str]] = set()
        self.annotations: dict[str, dict[str, str]] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                for alert in json.loads(self.rfile.read(int(self.headers["Content-Length"])))["alerts"]:
                    outer.told.add((alert["labels"]["alertname"], alert["status"]))
                    outer.annotations[alert["labels"]["alertname"]] = alert["annotations"]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing of every request."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as got:
            return got.status == 200
    except OSError:
        return False
