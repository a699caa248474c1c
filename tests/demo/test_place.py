import socket
from pathlib import Path

import pytest

from tailrace.demo.place import EMBEDDED, Place, configuration, free_address
from tailrace.domain.errors import SettingsError
from tailrace.settings import load, load_text

HTTP = "127.0.0.1:18321"
BEYOND = "0.0.0.0:8321"


def test_a_temporary_folder_is_removed_with_all_that_is_in_it():
    place = Place.make(None)
    place.settings(EMBEDDED, HTTP)

    place.remove()

    assert not place.folder.exists()


def test_a_folder_to_keep_stays_and_other_commands_can_read_its_configuration(tmp_path: Path):
    place = Place.make(tmp_path / "new" / "demo")
    place.settings(EMBEDDED, HTTP)

    place.remove()

    settings = load(place.file, environ={})
    assert tmp_path / "new" / "demo" / "log" == settings.log_folder
    assert HTTP == settings.http
    assert {"phishing"} == set(settings.loops)


def test_names_on_a_log_of_others_are_of_this_run():
    ((name, loop),) = load_text(configuration("kafka://there:9092", HTTP, "a1b2c3")).loops.items()

    assert ("demo_a1b2c3", "demo_a1b2c3.pages", "demo_a1b2c3.verdicts") == (name, loop.events.topic, loop.labels.topic)


def test_a_folder_that_a_demo_left_is_gone_on_with(tmp_path: Path):
    Place.make(tmp_path).settings(EMBEDDED, HTTP)
    file = tmp_path / "tailrace.toml"
    file.write_text(file.read_text().replace('horizon = "10s"', 'horizon = "20s"'))

    settings = Place.make(tmp_path).settings(EMBEDDED, "127.0.0.1:18322")

    assert 20_000 == settings.loops["phishing"].horizon
    assert "127.0.0.1:18322" == settings.http


def test_a_folder_that_a_demo_left_on_another_log_is_refused(tmp_path: Path):
    Place.make(tmp_path).settings(EMBEDDED, HTTP)

    with pytest.raises(SettingsError, match="keep it in another folder"):
        Place.make(tmp_path).settings("kafka://there:9092", HTTP)


def test_beyond_this_machine_a_demo_serves_probes_and_metrics_alone(tmp_path: Path):
    """Guards `docker compose up`: without the choice, an address that other containers reach is refused."""
    settings = Place.make(tmp_path).settings("kafka://kafka:9092", BEYOND, "a1b2c3")

    assert (BEYOND, False) == (settings.http, settings.api.enabled)
    assert load_text(configuration(EMBEDDED, HTTP)).api.enabled


def test_a_folder_of_this_machine_alone_is_not_opened_to_others(tmp_path: Path):
    """Fails when the address is only put in place of the one that was checked: the API would be there for anyone."""
    Place.make(tmp_path).settings(EMBEDDED, HTTP)

    with pytest.raises(SettingsError, match="api.enabled = false"):
        Place.make(tmp_path).settings(EMBEDDED, BEYOND)


def test_a_configuration_of_somebody_is_not_touched(tmp_path: Path):
    (tmp_path / "tailrace.toml").write_text('log = "embedded:./mine"\n')

    with pytest.raises(SettingsError, match="name another folder"):
        Place.make(tmp_path)


def test_http_goes_where_it_is_told_and_elsewhere_when_the_usual_port_is_taken(monkeypatch: pytest.MonkeyPatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr("tailrace.demo.place.USUAL_HTTP", ("127.0.0.1", port))

        assert f"127.0.0.1:{port}" != free_address(None)
        with pytest.raises(SettingsError, match="--http"):
            free_address(f"127.0.0.1:{port}")

    assert f"127.0.0.1:{port}" == free_address(None)
    assert f"127.0.0.1:{port}" == free_address(f"127.0.0.1:{port}")


@pytest.mark.parametrize("address", ["", "8321", "127.0.0.1:", "127.0.0.1:99999999", "no such host:80"])
def test_what_is_no_address_is_refused(address: str):
    with pytest.raises(SettingsError, match="name a free HOST:PORT"):
        free_address(address)


def test_any_port_is_any_free_one():
    host, _, port = free_address("127.0.0.1:0").rpartition(":")

    assert "127.0.0.1" == host
    assert int(port) > 0
