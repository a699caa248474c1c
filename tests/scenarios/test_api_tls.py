"""The API by TLS: what `api.tls_cert_file` names is what clients see, and nothing is said without it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from pathlib import Path

import pytest
from tests.certificates import make_certificate
from tests.log_forms import LogForm
from tests.scenarios.api_ground import Served, free_address, served
from tests.scenarios.harness import Scenario, until

from tailrace.client import Client, Unreachable
from tailrace.main import Process
from tailrace.streams import handshakes


@pytest.fixture
async def at(embedded_form: LogForm, tmp_path: Path):
    make_certificate(tmp_path)
    async with served(embedded_form, tmp_path, api={"tls_cert_file": "api.crt", "tls_key_file": "api.key"}) as made:
        yield made


async def test_by_tls_the_api_answers_who_trusts_its_certificate_and_nobody_else(at: Served, tmp_path: Path):
    def ask(ca_file: Path | None) -> str:
        with Client(f"https://{at.address}", token=at.token, ca_file=ca_file) as client:
            return str(client.status()["verdict"])

    assert await asyncio.to_thread(ask, tmp_path / "api.crt") in {"ok", "warn"}
    with pytest.raises(Unreachable):
        await asyncio.to_thread(ask, None)
    with pytest.raises(Unreachable):
        await at.ask(lambda client: client.status())


async def test_tls_is_of_version_1_2_or_newer(at: Served):
    def shake() -> str | None:
        context = ssl._create_unverified_context()
        host, port = at.address.split(":")
        with socket.create_connection((host, int(port)), 10) as line, context.wrap_socket(line) as safe:
            return safe.version()

    assert await asyncio.to_thread(shake) in {"TLSv1.2", "TLSv1.3"}


async def test_who_does_not_shake_hands_is_dropped(at: Served, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(handshakes, "WITHIN_S", 0.5)

    def wait_silently() -> tuple[bytes, float]:
        host, port = at.address.split(":")
        begun_s = time.monotonic()
        with socket.create_connection((host, int(port)), 10) as line:
            return line.recv(1), time.monotonic() - begun_s

    said, waited_s = await asyncio.to_thread(wait_silently)

    assert b"" == said
    assert 0.4 < waited_s < 5


@pytest.mark.parametrize("damage", ["missing", "other key", "no PEM"])
async def test_a_certificate_that_cannot_be_used_is_said_at_the_start(
    embedded_form: LogForm, tmp_path: Path, damage: str
):
    certificate, key = make_certificate(tmp_path)
    if damage == "missing":
        certificate.unlink()
    elif damage == "no PEM":
        key.write_text("hello")
    else:
        (tmp_path / "other").mkdir()
        key.write_bytes(make_certificate(tmp_path / "other")[1].read_bytes())
    tls = {"tls_cert_file": "api.crt", "tls_key_file": "api.key"}
    scenario = await Scenario.make(embedded_form, tmp_path, http=free_address(), api=tls)
    process = Process(scenario.settings, prepare_topics=False)
    try:
        await process.start()
        await until(lambda: process.failure is not None, "the process has refused")
        assert "api.tls_cert_file" in str(process.failure)
        assert "allowed: PEM files" in str(process.failure)
    finally:
        await process.stop()
        await scenario.close()
