"""`tailrace tokens`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.command_builders import Run
from tests.cli.loop_builders import write_config

from tailrace.domain.access import Scope, admit
from tailrace.stores.token_file import TokenFile


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_config(tmp_path)


def rows(out: str) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


def test_a_token_is_shown_once_and_listed_without_itself(run: Run, config: Path, tmp_path: Path):
    made = json.loads(run("tokens", "create", "--scope", "read", "--scope", "label", "--comment", "shop").out)
    listed = run("tokens", "list").out
    (shown,) = rows(listed)

    assert made["token"] not in listed
    assert (made["id"], made["token"][-4:], "label, read", "counts", "shop") == tuple(
        shown[name] for name in ("id", "ends_with", "scopes", "state", "comment")
    )
    token = admit(TokenFile(tmp_path / "keys").current().tokens, made["token"], 0)
    assert {Scope.READ, Scope.LABEL} == token.scopes


def test_a_token_goes_into_a_file_of_its_own_and_is_not_printed(run: Run, config: Path, tmp_path: Path):
    made = run("tokens", "create", "--scope", "read", "--out", str(tmp_path / "token"))
    text = (tmp_path / "token").read_text()

    assert 0 == made.code
    assert text not in made.out + made.err
    assert 0o600 == (tmp_path / "token").stat().st_mode & 0o777
    assert {Scope.READ} == admit(TokenFile(tmp_path / "keys").current().tokens, text, 0).scopes


def test_a_file_that_is_there_is_kept_and_no_token_counts_that_nobody_has(run: Run, config: Path, tmp_path: Path):
    (tmp_path / "token").write_text("another")
    made = run("tokens", "create", "--scope", "read", "--out", str(tmp_path / "token"))

    assert (2, "another") == (made.code, (tmp_path / "token").read_text())
    assert "counts" not in [row["state"] for row in rows(run("tokens", "list").out)]


def test_a_token_is_revoked(run: Run, config: Path):
    made = json.loads(run("tokens", "create", "--scope", "read").out)

    assert "revoked" == json.loads(run("tokens", "revoke", made["id"]).out)["state"]
    assert ["revoked"] == [each["state"] for each in rows(run("tokens", "list").out)]
    assert 3 == run("tokens", "revoke", "ffffffff").code


@pytest.mark.parametrize("expires", ["30d", "2999-01-01", "2999-01-01T00:00:00Z"])
def test_a_token_may_have_an_end(run: Run, config: Path, expires: str):
    assert json.loads(run("tokens", "create", "--scope", "read", "--expires", expires).out)["expires"]


@pytest.mark.parametrize("expires", ["soon", "2001-01-01", "0s"])
def test_an_end_that_is_none_or_has_passed_is_refused(run: Run, config: Path, expires: str):
    found = run("tokens", "create", "--scope", "read", "--expires", expires)

    assert 2 == found.code
    assert "--expires" in found.err
    assert "allowed:" in found.err


def test_a_token_without_a_scope_is_none(run: Run, config: Path):
    assert 2 == run("tokens", "create").code
    assert 2 == run("tokens", "create", "--scope", "everything").code
