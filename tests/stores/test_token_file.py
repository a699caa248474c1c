"""The file of tokens: what is kept, who may read it, and that a change reaches who has read it before."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from tailrace.domain.access import Denial, Scope, admit
from tailrace.domain.errors import SettingsError
from tailrace.stores.token_file import TokenFile


@pytest.fixture
def file(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path / "keys")


def test_without_a_file_no_token_counts(file: TokenFile):
    assert ({}, "") == (file.current().tokens, file.current().problem)


def test_a_token_is_kept_as_its_digest_in_a_file_of_its_owners_alone(file: TokenFile):
    text, token = file.create([Scope.READ, Scope.LABEL], 1_000, comment="shop")

    assert 0o600 == stat.S_IMODE(file.path.stat().st_mode)
    assert text not in file.path.read_text()
    assert text.rsplit("_", 1)[1] not in file.path.read_text()
    assert token == admit(TokenFile(file.path.parent).current().tokens, text, 2_000)


def test_two_tokens_are_never_alike(file: TokenFile):
    texts = {file.create([Scope.READ], 1_000)[0] for _ in range(20)}

    assert 20 == len(texts) == len(file.current().tokens)


def test_a_revocation_reaches_a_process_that_has_read_the_file(file: TokenFile):
    text, token = file.create([Scope.READ], 1_000)
    reader = TokenFile(file.path.parent)
    assert token == admit(reader.current().tokens, text, 2_000)

    file.revoke(token.id)

    assert Denial.REVOKED is admit(reader.current().tokens, text, 2_000)


def test_a_token_that_is_not_there_cannot_be_revoked(file: TokenFile):
    with pytest.raises(SettingsError, match="found no token 00000000 .*`tailrace tokens list`"):
        file.revoke("00000000")


def test_a_file_that_was_opened_to_others_after_it_was_read_makes_no_token_count(file: TokenFile):
    file.create([Scope.READ], 0)
    assert file.current().tokens

    file.path.chmod(0o644)
    assert not file.current().tokens
    file.path.chmod(0o600)
    assert file.current().tokens


def test_a_file_that_others_can_read_makes_no_token_count(file: TokenFile):
    file.create([Scope.READ], 1_000)
    file.path.chmod(0o640)

    found = TokenFile(file.path.parent).current()

    assert {} == found.tokens
    assert "permissions 0640" in found.problem


def _without_scopes(entry: dict[str, Any]) -> None:
    del entry["scopes"]


@pytest.mark.parametrize(
    "damage",
    [
        _without_scopes,
        lambda entry: entry.update(scopes=["everything"]),
        lambda entry: entry.update(sha256="no hex"),
        lambda entry: entry.update(created=5),
        lambda entry: entry.update(revoked="no"),
    ],
)
def test_an_entry_that_cannot_be_read_makes_no_token_count(file: TokenFile, damage: Any):
    file.create([Scope.READ], 1_000)
    plain = json.loads(file.path.read_text())
    damage(plain["tokens"][0])
    file.path.write_text(json.dumps(plain))

    found = TokenFile(file.path.parent).current()

    assert {} == found.tokens
    assert "entry 1" in found.problem
    with pytest.raises(SettingsError, match="repair it"):
        file.create([Scope.READ], 1_000)


@pytest.mark.parametrize("content", ["", "[]", '{"version": 2, "tokens": []}', "[" * 10_000])
def test_what_is_no_list_of_tokens_makes_no_token_count(file: TokenFile, content: str):
    file.path.parent.mkdir()
    file.path.write_text(content)
    file.path.chmod(0o600)

    assert {} == file.current().tokens
    assert file.current().problem
