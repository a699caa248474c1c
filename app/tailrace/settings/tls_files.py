"""Whether the files that connections to Kafka are protected with can be used."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tailrace.settings.tree import KafkaSettings


def tls_problems(kafka: KafkaSettings) -> list[str]:
    """Return what is wrong with them, a line each; the words hold nothing of a key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    found = []
    if kafka.ca_file is not None:
        try:
            context.load_verify_locations(kafka.ca_file)
        except OSError as problem:
            found.append(_line("kafka.ca_file", problem, "a PEM file of certificates", kafka.ca_file))
    if kafka.cert_file is not None and kafka.key_file is not None:
        allowed = "PEM files of a certificate and of its key, without a passphrase,"
        try:
            # A passphrase of nothing: without one, OpenSSL would ask at the terminal.
            context.load_cert_chain(kafka.cert_file, kafka.key_file, password=lambda: "")
        except OSError as problem:
            found.append(_line("kafka.cert_file and kafka.key_file", problem, allowed, kafka.cert_file, kafka.key_file))
    return found


def _line(key: str, problem: OSError, allowed: str, *paths: Path) -> str:
    reason = (problem.reason if isinstance(problem, ssl.SSLError) else problem.strerror) or type(problem).__name__
    return f"{key}: found {', '.join(map(str, paths))}: {reason}; {allowed} can be used"
