"""`tailrace doctor`: each finding names its cause and the next step."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.builders import make_label
from tests.cli.command_builders import Run
from tests.cli.loop_builders import RanLoop, write_config
from tests.settings.toml_builders import make_loop, make_toml
from tests.stores.s3_server import s3_server

from tailrace import main
from tailrace.domain.errors import CodecError
from tailrace.domain.status import Verdict
from tailrace.inspection.doctor import Placement, clocks_check, partitioner_check, placement_of
from tailrace.inspection.model_cost import measured
from tailrace.settings import load
from tailrace.wire.partitioner import crc32_partition_of, partitions_of

PARTITIONS = 4


def findings(out: str) -> dict[str, dict]:
    return {each["name"]: each for each in map(json.loads, out.splitlines())}


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    from tailrace.inspection import doctor, reading

    monkeypatch.setattr(doctor, "HEARD_WITHIN_S", 0.1)
    monkeypatch.setattr(reading, "REACH_WITHIN_S", 0.2)


def make_placement(labels: int = 100, elsewhere: int = 10, crc32: int = 0, keyless: int = 0, other_keys: int = 0):
    return Placement(labels, elsewhere, crc32, keyless, other_keys)


def test_a_loop_that_ran_is_well(run: Run, ran_loop: RanLoop):
    ran = run("doctor", "-o", "json")

    found = findings(ran.out)
    assert 0 == ran.code
    assert {"config", "keys", "log", "topics", "partitioner", "clocks", "store", "model"} == set(found)
    assert {"ok"} == {each["verdict"] for each in found.values()}
    assert "the model of snapshot" in found["model"]["found"]
    assert "40 labels looked at" in found["partitioner"]["found"]


def test_what_is_missing_is_told_with_the_command_that_makes_it(run: Run, ran_loop: RanLoop):
    write_config(ran_loop.folder, name="other")

    ran = run("doctor", "-o", "table")

    assert 0 == ran.code
    assert "warn topics (other): create" in ran.out
    assert "next: `tailrace topics apply --yes` does it" in ran.out
    assert "a fresh model" in ran.out


@pytest.mark.parametrize("log", ["embedded:./data", "kafka://127.0.0.1:1"])
def test_without_a_log_nothing_that_needs_one_is_looked_at(run: Run, tmp_path: Path, log: str):
    write_config(tmp_path, log)

    ran = run("doctor", "-o", "json")

    found = findings(ran.out)
    assert (1, {"config", "keys", "log", "store"}) == (ran.code, set(found))
    assert "fail" == found["log"]["verdict"]
    assert found["log"]["next"]


def test_a_configuration_that_is_wrong_ends_with_3(run: Run, tmp_path: Path):
    (tmp_path / "tailrace.toml").write_text(make_toml(make_loop(horizon="soon")))

    ran = run("doctor", "-o", "json")

    assert 3 == ran.code
    assert "fail" == findings(ran.out)["config"]["verdict"]
    assert "loops.phishing.horizon" in ran.err


def test_a_store_that_takes_nothing_fails(run: Run, ran_loop: RanLoop):
    (ran_loop.folder / "no-folder").write_text("a file")
    file = ran_loop.folder / "tailrace.toml"
    file.write_text(file.read_text().replace("[snapshots]", '[snapshots]\nstore = "file:./no-folder"'))

    ran = run("doctor", "-o", "json")

    found = findings(ran.out)["store"]
    assert (1, "fail") == (ran.code, found["verdict"])
    assert "write there" in found["next"]


def test_the_probe_leaves_nothing_in_the_store(run: Run, ran_loop: RanLoop):
    before = {path for path in (ran_loop.folder / "snapshots").rglob("*") if path.is_file()}

    run("doctor")

    assert before == {path for path in (ran_loop.folder / "snapshots").rglob("*") if path.is_file()}


def in_a_bucket(ran_loop: RanLoop, endpoint: str, secret: str = "hunter2") -> None:
    file = ran_loop.folder / "tailrace.toml"
    store = f'store = "s3://bucket/p"\nendpoint = "{endpoint}"\nkey_id = "me"\nsecret = "{secret}"'
    file.write_text(file.read_text().replace("[snapshots]", f"[snapshots]\n{store}"))


def test_a_bucket_is_written_read_and_left_as_it_was(run: Run, ran_loop: RanLoop):
    with s3_server() as server:
        in_a_bucket(ran_loop, server.endpoint)

        found = findings(run("doctor", "-o", "json").out)["store"]

        assert ("ok", []) == (found["verdict"], server.store().paths())
    assert "s3://bucket/p takes, gives back and deletes" == found["found"]


def test_a_bucket_that_cannot_be_reached_fails_with_the_next_step_and_without_its_secret(run: Run, ran_loop: RanLoop):
    in_a_bucket(ran_loop, "http://127.0.0.1:1")

    ran = run("doctor", "-o", "json")

    found = findings(ran.out)["store"]
    assert (1, "fail") == (ran.code, found["verdict"])
    assert "[snapshots] endpoint" in found["next"]
    assert "hunter2" not in ran.out + ran.err


# ── labels ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_labels_that_crc32_placed_are_recognised():
    labels = [make_label(f"event-{index}") for index in range(200)]
    keys = [label.id.encode() for label in labels]
    records = [SimpleNamespace(key=key, partition=crc32_partition_of(key, PARTITIONS)) for key in keys]

    placed = placement_of(records, labels, PARTITIONS)
    check = partitioner_check("verdicts", placed, PARTITIONS, "phishing")

    homes = partitions_of(keys, PARTITIONS)
    away = sum(record.partition != home for record, home in zip(records, homes, strict=True))
    assert Placement(200, away, away, 0, 0) == placed
    assert Verdict.WARN is check.verdict
    assert "librdkafka" in check.found
    assert "partitioner=murmur2_random" in check.next


@pytest.mark.parametrize(
    ("placed", "partitions", "verdict", "words"),
    [
        (make_placement(labels=0, elsewhere=0), 4, "ok", "holds no label"),
        (make_placement(), 1, "ok", "one partition"),
        (make_placement(elsewhere=0), 4, "ok", "100 labels looked at"),
        (make_placement(keyless=9), 4, "warn", "without a key"),
        (make_placement(other_keys=9), 4, "warn", "another key than the event id"),
        (make_placement(), 4, "warn", "10 of 100 labels lie on another partition"),
    ],
)
def test_where_labels_lie_is_told_with_the_reason(placed: Placement, partitions: int, verdict: str, words: str):
    check = partitioner_check("verdicts", placed, partitions, "phishing")

    assert verdict == check.verdict
    assert words in check.found
    assert bool(check.next) == (verdict != "ok")


# ── clocks ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("skews", "verdict", "words"),
    [
        ({"this machine": 300}, "ok", "0.3 s ahead of"),
        ({"this machine": 300, "member-a": -4_000}, "warn", "the clock of member-a is 4.0 s behind the broker's"),
        ({"this machine": 400_000}, "fail", "400.0 s ahead of"),
    ],
)
def test_clocks_are_compared_with_the_brokers(skews: dict[str, int], verdict: str, words: str):
    check = clocks_check(skews, 300_000, "phishing")

    assert verdict == check.verdict
    assert words in check.found


# ── the model ───────────────────────────────────────────────────────────────────────────────────────────────────────


def fold_of(folder: Path):
    write_config(folder)
    (domain,) = main.loops_of(load(folder / "tailrace.toml", environ={}))
    fold = domain.fold()
    return fold, fold.begin_branch(domain.branch)


def test_a_model_that_raises_at_the_events_that_came_is_told(tmp_path: Path):
    fold, branch = fold_of(tmp_path)
    for amount in (1.0, 2.0):
        branch.model.learn_one({"age": amount}, True)
    branch.learned = 2

    check = measured("phishing", fold, branch, "the model", [{"age": 1.0}, {"age": "text"}])

    assert "warn" == check.verdict
    assert "it raised at 1 of them" in check.found


def test_a_fresh_model_that_cannot_learn_what_came_fails(tmp_path: Path):
    fold, branch = fold_of(tmp_path)

    check = measured("phishing", fold, branch, "a fresh model", [{"age": "text"}])

    assert "fail" == check.verdict
    assert "a fresh model raised TypeError when it learned" in check.found


def test_a_state_that_cannot_be_encoded_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fold, branch = fold_of(tmp_path)

    def refuse(_state: object) -> None:
        raise CodecError("a set is not on the list")

    monkeypatch.setattr(fold, "body_of", refuse)

    check = measured("phishing", fold, branch, "the model", [])

    assert "fail" == check.verdict
    assert "a set is not on the list" in check.found


def test_a_slow_model_asks_for_roles_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fold, branch = fold_of(tmp_path)
    monkeypatch.setattr(sys.modules["tailrace.inspection.model_cost"], "SLOW_S", 0.0)

    check = measured("phishing", fold, branch, "the model", [{"age": 1.0}])

    assert "warn" == check.verdict
    assert "--role score" in check.next


def test_what_the_first_answer_of_a_process_loads_makes_no_model_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fold, branch = fold_of(tmp_path)
    module = sys.modules["tailrace.inspection.model_cost"]
    score, loaded = module.score, []

    def loading(*arguments: object) -> object:
        if not loaded:
            loaded.append(time.sleep(0.05))
        return score(*arguments)

    monkeypatch.setattr(module, "score", loading)

    check = measured("phishing", fold, branch, "the model", [{"age": 1.0}])

    assert "ok" == check.verdict
    assert "by 1 event" == check.found[-10:]
