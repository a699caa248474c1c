"""`tailrace keys`, and what doctor says of keys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.command_builders import Run
from tests.cli.loop_builders import RanLoop, write_config

from tailrace.domain.status import Verdict
from tailrace.inspection.key_check import keys_check
from tailrace.stores.key_folder import KeyFolder
from tailrace.stores.signing import Purpose


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_config(tmp_path)


def rows(out: str) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


def test_a_key_is_made_shown_and_carried_to_another_machine(run: Run, config: Path, tmp_path: Path):
    made = json.loads(run("keys", "generate", "--comment", "here").out)
    (shown,) = rows(run("keys", "list").out)
    assert (made["key"], "snapshots", "trusted", True, "here") == tuple(
        shown[name] for name in ("key", "purpose", "state", "signs_here", "comment")
    )

    (tmp_path / "there").mkdir()
    write_config(tmp_path / "there")
    there = ("-c", tmp_path / "there" / "tailrace.toml")
    assert 0 == run("keys", "trust", made["public"], "--to", "2999-01-01", *there).code

    (carried,) = rows(run("keys", "list", *there).out)
    assert (made["key"], "trusted", False) == (carried["key"], carried["state"], carried["signs_here"])
    assert "2999-01-01T00:00:00.000Z" == carried["valid_to"]
    assert not (tmp_path / "there" / "keys" / "learner.key").exists()


def test_a_key_is_replaced_only_when_asked_for(run: Run, config: Path):
    first = json.loads(run("keys", "generate").out)

    again = run("keys", "generate")
    second = json.loads(run("keys", "generate", "--replace").out)

    assert 2 == again.code
    assert "--replace makes another key" in again.err
    assert {(first["key"], False), (second["key"], True)} == {
        (each["key"], each["signs_here"]) for each in rows(run("keys", "list").out)
    }


def test_the_two_purposes_have_keys_of_their_own(run: Run, config: Path):
    run("keys", "generate")
    operator = json.loads(run("keys", "generate", "--purpose", "commands").out)

    assert operator["file"].endswith("operator.key")
    assert {"snapshots", "commands"} == {each["purpose"] for each in rows(run("keys", "list").out)}


def test_a_revoked_key_is_shown_as_such_and_never_trusted_again(run: Run, config: Path):
    made = json.loads(run("keys", "generate").out)

    revoked = run("keys", "revoke", made["key"])

    assert "revoked" == json.loads(revoked.out)["state"]
    assert "--replace" in revoked.err
    assert 3 == run("keys", "trust", made["public"]).code
    assert 3 == run("keys", "revoke", "feed").code


@pytest.mark.parametrize(("option", "state"), [("--from", "not yet valid"), ("--to", "expired")])
def test_times_are_shown_as_what_they_mean_now(run: Run, config: Path, option: str, state: str):
    made = json.loads(run("keys", "generate").out)
    at = "2999-01-01" if option == "--from" else "1999-01-01"

    assert state == json.loads(run("keys", "trust", made["public"], option, at).out)["state"]


def test_what_cannot_be_is_refused_with_what_is_allowed(run: Run, config: Path):
    made = json.loads(run("keys", "generate").out)

    assert 2 == run("keys", "trust", made["public"], "--from", "soon").code
    assert 2 == run("keys", "trust", made["public"], "--from", "2027-01-02", "--to", "2027-01-01").code
    assert 3 == run("keys", "trust", "none.pub").code


def test_a_list_that_cannot_be_read_is_told(run: Run, config: Path, tmp_path: Path):
    run("keys", "generate")
    (tmp_path / "keys" / "trusted.json").write_text("{")

    ran = run("keys", "list")

    assert 3 == ran.code
    assert "found no JSON" in ran.err


def test_a_worker_that_learns_makes_its_key_and_signs_with_it(run: Run, ran_loop: RanLoop):
    (key,) = rows(run("keys", "list").out)

    assert ("snapshots", "trusted", True) == (key["purpose"], key["state"], key["signs_here"])
    assert 0 == run("verify").code


def test_after_a_revocation_status_and_verify_say_which_key(run: Run, ran_loop: RanLoop):
    (key,) = rows(run("keys", "list").out)
    run("keys", "revoke", key["key"])

    verified = run("verify", "-o", "json")
    status = run("status")

    assert 1 == verified.code
    assert json.loads(verified.out)["snapshot"] is None
    assert f"key {key['key']} was revoked" in status.err


# ── doctor ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_doctor_names_the_key_that_signs(tmp_path: Path):
    keys = KeyFolder(tmp_path)
    key = keys.generate(Purpose.SNAPSHOTS)
    assert key is not None

    check = keys_check(keys, 0)

    assert Verdict.OK is check.verdict
    assert f"learner.key ({key.key_id}) signs snapshots and is trusted; 1 key trusted for snapshots" == check.found


def test_doctor_finds_a_serving_machine_without_a_private_key_in_order(tmp_path: Path):
    keys = KeyFolder(tmp_path)
    keys.generate(Purpose.SNAPSHOTS)
    keys.path(Purpose.SNAPSHOTS).unlink()

    assert Verdict.OK is keys_check(keys, 0).verdict


def test_doctor_warns_where_no_key_is_trusted(tmp_path: Path):
    check = keys_check(KeyFolder(tmp_path / "none"), 0)

    assert Verdict.WARN is check.verdict
    assert "keys trust learner.pub" in check.next


def test_doctor_fails_with_the_next_step(tmp_path: Path):
    keys = KeyFolder(tmp_path)
    key = keys.generate(Purpose.SNAPSHOTS)
    assert key is not None
    path = keys.path(Purpose.SNAPSHOTS)

    path.chmod(0o644)
    loose = keys_check(keys, 0)
    path.chmod(0o600)
    keys.trusted.revoke(key.key_id)
    revoked = keys_check(keys, 0)
    keys.trusted.path.unlink()
    untrusted = keys_check(keys, 0)
    keys.trusted.path.write_text("")
    broken = keys_check(keys, 0)

    assert {Verdict.FAIL} == {each.verdict for each in (loose, revoked, untrusted, broken)}
    assert "chmod 600" in loose.found
    assert revoked.next.startswith("`tailrace keys generate --replace`")
    assert untrusted.next.startswith("`tailrace keys trust")
    assert "no JSON" in broken.found
