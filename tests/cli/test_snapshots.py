"""`tailrace snapshots`: looked at, checked, compared, moved and thrown away, beside whatever runs."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import stat
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.cli.command_builders import Run
from tests.cli.loop_builders import RanLoop, run_a_loop, run_it_again, write_config

from tailrace.domain.errors import StoreUnavailable
from tailrace.domain.status import MemberStatus, Role, RoleState, RoleStatus
from tailrace.inspection import snapshot_moves
from tailrace.inspection.reading import opened
from tailrace.inspection.snapshots import Shelf
from tailrace.opening import open_keys
from tailrace.settings import load
from tailrace.stores import snapshot_file
from tailrace.stores.signing import Purpose
from tailrace.stores.snapshot_store import DirectoryStore
from tailrace.streams.log import Outgoing, TopicPartition
from tailrace.wire.avro_codec import decode_manifest, encode_manifest, encode_status


@pytest.fixture(scope="session")
def loop_that_ran_twice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A loop with at least two snapshots; nobody writes into this one."""
    folder = tmp_path_factory.mktemp("twice")
    run_a_loop(folder)
    run_it_again(folder)
    return folder


@pytest.fixture
def loop(loop_that_ran_twice: Path, tmp_path: Path) -> Path:
    """A copy of it in `tmp_path`, the folder in which commands run."""
    shutil.copytree(loop_that_ran_twice, tmp_path, dirs_exist_ok=True)
    return tmp_path


def listed(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run("snapshots", "list", "-o", "json").out.splitlines()]


def snapshots(run: Run) -> list[dict[str, Any]]:
    return [each for each in listed(run) if each["kind"] == "snapshot"]


def files(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "snapshots").rglob("*.tailrace"))


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def take_other_features(folder: Path) -> None:
    """Change the contract, so that the lineage is another one."""
    file = folder / "tailrace.toml"
    changed = file.read_text().replace('age = "number"', 'age = { type = "number", max = 1000 }')
    assert changed != file.read_text()
    file.write_text(changed)


# ── list, show ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_snapshot_is_listed_with_its_chain_and_its_file(run: Run, loop: Path):
    found = snapshots(run)

    assert len(found) >= 2
    assert list(range(1, len(found) + 1)) == [each["number"] for each in found]
    assert {"ok"} == {each["chain"] for each in found}
    assert {"yes"} == {each["file"] for each in found}
    assert {"inline"} == {each["file"] for each in listed(run) if each["kind"] == "publication"}
    assert "snapshot" in run("snapshots", "list", "-o", "table").out


def test_a_file_that_the_store_has_lost_is_told(run: Run, loop: Path):
    files(loop)[0].unlink()

    assert ["missing"] == [each["file"] for each in snapshots(run) if each["number"] == 1]


def test_without_a_store_the_list_is_the_index_alone(run: Run, loop: Path):
    shutil.rmtree(loop / "snapshots")
    (loop / "snapshots").write_text("no folder")

    ran = run("snapshots", "list", "-o", "json")

    assert 0 == ran.code
    assert {"missing", None, "inline"} >= {json.loads(line)["file"] for line in ran.out.splitlines()}


def test_one_is_shown_by_number_by_position_and_by_name(run: Run, loop: Path):
    newest = snapshots(run)[-1]

    shown = [
        json.loads(run("snapshots", "show", name, "-o", "json").out)
        for name in (str(newest["number"]), newest["position"], "newest")
    ]

    assert [newest["digest"]] * 3 == [each["digest"] for each in shown]
    assert 64 == len(shown[0]["lineage"])
    assert {"branches", "loop"} < shown[0]["parts"].keys()
    assert shown[0]["counters"]["learned"] > 0
    assert "publication" in run("snapshots", "show", "published", "-o", "table").out


@pytest.mark.parametrize(("name", "code", "told"), [
    ("99", 5, "the index holds 1, 2"), ("last", 2, "newest or published"), ("1:x", 2, "newest or published"),
])  # fmt: skip
def test_one_that_is_not_there_is_refused(run: Run, loop: Path, name: str, code: int, told: str):
    ran = run("snapshots", "show", name)

    assert (code, "") == (ran.code, ran.out)
    assert told in ran.err


# ── verify ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_good_snapshots_are_verified(run: Run, loop: Path):
    ran = run("snapshots", "verify", "-o", "json")

    assert 0 == ran.code
    assert {"ok"} == {json.loads(line)["verdict"] for line in ran.out.splitlines()}


def test_a_damaged_file_ends_with_1_and_its_reason(run: Run, loop: Path):
    """Defence: every step of the load order is taken."""
    damage(files(loop)[0])

    ran = run("snapshots", "verify", "-o", "json")

    verdicts = [json.loads(line)["verdict"] for line in ran.out.splitlines()]
    assert 1 == ran.code
    assert 1 == verdicts.count("stored_digest")
    assert 0 == run("snapshots", "verify", "newest").code


def test_a_lost_file_ends_with_1(run: Run, loop: Path):
    files(loop)[0].unlink()

    assert (1, "missing") == (
        (ran := run("snapshots", "verify", "1", "-o", "json")).code,
        json.loads(ran.out)["verdict"],
    )


def test_inline_parts_that_are_not_those_of_the_manifest_are_one_that_is_refused(run: Run, loop: Path):
    """Defence: they are no promise of ours that was broken; the other snapshots are checked nevertheless."""
    key, value = last_of_the_index(loop, "%/serving")
    sealed = decode_manifest(value)
    put_into_the_index(loop, key, encode_manifest(sealed._replace(inline=dict.fromkeys(sealed.inline, b""))))

    ran = run("snapshots", "verify", "-o", "json")

    verdicts = {row["kind"]: row["verdict"] for row in map(json.loads, ran.out.splitlines())}
    assert (1, {"snapshot": "ok", "publication": "length"}) == (ran.code, verdicts)


def test_snapshots_of_other_features_are_checked_as_bytes(run: Run, loop: Path):
    take_other_features(loop)

    ran = run("snapshots", "verify", "-o", "json")

    assert (0, {"ok, bytes only"}) == (ran.code, {json.loads(line)["verdict"] for line in ran.out.splitlines()})


# ── diff ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_two_snapshots_are_compared_in_words_and_in_numbers(run: Run, loop: Path):
    words = run("snapshots", "diff", "1", "newest", "-o", "table").out
    found = json.loads(run("snapshots", "diff", "1", "newest", "-o", "json").out)

    before, after = found["before"]["learned"], found["after"]["learned"]
    assert before < after
    assert f"learned: {before} examples and {after}, +{after - before}" in words
    assert "LogisticRegression: the weight of age went from " in words
    assert "asked about the newest " in words
    assert found["effect"]["rows"] > 60
    assert 0 < found["effect"]["mean_change"] < 1
    assert {"age", "intercept"} == {each["name"] for each in found["model"]["weights"]}


def test_a_snapshot_differs_from_itself_in_nothing(run: Run, loop: Path):
    found = json.loads(run("snapshots", "diff", "newest", "newest", "-o", "json").out)

    assert (0, 0.0) == (found["effect"]["differ"], found["effect"]["mean_change"])
    assert 0 == found["model"]["weights_changed"]


def test_a_publication_can_be_compared_with_a_snapshot(run: Run, loop: Path):
    found = json.loads(run("snapshots", "diff", "1", "published", "-o", "json").out)

    assert ("publication", None) == (found["after"]["kind"], found["after"]["drifts"])


def test_snapshots_of_other_features_are_not_compared(run: Run, loop: Path):
    take_other_features(loop)

    ran = run("snapshots", "diff", "1", "2")

    assert (5, "") == (ran.code, ran.out)
    assert "there is no snapshot 1" in ran.err


# ── export, import ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_exported_snapshot_is_a_file_that_only_its_owner_reads_and_that_replaces_none(run: Run, loop: Path):
    ran = run("snapshots", "export", "newest", "out.tailrace")
    again = run("snapshots", "export", "newest", "out.tailrace")

    assert (0, 2) == (ran.code, again.code)
    assert files(loop)[-1].read_bytes() == (loop / "out.tailrace").read_bytes()
    assert 0o600 == stat.S_IMODE((loop / "out.tailrace").stat().st_mode)


def test_a_publication_that_travels_inline_is_exported_as_a_whole_file(run: Run, loop: Path):
    run("snapshots", "export", "published", "out.tailrace")

    assert (loop / "out.tailrace").read_bytes().startswith(b"TAILRACE\0")


def test_a_damaged_snapshot_is_not_exported(run: Run, loop: Path):
    """Defence: what is exported is checked first."""
    damage(files(loop)[0])

    ran = run("snapshots", "export", "1", "out.tailrace")

    assert 5 == ran.code
    assert not (loop / "out.tailrace").exists()


def test_what_is_exported_is_what_was_checked(run: Run, loop: Path, monkeypatch: pytest.MonkeyPatch):
    """Defence: one fetch. A store may give something else the second time."""
    good, get = files(loop)[-1].read_bytes(), DirectoryStore.get
    asked: list[str] = []

    def changes(store: DirectoryStore, path: str, max_bytes: int) -> bytes:
        asked.append(path)
        return get(store, path, max_bytes) if len(asked) == 1 else b"something else"

    monkeypatch.setattr(DirectoryStore, "get", changes)

    ran = run("snapshots", "export", "newest", "out.tailrace")

    assert (0, 1) == (ran.code, len(asked))
    assert good == (loop / "out.tailrace").read_bytes()


def forget_index(folder: Path, like: str = "%") -> None:
    """Lose records of the index, as a topic that was made anew would."""
    with sqlite3.connect(folder / "data" / "log.sqlite3") as log:
        (topic,) = log.execute("SELECT id FROM topics WHERE name = 'phishing.snapshots'").fetchone()
        log.execute(f"DELETE FROM r{topic}_0 WHERE CAST(key AS TEXT) LIKE ?", (like,))
    log.close()


def last_of_the_index(folder: Path, like: str) -> tuple[str, bytes]:
    """Return key and value of the newest record of the index under such a key."""
    with sqlite3.connect(folder / "data" / "log.sqlite3") as log:
        (topic,) = log.execute("SELECT id FROM topics WHERE name = 'phishing.snapshots'").fetchone()
        found = f"SELECT key, value FROM r{topic}_0 WHERE CAST(key AS TEXT) LIKE ? ORDER BY offset DESC"
        key, value = log.execute(found, (like,)).fetchone()
    log.close()
    return key.decode(), value


def test_what_was_exported_brings_a_loop_back_that_lost_index_and_store(run: Run, loop: Path):
    run("snapshots", "export", "newest", "out.tailrace")
    digest = snapshots(run)[-1]["digest"]
    forget_index(loop)
    shutil.rmtree(loop / "snapshots")

    planned = run("snapshots", "import", "out.tailrace")
    before = listed(run)
    done = run("snapshots", "import", "out.tailrace", "--yes")

    assert ([], 0, 0) == (before, planned.code, done.code)
    assert "becomes the newest" in planned.out == done.out
    assert "--yes does it" in planned.err
    assert [(digest, "yes")] == [(each["digest"], each["file"]) for each in listed(run)]
    assert 0 == run("verify").code


def test_an_import_that_is_there_already_does_nothing(run: Run, loop: Path):
    run("snapshots", "export", "newest", "out.tailrace")
    before = listed(run)

    ran = run("snapshots", "import", "out.tailrace", "--yes")

    assert "is there already" in ran.out
    assert before == listed(run)


def test_a_file_that_the_store_lost_is_put_back(run: Run, loop: Path):
    run("snapshots", "export", "1", "out.tailrace")
    files(loop)[0].unlink()

    ran = run("snapshots", "import", "out.tailrace", "--yes")

    assert "it is put back" in ran.out
    assert "yes" == snapshots(run)[0]["file"]


def test_an_older_snapshot_than_what_exists_is_refused(run: Run, loop: Path):
    """Defence: never below what exists."""
    run("snapshots", "export", "1", "out.tailrace")
    forget_index(loop, "%/1")

    ran = run("snapshots", "import", "out.tailrace", "--yes")

    assert 5 == ran.code
    assert "never goes below what exists" in ran.err


def test_a_snapshot_of_another_log_is_refused(run: Run, loop: Path, tmp_path_factory: pytest.TempPathFactory):
    """Defence: the last folded record is compared with the log."""
    run("snapshots", "export", "newest", "out.tailrace")
    other = tmp_path_factory.mktemp("other")
    run_a_loop(other)
    shutil.rmtree(loop / "data")
    shutil.copytree(other / "data", loop / "data")
    forget_index(loop)

    ran = run("snapshots", "import", "out.tailrace", "--yes")

    assert 5 == ran.code
    assert "the log holds offsets" in ran.err


def test_a_snapshot_of_another_loop_is_refused(run: Run, loop: Path):
    """Defence: the loop that a file names; with the same features its lineage and its key are the right ones."""
    run("snapshots", "export", "newest", "out.tailrace")
    settings = load(loop / "tailrace.toml", environ={})
    keys, file = open_keys(settings), loop / "out.tailrace"
    lineage = json.loads(run("snapshots", "show", "-o", "json").out)["lineage"]
    content, now_ms = file.read_bytes(), time.time_ns() // 1_000_000
    found = snapshot_file.read(content, snapshot_file.Expected(lineage, keys.trusted.current(), now_ms))
    packed = snapshot_file.pack(found.bodies)
    other = replace(found.manifest, loop="other", parts=packed.parts)
    file.write_bytes(snapshot_file.write(snapshot_file.signed(other, keys.private(Purpose.SNAPSHOTS)), packed.stored))
    forget_index(loop)

    ran = run("snapshots", "import", "out.tailrace", "--yes")

    assert 5 == ran.code
    assert "of the loop other" in ran.err
    assert [] == listed(run)


def test_a_snapshot_of_other_features_and_damaged_files_are_refused(run: Run, loop: Path):
    run("snapshots", "export", "newest", "out.tailrace")
    shutil.copy(loop / "out.tailrace", loop / "damaged.tailrace")
    damage(loop / "damaged.tailrace")
    run("snapshots", "export", "published", "published.tailrace")

    damaged = run("snapshots", "import", "damaged.tailrace", "--yes")
    published = run("snapshots", "import", "published.tailrace", "--yes")
    missing = run("snapshots", "import", "none.tailrace", "--yes")
    take_other_features(loop)
    foreign = run("snapshots", "import", "out.tailrace", "--yes")

    assert [5, 5, 2, 5] == [ran.code for ran in (damaged, published, missing, foreign)]
    assert "damaged" in damaged.err
    assert "cannot stand in for a snapshot" in published.err
    assert "of lineage" in foreign.err


def say_that_somebody_learns(folder: Path) -> None:
    """Send the heartbeat of a learner."""
    settings = load(folder / "tailrace.toml", environ={})
    now_ms = time.time_ns() // 1_000_000
    beat = MemberStatus("m1", "phishing", "1", now_ms, now_ms, roles=(RoleStatus(Role.LEARN, RoleState.RUNNING),))

    async def send() -> None:
        async with opened(settings) as reading, reading.sink() as sink:
            await (await sink.send(TopicPartition("phishing.status", 0), [Outgoing(b"m1", encode_status(beat))]))

    asyncio.run(send())


def test_nothing_is_imported_under_a_learner_that_would_not_see_it(run: Run, loop: Path):
    """Defence: the heartbeats are asked whether somebody learns."""
    run("snapshots", "export", "newest", "out.tailrace")
    forget_index(loop)
    say_that_somebody_learns(loop)

    ran = run("snapshots", "import", "out.tailrace", "--yes")

    assert (5, "") == (ran.code, ran.out)
    assert "m1 learns now" in ran.err


# ── prune ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_pruning_says_first_and_then_does(run: Run, loop: Path):
    count = len(snapshots(run))

    said = [run("snapshots", "prune", "--keep", "1", *more) for more in ((), ("--dry-run", "--yes"))]
    between = len(snapshots(run))
    done = run("snapshots", "prune", "--keep", "1", "--yes")

    assert {"would go"} == {json.loads(line)["what"] for ran in said for line in ran.out.splitlines()}
    assert (count, 0) == (between, done.code)
    assert [count] == [each["number"] for each in snapshots(run)]
    assert 1 == len(files(loop))
    assert 0 == run("verify").code


def test_files_that_the_index_does_not_name_go_and_files_of_others_stay(run: Run, loop: Path):
    folder = files(loop)[0].parent
    orphan, foreign = folder / "snapshot-00000001-0123456789ab.tailrace", folder / "notes.txt"
    orphan.write_bytes(b"left by a stop")
    foreign.write_text("mine")

    run("snapshots", "prune", "--keep", "16", "--yes")

    assert (False, True) == (orphan.exists(), foreign.exists())
    assert {"yes"} == {each["file"] for each in snapshots(run)}


@pytest.mark.parametrize("learns", [True, False])
def test_a_file_that_a_learner_may_be_about_to_name_stays(run: Run, loop: Path, learns: bool):
    """Defence: a file is stored before the index names it."""
    fresh = files(loop)[0].parent / "snapshot-00000099-0123456789ab.tailrace"
    fresh.write_bytes(b"stored, not yet named")
    if learns:
        say_that_somebody_learns(loop)

    ran = run("snapshots", "prune", "--keep", "16", "--yes")

    assert (learns, learns) == (fresh.exists(), "may be being written" in ran.out)


def test_the_newest_good_one_stays_although_newer_damaged_ones_are_kept(run: Run, loop: Path):
    """Defence: what is thrown away is known not to be the last that can be loaded."""
    for path in files(loop)[1:]:
        damage(path)

    ran = run("snapshots", "prune", "--keep", "1", "--yes", "-o", "json")

    assert "stays: the newest that can be loaded" in ran.out
    assert 0 == run("snapshots", "verify", "1").code


def test_nothing_is_thrown_away_while_nothing_can_be_loaded(run: Run, loop: Path):
    for path in files(loop):
        damage(path)
    count = len(snapshots(run))

    run("snapshots", "prune", "--keep", "1", "--yes")

    assert count == len(snapshots(run))


def test_a_machine_that_does_not_trust_the_key_throws_away_nothing_that_the_index_names(run: Run, loop: Path):
    """Defence: a record that does not count here names its file too."""
    trusted = loop / "keys" / "trusted.json"
    before, kept, count = files(loop), trusted.read_bytes(), len(snapshots(run))
    orphan = before[0].with_name("snapshot-00000001-0123456789ab.tailrace")
    orphan.write_bytes(b"left by a stop")
    trusted.write_text('{"version": 1, "keys": []}')

    said = run("snapshots", "prune", "--keep", "1", "-o", "json")
    done = run("snapshots", "prune", "--keep", "1", "--yes", "-o", "json")

    stays = [json.loads(line) for line in done.out.splitlines()]
    trusted.write_bytes(kept)
    assert (0, 0) == (said.code, done.code)
    assert before == files(loop), "only the orphan is gone"
    assert count == len(snapshots(run))
    assert 0 == run("snapshots", "verify").code
    named = {(loop / "snapshots" / row["path"]): row["what"] for row in stays}
    assert set(before) | {orphan} == set(named)
    assert {"stays: a record that does not count here names it (unknown_key)"} == {named[path] for path in before}
    assert "records of the index do not count here (unknown_key)" in done.err
    assert "tailrace keys trust" in done.err


def put_into_the_index(folder: Path, key: str, value: bytes) -> None:
    """Send a record as somebody would whose key is not trusted here, or a newer Tailrace."""
    settings = load(folder / "tailrace.toml", environ={})

    async def send() -> None:
        async with opened(settings) as reading, reading.sink() as sink:
            await (await sink.send(TopicPartition("phishing.snapshots", 0), [Outgoing(key.encode(), value)]))

    asyncio.run(send())


def test_a_record_that_does_not_count_here_is_not_forgotten_with_the_one_before_it(run: Run, loop: Path):
    """Defence: what stands in the place of a snapshot is looked at before that place is emptied."""
    lineage = json.loads(run("snapshots", "show", "1", "-o", "json").out)["lineage"]
    put_into_the_index(loop, f"{lineage}/1", b"of a newer version")

    ran = run("snapshots", "prune", "--keep", "1", "--yes", "-o", "json")

    what = {row["number"]: row["what"] for row in map(json.loads, ran.out.splitlines())}
    assert "stays: a record that does not count here has its place" == what[1]
    assert 1 in [each["number"] for each in snapshots(run)]
    assert "1 records of the index do not count: manifest" in run("snapshots", "list").err


def test_a_snapshot_that_came_meanwhile_is_not_forgotten_with_the_one_before_it(
    run: Run, loop: Path, monkeypatch: pytest.MonkeyPatch
):
    """Defence: the index is looked at again. A learner writes the next one while somebody prunes."""
    lineage = json.loads(run("snapshots", "show", "1", "-o", "json").out)["lineage"]
    plan = snapshot_moves.plan_pruning

    async def planned_then_written(shelf: Shelf, keep: int) -> snapshot_moves.Pruning:
        planned = await plan(shelf, keep)
        await asyncio.to_thread(put_into_the_index, loop, f"{lineage}/1", b"the next one")
        return planned

    monkeypatch.setattr(snapshot_moves, "plan_pruning", planned_then_written)

    ran = run("snapshots", "prune", "--keep", "1", "--yes")

    assert 0 == ran.code
    assert b"the next one" == last_of_the_index(loop, f"{lineage}/1")[1]


def test_nothing_is_thrown_away_while_the_store_does_not_give_what_may_be_the_newest(
    run: Run, loop: Path, monkeypatch: pytest.MonkeyPatch
):
    """Defence: a file that is not given now is not one that cannot be loaded."""
    newest, get = files(loop)[-1].name, DirectoryStore.get

    def fails_now(store: DirectoryStore, path: str, max_bytes: int) -> bytes:
        if path.endswith(newest):
            raise StoreUnavailable(f"{path} cannot be read now")
        return get(store, path, max_bytes)

    monkeypatch.setattr(DirectoryStore, "get", fails_now)
    before = files(loop)

    ran = run("snapshots", "prune", "--keep", "1", "--yes")

    assert (4, "") == (ran.code, ran.out)
    assert "cannot be read now" in ran.err
    assert before == files(loop)


@pytest.mark.parametrize("keep", ["0", "-1"])
def test_at_least_one_is_kept(run: Run, tmp_path: Path, keep: str):
    write_config(tmp_path)

    assert 2 == run("snapshots", "prune", f"--keep={keep}", "--yes").code


def test_a_loop_without_snapshots_has_an_empty_list(run: Run, tmp_path: Path):
    write_config(tmp_path)
    run("topics", "apply", "--yes")

    assert (0, "") == (run("snapshots", "list", "-o", "json").code, run("snapshots", "list", "-o", "json").out)
    assert "the index holds none" in run("snapshots", "show").err


def test_ran_loop_is_left_as_it_was(run: Run, ran_loop: RanLoop):
    before = {path: path.read_bytes() for path in files(ran_loop.folder)}

    for words in (("list",), ("show",), ("verify",), ("diff", "newest"), ("prune", "--keep", "1")):
        run("snapshots", *words)

    assert before == {path: path.read_bytes() for path in files(ran_loop.folder)}
