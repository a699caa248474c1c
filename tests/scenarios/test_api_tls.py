"""The API by TLS: what `api.tls_cert_file` names is what clients see, and nothing is said without it."""

from __future__ import annotations

import asyncio
import socket
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.log_forms import LogForm
from tests.scenarios.api_ground import Served, free_address, served
from tests.scenarios.harness import Scenario, until

from tailrace.client import Client, Unreachable
from tailrace.main import Process


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Write a certificate for 127.0.0.1 that signs itself, and its key; return both files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tailrace")])
    now = datetime.now(UTC)  # noqa: TID251 - a certificate is valid by the clock of whoever checks it
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "api.crt", folder / "api.key"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


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
