"""What becomes of a loop when its snapshots are damaged, forged, replayed, or signed by a key that was revoked.

After each, everything that was ever learned is in the state; a fold of the log from its start proves it by the digest.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from tests.keys import make_key
from tests.scenarios.harness import Scenario, now_ms, pairs, until

from tailrace.domain.positions import position_of
from tailrace.domain.snapshots import Kind, Manifest, index_key, manifest_of
from tailrace.domain.status import Role
from tailrace.inspection.reading import opened
from tailrace.inspection.verifying import Verifier
from tailrace.main import Process, versions
from tailrace.opening import open_keys, open_store
from tailrace.stores import snapshot_file
from tailrace.stores.signing import Purpose
from tailrace.streams.log import Outgoing
from tailrace.wire.avro_codec import decode_manifest, encode_manifest


@pytest.fixture
def in_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """No part travels in the index, as those of a large model do not."""
    monkeypatch.setattr(snapshot_file, "MAX_INLINE_BYTES", 0)


async def learn(scenario: Scenario, process: Process, count: int, first: int) -> None:
    """Send events and labels, and wait until all of them are learned."""
    before = scenario.learned(process)
    events, labels = pairs(count, now_ms(), first=first)
    await scenario.user.events(*events)
    await scenario.user.labels(*labels)
    await until(lambda: scenario.learned(process) == before + count, f"{count} more are learned")


async def two_snapshots(made: Callable) -> Scenario:
    """Let a learner run and stop twice: it writes a snapshot whenever it stops."""
    scenario = await made(snapshots={"every": "1h", "publish": "1h"})
    for first in (0, 100):
        process = await scenario.start()
        await learn(scenario, process, 50, first)
        await scenario.stop(process)
    return scenario


def files(scenario: Scenario) -> list[Path]:
    """Return the files of snapshots, oldest first."""
    return sorted(scenario.config.parent.glob("snapshots/**/snapshot-*.tailrace"))


def refused(process: Process, reason: str) -> int:
    """Return how often a snapshot was refused for a reason."""
    for line in generate_latest(process.instruments.registry).decode().splitlines():
        if line.startswith("tailrace_snapshots_refused_total") and f'reason="{reason}"' in line:
            return int(float(line.rsplit(" ", 1)[1]))
    return 0


async def manifests(scenario: Scenario) -> list[Manifest]:
    """Return every manifest in the index, in order."""
    records = await scenario.user.read(scenario.domain.topics.snapshots)
    return [manifest_of(decode_manifest(record.value).content) for record in records if record.value is not None]


async def put_into_the_index(scenario: Scenario, manifest: Manifest) -> None:
    """Write an index record, as anybody can who may write to the topic."""
    record = Outgoing(index_key(manifest).encode(), encode_manifest(snapshot_file.seal(manifest)))
    await scenario.user.raw(scenario.domain.topics.snapshots, 0, record)


async def proven(scenario: Scenario, process: Process) -> None:
    """Stop, so that a snapshot is written, and fold the log from its start: the digests are equal."""
    await scenario.stop(process)
    async with opened(scenario.settings) as reading:
        domain = scenario.domain
        verifier = Verifier(reading, domain.topics, domain.fold(), open_store(scenario.settings), versions())
        assert "" == (await verifier.verify(lambda *_: None)).problem


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def huge(file: Path) -> None:
    os.truncate(file, 10 << 30)


def a_link(file: Path) -> None:
    file.rename(file.with_suffix(".moved"))
    file.symlink_to(file.with_suffix(".moved"))


def the_one_before(file: Path) -> None:
    file.write_bytes(min(file.parent.glob("snapshot-*")).read_bytes())


@pytest.mark.usefixtures("in_files")
@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (cut, "length"),
        (emptied, "magic"),
        (huge, "too_large"),
        (a_link, "not_a_file"),
        (the_one_before, "index"),
        (Path.unlink, "missing"),
    ],
)
async def test_a_damaged_snapshot_is_refused_and_the_one_before_it_continued(made, act, reason: str):
    scenario = await two_snapshots(made)
    act(files(scenario)[-1])

    process = await scenario.start()

    assert 100 == scenario.learned(process)
    assert 1 <= refused(process, reason)
    await learn(scenario, process, 20, 200)
    await proven(scenario, process)


@pytest.mark.usefixtures("in_files")
async def test_where_every_snapshot_is_damaged_the_log_is_folded_again(made):
    scenario = await two_snapshots(made)
    for file in files(scenario):
        cut(file)

    process = await scenario.start()

    assert 100 == scenario.learned(process)
    assert 2 <= refused(process, "length")
    await scenario.stop(process)
    process = await scenario.start()
    assert 0 == refused(process, "length")  # what was folded again was written again
    await proven(scenario, process)


async def test_a_snapshot_that_a_stranger_signed_is_never_loaded(made):
    """It claims to be far ahead, so that every server would take it, were it not for the signature."""
    scenario = await two_snapshots(made)
    (*_, newest) = await manifests(scenario)
    ahead = snapshot_file.signed(
        Manifest(
            **{name: getattr(newest, name) for name in ("lineage", "loop", "log_id", "kind", "parts", "state_digest")},
            number=newest.number + 1,
            position=position_of(1 << 30),
            last_block_offset=None,
            last_block_digest=None,
            previous_digest=newest.digest,
            counters={},
            versions={},
            created_at_ms=now_ms(),
        ),
        make_key(),
    )
    await put_into_the_index(scenario, ahead)

    process = await scenario.start()

    assert 100 == scenario.learned(process)
    assert 1 <= refused(process, "unknown_key")
    assert scenario.loop_of(process).models.current().position < position_of(1 << 30)


async def test_a_server_that_does_not_trust_the_learners_key_says_so_and_serves_as_soon_as_it_does(made):
    """
    Fails when a refusal is only logged: such a server answers with an untrained model and looks well. And when what
    was refused is not asked for again: where nothing new is learned, nothing else is ever published.
    """
    scenario = await two_snapshots(made)
    trusted = scenario.settings.keys.folder / "trusted.json"
    elsewhere = trusted.rename(trusted.with_suffix(".elsewhere"))

    server = await scenario.start([Role.SCORE])
    loop = scenario.loop_of(server)
    assert "which is not trusted here" in loop.follower.remark()
    assert 0 == loop.models.current().position
    elsewhere.rename(trusted)

    await until(lambda: loop.models.current().position > 0, "what was published is served")
    assert "" == loop.follower.remark()


async def test_an_old_snapshot_that_comes_into_the_index_again_is_refused(made):
    """The record is the learner's own, signature and all; only its place in the topic is new."""
    scenario = await two_snapshots(made)
    records = await scenario.user.read(scenario.domain.topics.snapshots)
    await scenario.user.raw(scenario.domain.topics.snapshots, 0, Outgoing(records[0].key, records[0].value))

    process = await scenario.start()

    assert 100 == scenario.learned(process)
    assert 1 <= refused(process, "replayed")


async def far_ahead(scenario: Scenario, **changes: object) -> Manifest:
    """Return the newest snapshot as the learner might have signed it: good in itself, and said to be far ahead."""
    records = await scenario.user.read(scenario.domain.topics.snapshots)
    (*_, sealed) = [decode_manifest(record.value) for record in records if record.value is not None]
    said = {"position": position_of(1 << 30), "last_block_offset": None, "last_block_digest": None} | changes
    manifest = replace(manifest_of(sealed.content), inline=sealed.inline, **said)
    return snapshot_file.signed(manifest, open_keys(scenario.settings).private(Purpose.SNAPSHOTS))


async def test_a_snapshot_of_another_loop_is_never_loaded(made):
    """
    Two loops of the same features have one lineage and, on one machine, one key: the signature is good. Defence: a
    manifest counts in the index of its own loop only; otherwise it would serve here, and what is written after it
    would count as replayed.
    """
    scenario = await two_snapshots(made)
    await put_into_the_index(scenario, await far_ahead(scenario, loop="other"))

    process = await scenario.start()

    assert 100 == scenario.learned(process)
    assert 1 <= refused(process, "loop")
    assert scenario.loop_of(process).models.current().position < position_of(1 << 30)
    await learn(scenario, process, 10, first=300)
    await proven(scenario, process)
    assert 0 == refused(process, "replayed")


async def test_a_learner_does_not_begin_with_a_state_of_another_position_than_its_manifest_says(made):
    """Defence: the position in the state is compared; the next record would be folded at a wrong place."""
    scenario = await two_snapshots(made)
    await put_into_the_index(scenario, await far_ahead(scenario))

    process = await scenario.start()

    assert 100 == scenario.learned(process)
    assert 1 <= refused(process, "position")


async def test_a_server_never_goes_back_to_an_older_state(made):
    """
    The older state is the learner's own, and the first of its kind in the index, so that nothing is replayed. Defence:
    a server compares positions with what it has served (`Models.follow`, and before it `Follower._load`).
    """
    scenario = await two_snapshots(made)
    server = await scenario.start(roles=[Role.SCORE])
    models = scenario.loop_of(server).models
    served = models.current()
    older = await far_ahead(scenario, kind=Kind.PUBLICATION, position=position_of(1), store_path=None)
    await put_into_the_index(scenario, older)
    for number in (1, 2):  # each is refused when all before it was dealt with
        stranger = snapshot_file.signed(replace(older, number=90 + number), make_key())
        await put_into_the_index(scenario, stranger)
        await until(lambda number=number: refused(server, "unknown_key") == number, "the record was read")

    assert served is models.current()
    assert position_of(1) < served.position


async def test_a_server_does_not_change_over_to_another_log(made):
    """
    A log that was deleted and begun anew has left signed snapshots that are far ahead. Defence: a server asks for the
    log of the state that it serves; without it what the learner writes from then on would count as older, for ever.
    """
    scenario = await two_snapshots(made)
    server = await scenario.start(roles=[Role.SCORE])
    models = scenario.loop_of(server).models
    served = models.current()
    await put_into_the_index(scenario, await far_ahead(scenario, kind=Kind.PUBLICATION, log_id="f" * 32))

    await until(lambda: refused(server, "log") == 1, "the state of the other log was refused")

    assert served is models.current()


async def test_after_a_revocation_the_log_is_folded_again_and_a_new_key_signs(made):
    scenario = await two_snapshots(made)
    keys = open_keys(scenario.settings)
    old = keys.private(Purpose.SNAPSHOTS).key_id
    keys.trusted.revoke(old)
    new = keys.generate(Purpose.SNAPSHOTS)

    process = await scenario.start()
    assert 100 == scenario.learned(process)
    assert 2 <= refused(process, "revoked_key")
    await learn(scenario, process, 20, 200)
    await scenario.stop(process)

    assert [old, old, new.key_id] == [each.key_id for each in await manifests(scenario) if each.kind == "snapshot"]
    again = await scenario.start()
    assert 120 == scenario.learned(again)
    await proven(scenario, again)


async def test_a_rotation_is_noticed_without_a_restart(made):
    scenario = await made(snapshots={"every": "50ms", "publish": "50ms"})
    process = await scenario.start()
    await learn(scenario, process, 20, 0)
    new = open_keys(scenario.settings).generate(Purpose.SNAPSHOTS)

    await learn(scenario, process, 20, 100)

    async def signed_by_the_new_one():
        return [each.key_id for each in await manifests(scenario)][-1:] == [new.key_id]

    await until(signed_by_the_new_one, "the new key signs")
    assert 0 == refused(process, "unknown_key")


async def test_a_learner_whose_key_is_not_trusted_writes_nothing_and_learns_on(made):
    scenario = await made(snapshots={"every": "50ms", "publish": "50ms"})
    process = await scenario.start()
    await learn(scenario, process, 20, 0)
    await until(lambda: scenario.loop_of(process).recorder.counts["publications"], "something was published before")
    keys = open_keys(scenario.settings)
    keys.trusted.revoke(keys.private(Purpose.SNAPSHOTS).key_id)
    before = len(await manifests(scenario))

    await learn(scenario, process, 20, 100)
    await until(lambda: scenario.loop_of(process).recorder.counts["snapshots_failed"], "it says so")

    assert len(await manifests(scenario)) <= before + 1  # one may have been under way
    assert 40 == scenario.learned(process)
