from pathlib import Path

import pytest

from tailrace.demo import kafka
from tailrace.domain.errors import LogUnavailable


async def test_an_installed_package_says_where_kafka_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kafka, "LAUNCHER", tmp_path / "launch.py")

    with pytest.raises(LogUnavailable, match="--bootstrap HOST:PORT"):
        await kafka.Broker(tmp_path / "kafka").start()


async def test_what_the_launcher_complains_about_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/nowhere")
    broker = kafka.Broker(tmp_path / "kafka")

    with pytest.raises(LogUnavailable, match=r"Java .* is not installed"):
        await broker.start()

    await broker.stop()
    broker.kill()


async def test_stopping_what_was_never_started_is_nothing(tmp_path: Path):
    broker = kafka.Broker(tmp_path / "kafka")

    await broker.stop()
    broker.kill()
