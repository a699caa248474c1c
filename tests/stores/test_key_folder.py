"""The folder of keys: who may read it, what is trusted, and what reaches a process that runs."""

from __future__ import annotations

import json
import os
import resource
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.keys import make_key

from tailrace.domain.errors import SettingsError
from tailrace.stores.key_folder import KeyFolder, Signer, TrustFile, parse_time, read_public, show_time
from tailrace.stores.signing import Purpose, TrustedKey

SNAPSHOTS = Purpose.SNAPSHOTS


@pytest.fixture
def keys(tmp_path: Path) -> KeyFolder:
    return KeyFolder(tmp_path / "keys")


def test_a_new_key_is_its_owners_alone_and_trusted(keys: KeyFolder):
    old = os.umask(0)
    try:
        made = keys.generate(SNAPSHOTS, comment="first")
    finally:
        os.umask(old)

    assert made is not None
    assert 0o600 == stat.S_IMODE(keys.path(SNAPSHOTS).stat().st_mode)
    assert 0o700 == stat.S_IMODE(keys.folder.stat().st_mode)
    assert made.key_id == keys.private(SNAPSHOTS).key_id
    assert [TrustedKey(made.public, SNAPSHOTS, comment="first")] == list(keys.trusted.current().keys)
    assert made.public == read_public(keys.path(SNAPSHOTS).with_suffix(".pub"))
    assert not keys.exists(Purpose.COMMANDS)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666, 0o610])
def test_a_private_key_that_others_can_get_at_is_refused(keys: KeyFolder, mode: int):
    keys.generate(SNAPSHOTS)
    keys.path(SNAPSHOTS).chmod(mode)

    with pytest.raises(SettingsError, match=f"permissions {mode:04o}.*chmod 600"):
        keys.private(SNAPSHOTS)


def test_what_is_no_private_key_is_refused_with_the_next_step(keys: KeyFolder):
    with pytest.raises(SettingsError, match=r"found no .*learner\.key; `tailrace keys generate --purpose snapshots`"):
        keys.private(SNAPSHOTS)
    keys.generate(SNAPSHOTS)
    path = keys.path(SNAPSHOTS)
    for content, problem in ((b"no key", "no private key"), (b"x" * 20_000, "20000 bytes, more than 16384")):
        path.write_bytes(content)
        with pytest.raises(SettingsError, match=problem):
            keys.private(SNAPSHOTS)
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(SettingsError, match="no plain file"):
        keys.private(SNAPSHOTS)


def test_many_first_starts_at_once_make_one_key(keys: KeyFolder):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: KeyFolder(keys.folder).generate(SNAPSHOTS, is_new=True), range(16)))

    (first,) = [key for key in made if key is not None]
    assert first.key_id == keys.private(SNAPSHOTS).key_id
    assert [first.key_id] == [key.key_id for key in keys.trusted.current().keys]


def test_after_a_rotation_both_keys_are_trusted_and_the_new_one_signs(keys: KeyFolder):
    first = keys.generate(SNAPSHOTS)
    signer = Signer(keys)
    assert first is not None
    assert first.key_id == signer.key().key_id

    second = keys.generate(SNAPSHOTS)

    assert second is not None
    assert second.key_id == signer.key().key_id
    assert {first.key_id, second.key_id} == {key.key_id for key in keys.trusted.current().keys}


def test_a_disk_that_takes_a_part_leaves_key_and_list_as_they_were(keys: KeyFolder):
    """Defence: what was written in part is written on, and where that fails nothing is replaced."""
    keys.generate(SNAPSHOTS)
    before = [(path.name, path.read_bytes()) for path in sorted(keys.folder.iterdir())]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40, limits[1]))  # a file takes so many bytes, and says so
    try:
        with pytest.raises(SettingsError, match="cannot be written"):
            keys.generate(SNAPSHOTS)
        with pytest.raises(SettingsError, match="cannot be written"):
            keys.trusted.revoke(keys.trusted.current().keys[0].key_id)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert before == [(path.name, path.read_bytes()) for path in sorted(keys.folder.iterdir())]


def test_a_revocation_reaches_who_has_read_the_list_before(keys: KeyFolder):
    key = keys.generate(SNAPSHOTS)
    reader = TrustFile(keys.folder)
    assert key is not None
    assert reader.current().may_sign(SNAPSHOTS, key.key_id, 0) is None

    keys.trusted.revoke(key.key_id)

    refusal = reader.current().may_sign(SNAPSHOTS, key.key_id, 0)
    assert refusal is not None
    assert "revoked_key" == refusal.reason
    with pytest.raises(SettingsError, match="was revoked, and stays so"):
        keys.trusted.trust(TrustedKey(key.public, SNAPSHOTS))
    with pytest.raises(SettingsError, match="found no key feed"):
        keys.trusted.revoke("feed")


def test_a_trusted_key_keeps_its_times_and_may_get_others(keys: KeyFolder):
    entry = TrustedKey(make_key().public, Purpose.COMMANDS, 1_000, 2_500, comment="Ada")
    keys.trusted.trust(TrustedKey(make_key().public, Purpose.COMMANDS))
    keys.trusted.trust(entry)

    assert (entry,) == TrustFile(keys.folder).current().keys


def test_without_a_list_nothing_is_trusted_and_nothing_is_made(keys: KeyFolder):
    assert () == keys.trusted.current().keys
    assert not keys.folder.exists()


def entry(**changes: Any) -> dict[str, Any]:
    key = make_key()
    plain = {"id": key.key_id, "public": key.public.hex(), "purpose": "snapshots", "valid_from": None}
    return plain | {"valid_to": None, "revoked": False, "comment": ""} | changes


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("no json", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "no trust list of version 1"),
        ('{"version": 2, "keys": []}', "no trust list of version 1"),
        ([5], "an entry 1 that does not have the fields"),
        ([entry(extra=1)], "an entry 1 that does not have the fields"),
        ([entry(revoked="no")], "an entry 1 that does not have the fields"),
        ([entry(), entry()], "listed twice"),
        ([entry(public="zz")], "entry 1 with 'zz'"),
        ([entry(public="00" * 31)], "whose id is not that of its key"),
        ([entry(id="0" * 16)], "whose id is not that of its key"),
        ([entry(purpose="all")], "entry 1 with 'all'"),
        ([entry(valid_from="soon")], "entry 1 with 'soon'"),
        ([entry(valid_to=7)], "entry 1 with 7"),
    ],
)
def test_while_the_list_cannot_be_read_no_signature_counts(keys: KeyFolder, content: Any, problem: str):
    """A list that cannot be read must not leave a revoked key trusted: it fails closed, and says why."""
    key = keys.generate(SNAPSHOTS)
    text = content if isinstance(content, str) else json.dumps({"version": 1, "keys": content})
    keys.trusted.path.write_text(text)

    found = keys.trusted.current()

    assert key is not None
    assert problem in found.problem
    refusal = found.may_sign(SNAPSHOTS, key.key_id, 0)
    assert refusal is not None
    assert "trust_list" == refusal.reason
    with pytest.raises(SettingsError, match="repair it"):
        keys.trusted.revoke(key.key_id)


def test_a_list_that_others_can_write_is_not_believed(keys: KeyFolder):
    keys.generate(SNAPSHOTS)
    keys.trusted.path.chmod(0o664)

    assert "permissions 0664" in keys.trusted.current().problem


def test_times_are_read_as_they_are_shown():
    assert 1_500 == parse_time(show_time(1_500) or "")
    assert 86_400_000 == parse_time("1970-01-02")
    assert show_time(None) is None


def test_a_public_key_that_cannot_be_read_is_told(tmp_path: Path):
    with pytest.raises(SettingsError, match="No such file"):
        read_public(tmp_path / "none.pub")


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("")

    with pytest.raises(SettingsError, match="cannot be written"):
        KeyFolder(tmp_path / "file" / "keys").generate(SNAPSHOTS)
