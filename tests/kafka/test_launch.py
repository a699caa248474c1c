"""The launcher leaves nothing behind."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.conftest import require_kafka
from tests.log_forms import REPOSITORY

LAUNCHER = REPOSITORY / "deploy" / "kafka" / "launch.py"


@pytest.mark.kafka
def test_run_prints_the_address_and_stops_when_its_input_ends(tmp_path):
    require_kafka()
    process = subprocess.Popen(
        [sys.executable, str(LAUNCHER), "run", "--dir", str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None

    name, _, address = process.stdout.readline().decode().strip().partition("=")
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5):
        pass
    broker = int((tmp_path / "broker.pid").read_text())
    process.stdin.close()
    code = process.wait(30)
    process.stdout.close()

    assert (name, code) == ("bootstrap", 0)
    assert not Path(f"/proc/{broker}").exists()


@pytest.mark.kafka
def test_a_launcher_that_is_killed_takes_the_broker_with_it(tmp_path):
    require_kafka()
    process = subprocess.Popen(
        [sys.executable, str(LAUNCHER), "run", "--dir", str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    broker = int((tmp_path / "broker.pid").read_text())

    process.kill()
    process.communicate()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{broker}/cmdline").exists() and time.monotonic() < deadline:
        if not Path(f"/proc/{broker}/cmdline").read_bytes():
            break
        time.sleep(0.05)

    assert not Path(f"/proc/{broker}").exists() or not Path(f"/proc/{broker}/cmdline").read_bytes()
