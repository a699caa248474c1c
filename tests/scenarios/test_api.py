"""The API of a process that runs: the same answers as the stream, writes that the log acknowledges, streams that resume."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import shutil
import time
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from river import compose
from tests.log_forms import LogForm
from tests.scenarios.api_ground import Served, free_address, make_token, served
from tests.scenarios.harness import Scenario, now_ms, pairs, until

from tailrace.client import ApiError, Client, Unreachable
from tailrace.client.connection import Connection
from tailrace.domain.access import Scope
from tailrace.domain.errors import SettingsError, SnapshotRefused
from tailrace.domain.positions import parse
from tailrace.domain.scoring import score
from tailrace.domain.snapshots import BRANCH_PART, Kind, index_key, manifest_of
from tailrace.domain.state import BRANCHES
from tailrace.domain.status import Role
from tailrace.inspection import telling
from tailrace.main import Process, compiling
from tailrace.stores import snapshot_file
from tailrace.stores.key_folder import KeyFolder
from tailrace.stores.signing import Purpose
from tailrace.streams.log import Outgoing
from tailrace.wire.avro_codec import decode_manifest, encode_manifest


@pytest.fixture
async def at(log_form: LogForm, tmp_path: Path):
    async with served(log_form, tmp_path) as made:
        yield made


@pytest.fixture
async def embedded(embedded_form: LogForm, tmp_path: Path):
    async with served(embedded_form, tmp_path) as made:
        yield made


async def teach(at: Served, count: int = 60) -> list[dict[str, Any]]:
    """Let the loop learn examples that are written by HTTP; return the events."""
    events, labels = pairs(count, now_ms())
    await at.ask(lambda client: client.write_events(events))
    await at.ask(lambda client: client.write_labels(labels))
    await until(lambda: at.scenario.learned(at.process) == count, "every label is learned")
    return events


async def test_events_and_labels_are_written_where_kafka_clients_would_put_them_and_are_learned(at: Served):
    events, labels = pairs(40, now_ms())

    written = await at.ask(lambda client: client.write_events(events))
    told = await at.ask(lambda client: client.write_labels(labels, loop=at.name))

    await until(lambda: at.scenario.learned(at.process) == 40, "every label is learned")
    for topic, places in (("events", written), ("labels", told)):
        records = await at.scenario.user.read(getattr(at.scenario.domain.topics, topic))
        expected = {(record.partition, record.offset): (record.key or b"").decode() for record in records}
        assert expected == {(each["partition"], each["offset"]): each["id"] for each in places}
    assert not await at.scenario.user.read(f"{at.scenario.domain.topics.labels}.dlq")


async def test_an_answer_is_what_the_stream_says(at: Served):
    await teach(at)
    before = digest_of(at)
    asked = [{"id": f"q{index}", "at": now_ms(), "a": index / 3, "b": -index} for index in range(100)]

    answers = await at.ask(lambda client: client.predict(at.name, asked))
    await at.ask(lambda client: client.write_events(asked))

    async def streamed():
        found = {each["event_id"]: each for each in await at.scenario.user.predictions()}
        return found if all(each["id"] in found for each in asked) else None

    await until(streamed, "the stream has answered too")
    said = await streamed()
    names = ("y_pred", "proba", "outcome", "model", "version", "position")
    assert [[answer[name] for name in names] for answer in answers] == [
        [said[each["id"]][name] for name in names] for each in asked
    ]
    assert before == digest_of(at)


async def test_asking_never_learns_and_writes_nothing(embedded: Served):
    at = embedded
    await teach(at)
    before, predictions = digest_of(at), len(await at.scenario.user.predictions())
    instances = [{"a": float(index), "b": 1.0} for index in range(300)]

    answers = await at.ask(lambda client: client.predict(at.name, instances, explain=False))
    reasons = await at.ask(lambda client: client.predict(at.name, instances[:20], explain=True))

    assert 300 == len(answers)
    assert {"weights"} == {each["explanation"]["method"] for each in reasons}
    assert (before, predictions) == (digest_of(at), len(await at.scenario.user.predictions()))


def digest_of(at: Served) -> tuple[int, str]:
    """Return position and digest of the live state of the model alone: the rest of the loop moves by itself."""
    live = at.scenario.loop_of(at.process).models.live
    fold = at.scenario.domain.fold()
    champion = live.champion
    return champion.learned, hashlib.sha256(
        fold.kit(at.scenario.domain.branch).codec.encode(champion.model)
    ).hexdigest()


async def test_what_breaks_the_contract_is_refused_whole_with_the_code_of_a_dead_letter(embedded: Served):
    at = embedded
    good = {"id": "e1", "at": now_ms(), "a": 1.0, "b": 2.0}

    with pytest.raises(ApiError) as caught:
        await at.ask(lambda client: client.write_events([good, good | {"a": "x"}, {"a": 1.0, "b": 2.0}]))
    with pytest.raises(ApiError) as labels:
        await at.ask(lambda client: client.write_labels([{"id": "e1", "at": now_ms(), "y": "maybe"}]))

    assert ("invalid_records", 422) == (caught.value.code, caught.value.status)
    assert [("events.1", "feature_type"), ("events.2", "id_missing")] == [
        (each["at"], each["code"]) for each in caught.value.errors
    ]
    assert "maybe" not in str(labels.value)
    assert not await at.scenario.user.read(at.scenario.domain.topics.events)


async def test_instances_are_rejected_one_by_one(embedded: Served):
    answers = await embedded.ask(
        lambda client: client.predict(
            embedded.name, [{"a": 1.0, "b": 1.0}, {"a": 1.0}, {"a": 1e400, "b": 1.0} | {"a": 2**70}]
        )
    )

    assert ["served", "rejected"] == [each["outcome"] for each in answers[:2]]
    assert "feature_missing" == answers[1]["code"]


async def test_status_says_the_sentence_of_the_command_line(embedded: Served):
    await teach(embedded)

    async def all_is_well():
        found = await embedded.ask(lambda client: client.status())
        return found if found["verdict"] == "ok" and found["loops"][0]["model"]["learned"] == 60 else None

    await until(all_is_well, "a heartbeat has told")
    found = await all_is_well()

    said = found["loops"][0]["sentence"]
    assert said.startswith("All is well in 1 process; predictions are served from a state")
    assert (said, "all_well") == (found["sentence"], found["code"])


async def test_the_heartbeats_behind_quality_are_read_once_for_all_who_ask_within_a_second(
    embedded: Served, monkeypatch: pytest.MonkeyPatch
):
    await teach(embedded)
    await until(lambda: embedded.ask(lambda client: list(client.quality(embedded.name, step_s=1))), "there is quality")
    read: list[str] = []
    judged_of = telling.judged_of

    async def counted(reading: Any, topics: Any) -> Any:
        read.append(topics.status)
        return await judged_of(reading, topics)

    monkeypatch.setattr(telling, "judged_of", counted)
    monkeypatch.setattr("tailrace.main.api.STATUS_FOR_S", 60.0)

    def ask_often(client: Client) -> list[Any]:
        return [list(client.quality(embedded.name, step_s=step)) for step in (1, 2, 3, 86_400, 86_400)]

    found = await embedded.ask(ask_often)

    assert len(read) <= 1
    assert found[-1] == found[-2]
    assert len(found[0]) >= len(found[1]) >= len(found[-1]) >= 1


async def test_predictions_are_paged_from_the_newest_back(at: Served):
    events = await teach(at, 50)

    pages, cursor, oldest = [], None, []
    while True:
        page = await at.ask(
            lambda client, cursor=cursor: client._connection.get("/v1/predictions", limit=7, cursor=cursor)
        )
        pages.append(page["predictions"])
        oldest.append(page["oldest"])
        cursor = page["next"]
        if cursor is None:
            break

    found = [each["event_id"] for page in pages for each in page]
    assert sorted(event["id"] for event in events) == sorted(found)
    assert [7] * 7 + [1] == [len(page) for page in pages]
    assert 30 == len(await at.ask(lambda client: client.predictions(limit=30)))
    assert oldest == sorted(oldest, reverse=True)
    newest = datetime.fromisoformat(oldest[0]) + timedelta(hours=2)
    before = datetime.fromisoformat(oldest[-1]) - timedelta(hours=1)
    assert 50 == len(await at.ask(lambda client: client.predictions(since=before)))
    assert 0 == len(await at.ask(lambda client: client.predictions(since=newest)))


async def test_a_stream_resumes_without_a_gap_and_without_a_repetition(at: Served):
    events, _ = pairs(30, now_ms())

    def listen(client: Client, last_id: str | None, count: int) -> list[Any]:
        stream = client.events(types=["prediction"], last_id=last_id)
        return list(islice(stream, count))

    listening = asyncio.create_task(at.ask(lambda client: listen(client, "0.0/0", 10)))
    await at.scenario.user.events(*events[:10])
    first = await listening
    await at.scenario.user.events(*events[10:])
    rest = await at.ask(lambda client: listen(client, first[-1].id, 20))

    heard = [event.data["event_id"] for event in (*first, *rest)]
    assert sorted(event["id"] for event in events) == sorted(heard)
    assert {"prediction"} == {event.type for event in (*first, *rest)}


async def test_a_stream_ends_when_the_process_stops_and_holds_nothing_up(embedded: Served):
    at = embedded
    connection = http.client.HTTPConnection(at.address, timeout=20)
    connection.request("GET", "/v1/events", headers={"authorization": f"Bearer {at.token}"})
    answer = await asyncio.to_thread(connection.getresponse)
    reading = asyncio.create_task(asyncio.to_thread(answer.read))
    await asyncio.sleep(0.2)

    begun = time.monotonic()
    await at.scenario.stop(at.process)
    took_s = time.monotonic() - begun

    assert (await reading).startswith(b"retry: 1000")
    assert took_s < 5
    connection.close()


async def test_a_cursor_that_the_log_does_not_hold_is_told_as_a_gap(embedded: Served):
    await teach(embedded, 5)

    event = await embedded.ask(lambda client: next(client.events(last_id="900.900/900")))

    assert "gap" == event.type


async def test_a_stream_that_broke_before_its_first_event_misses_nothing(embedded: Served):
    await teach(embedded, 5)
    connection = http.client.HTTPConnection(embedded.address, timeout=20)
    connection.request("GET", "/v1/events", headers={"authorization": f"Bearer {embedded.token}"})
    answer = await asyncio.to_thread(connection.getresponse)
    opened = [await asyncio.to_thread(answer.readline) for _ in range(4)]
    connection.close()
    events, _ = pairs(1, now_ms(), first=900)
    await embedded.scenario.user.events(*events)

    last_id = opened[2].decode().strip().removeprefix("id: ")
    event = await embedded.ask(lambda client: next(client.events(types=["prediction"], last_id=last_id)))

    assert (b"retry: 1000\n", b"\n") == (opened[0], opened[3])
    assert events[0]["id"] == event.data["event_id"]


async def test_a_token_that_is_revoked_ends_its_streams(embedded: Served, tmp_path: Path):
    from tailrace.stores.token_file import TokenFile

    token = make_token(tmp_path, [Scope.READ])
    connection = http.client.HTTPConnection(embedded.address, timeout=20)
    connection.request("GET", "/v1/events", headers={"authorization": f"Bearer {token}"})
    answer = await asyncio.to_thread(connection.getresponse)
    reading = asyncio.create_task(asyncio.to_thread(answer.read))
    await asyncio.sleep(0.2)

    TokenFile(tmp_path / "keys").revoke(token.split("_")[1])

    async with asyncio.timeout(5):
        assert (await reading).startswith(b"retry: 1000")
    connection.close()


async def test_a_token_that_is_revoked_stops_working_at_once(embedded: Served, tmp_path: Path):
    token = make_token(tmp_path, [Scope.READ])
    await embedded.ask(lambda client: client.status(), token=token)
    embedded_file = KeyFolder(tmp_path / "keys").folder / "tokens.json"
    before = embedded_file.read_text()

    from tailrace.stores.token_file import TokenFile

    TokenFile(tmp_path / "keys").revoke(token.split("_")[1])

    with pytest.raises(ApiError, match="was revoked") as caught:
        await embedded.ask(lambda client: client.status(), token=token)
    assert "unauthorized" == caught.value.code
    assert token not in before


# ── a model taken away ──────────────────────────────────────────────────────────────────────────────────────────────


async def snapshot_after(at: Served, learned: int) -> None:
    async def taken():
        versions = await at.ask(lambda client: client.versions(at.name))
        return versions and versions[0]["counters"]["learned"] >= learned

    await until(taken, "a snapshot holds what was learned")


async def test_a_model_is_rebuilt_from_a_snapshot_and_answers_as_the_one_that_serves(at: Served, tmp_path: Path):
    await teach(at)
    await snapshot_after(at, 60)
    instances = [{"a": float(index), "b": -1.0} for index in range(20)]

    model = await at.ask(
        lambda client: client.model(f"{at.name}@champion"), trusted=[tmp_path / "keys" / "learner.pub"]
    )
    answers = await at.ask(lambda client: client.predict(at.name, instances))

    target = at.scenario.domain.target
    assert [answer["proba"] for answer in answers] == score(model, instances, target).served.proba[:, 0].tolist()


async def test_a_compiled_model_is_rebuilt_as_rivers_and_only_over_the_contract_that_was_signed(
    embedded_form: LogForm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(compiling, "has_compiler", lambda: True)  # without numba: the same kernels, slowly
    champion = {"model": "StandardScaler() | LogisticRegression()", "compiled": "auto"}
    async with served(embedded_form, tmp_path, champion=champion) as at:
        await teach(at)
        await snapshot_after(at, 60)
        instances = [{"a": float(index), "b": -1.0} for index in range(20)]
        trusted = [tmp_path / "keys" / "learner.pub"]

        model = await at.ask(lambda client: client.model(f"{at.name}@champion"), trusted=trusted)
        answers = await at.ask(lambda client: client.predict(at.name, instances))
        described = await at.ask(lambda client: client.describe(at.name))
        monkeypatch.setattr(Client, "describe", lambda *_: described | {"negative": False})
        with pytest.raises(SnapshotRefused, match="another contract"):
            await at.ask(lambda client: client.model(f"{at.name}@champion"), trusted=trusted)

    assert isinstance(model, compose.Pipeline)
    served_proba = [answer["proba"] for answer in answers]
    assert served_proba == pytest.approx([model.predict_proba_one(x)[True] for x in instances], rel=1e-9)


async def test_a_snapshot_that_no_trusted_key_has_signed_is_not_read(embedded: Served, tmp_path: Path):
    at = embedded
    await teach(at, 5)
    await snapshot_after(at, 5)
    stranger = KeyFolder(tmp_path / "stranger")
    stranger.generate(Purpose.SNAPSHOTS)

    with pytest.raises(SnapshotRefused) as refused:
        await at.ask(
            lambda client: client.model(f"{at.name}@champion"), trusted=[tmp_path / "stranger" / "learner.pub"]
        )
    with pytest.raises(SettingsError, match="found no key"):
        await at.ask(lambda client: client.model(f"{at.name}@champion"))
    with pytest.raises(ApiError) as missing:
        await at.ask(lambda client: client.model(f"{at.name}/999"), trusted=[tmp_path / "keys"])

    assert "unknown_key" == refused.value.reason
    assert "no_snapshot" == missing.value.code


async def test_a_snapshot_that_was_not_asked_for_is_not_rebuilt(
    embedded: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    at = embedded
    await teach(at, 5)
    await snapshot_after(at, 5)
    get_bytes = Connection.get_bytes

    def newest(connection: Connection, _path: str, *, most: int, **_parameters: Any) -> Any:
        return get_bytes(connection, f"/v1/models/{at.name}/snapshot", most=most)

    monkeypatch.setattr(Connection, "get_bytes", newest)

    for address, lineage, reason in (
        ("other@champion", None, "loop"),
        ("other/1", None, "loop"),
        (f"{at.name}/999", None, "number"),
        (f"{at.name}@champion", "0" * 64, "lineage"),
    ):
        ask = partial(Client.model, address=address, lineage=lineage)
        with pytest.raises(SnapshotRefused) as refused:
            await at.ask(ask, trusted=[tmp_path / "keys"])
        assert reason == refused.value.reason


@pytest.mark.parametrize("part", [BRANCHES, BRANCH_PART])
async def test_a_signed_state_that_cannot_be_read_is_a_snapshot_that_is_refused(
    embedded: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
):
    """Defence: errors of the codec are told as what a caller of the client is promised."""
    at = embedded
    await teach(at, 5)
    await snapshot_after(at, 5)
    read = snapshot_file.read

    def cut(content: bytes, expected: snapshot_file.Expected) -> snapshot_file.Snapshot:
        found = read(content, expected)
        return found._replace(
            bodies={name: body[:-1] if name.startswith(part) else body for name, body in found.bodies.items()}
        )

    monkeypatch.setattr(snapshot_file, "read", cut)

    with pytest.raises(SnapshotRefused) as refused:
        await at.ask(lambda client: client.model(f"{at.name}@champion"), trusted=[tmp_path / "keys"])
    assert "codec" == refused.value.reason


async def head_of(at: Served, **asked: Any) -> tuple[int, dict[str, str]]:
    """Ask for the head of a snapshot; return status and headers."""

    def ask() -> tuple[int, dict[str, str]]:
        connection = http.client.HTTPConnection(at.address, timeout=10)
        query = "&".join(f"{name}={value}" for name, value in asked.items())
        headers = {"authorization": f"Bearer {at.token}"}
        connection.request("HEAD", f"/v1/models/{at.name}/snapshot?{query}", headers=headers)
        answer = connection.getresponse()
        connection.close()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}

    return await asyncio.to_thread(ask)


async def test_the_head_of_a_snapshot_is_told_without_its_file(
    embedded: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    at = embedded
    monkeypatch.setattr(snapshot_file, "MAX_INLINE_BYTES", 0)
    await teach(at, 5)
    await snapshot_after(at, 5)
    (version, *_) = await at.ask(lambda client: client.versions(at.name))
    asked = {"number": version["number"]}
    file, _ = await at.ask(
        lambda client: client._connection.get_bytes(
            f"/v1/models/{at.name}/snapshot", most=1 << 20, number=version["number"]
        )
    )
    shutil.rmtree(tmp_path / "snapshots")

    status, headers = await head_of(at, **asked)
    with pytest.raises(ApiError) as missing:
        await at.ask(lambda client: client.model(f"{at.name}/{version['number']}"), trusted=[tmp_path / "keys"])

    assert (200, str(len(file)), version["lineage"]) == (
        status,
        headers["content-length"],
        headers["x-tailrace-lineage"],
    )
    assert "no_snapshot" == missing.value.code


async def test_a_number_that_two_lineages_have_needs_the_lineage(embedded: Served, tmp_path: Path):
    """Guards against a model of other features or libraries than the one that was asked for: each lineage counts from 1."""
    at = embedded
    await teach(at, 5)
    await snapshot_after(at, 5)
    records = await at.scenario.user.read(at.scenario.domain.topics.snapshots)
    found = [decode_manifest(record.value) for record in records if record.value is not None]
    sealed = next(each for each in found if manifest_of(each.content).kind is Kind.SNAPSHOT)
    mine = manifest_of(sealed.content)
    key = KeyFolder(tmp_path / "keys").private(Purpose.SNAPSHOTS)
    other = snapshot_file.signed(
        replace(mine, lineage="0a" * 32, position=mine.position + (1 << 20), inline=sealed.inline), key
    )
    record = Outgoing(index_key(other).encode(), encode_manifest(snapshot_file.seal(other)))
    await at.scenario.user.raw(at.scenario.domain.topics.snapshots, 0, record)
    address, trusted = f"{at.name}/{mine.number}", [tmp_path / "keys"]

    with pytest.raises(ApiError) as refused:
        await at.ask(lambda client: client.model(address), trusted=trusted)
    heads = [await head_of(at, number=mine.number, lineage=each.lineage[:8]) for each in (mine, other)]
    model = await at.ask(lambda client: client.model(address, lineage=mine.lineage), trusted=trusted)
    with pytest.raises(ApiError) as unknown:
        await at.ask(lambda client: client.model(address, lineage="0b"), trusted=trusted)
    with pytest.raises(SettingsError, match="64 hex digits"):
        await at.ask(lambda client: client.model(address, lineage="?"), trusted=trusted)

    assert (400, "invalid_parameter") == (refused.value.status, refused.value.code)
    assert all(each.lineage[:16] in str(refused.value) for each in (mine, other))
    assert "`lineage`" in refused.value.hint
    assert [(200, mine.lineage), (200, other.lineage)] == [
        (status, headers["x-tailrace-lineage"]) for status, headers in heads
    ]
    assert isinstance(model, compose.Pipeline)
    assert "no_snapshot" == unknown.value.code


async def test_a_process_may_serve_the_api_alone_with_what_others_published(embedded: Served):
    at = embedded
    await teach(at)
    address = free_address()
    alone = Process(at.scenario.settings.model_copy(update={"http": address}), roles=(Role.API,), prepare_topics=False)
    await alone.start()
    try:
        there = replace(at, address=address)

        async def up_to_date() -> bool:
            try:
                described = await there.ask(lambda client: client.describe(at.name))
            except Unreachable:
                return False
            serving = described["serving"]
            return serving is not None and parse(serving["position"]) >= at.scenario.loop_of(at.process).models.highest

        await until(up_to_date, "the newest state is served there too")
        instances = [{"a": 1.0, "b": -2.0}]
        here = await at.ask(lambda client: client.predict(at.name, instances))
        found = await there.ask(lambda client: client.predict(at.name, instances))
        assert here[0]["proba"] == found[0]["proba"]
        assert all(is_ready for is_ready, _ in alone.readiness().values())
    finally:
        await alone.stop()


# ── where it listens ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_beyond_loopback_a_process_without_a_token_does_not_start(embedded_form: LogForm, tmp_path: Path):
    scenario = await Scenario.make(embedded_form, tmp_path, http="127.0.0.1:1")
    settings = scenario.settings
    far = settings.model_copy(
        update={
            "http": "0.0.0.0:" + free_address().rsplit(":", 1)[1],
            "api": settings.api.model_copy(update={"behind_tls_proxy": True}),
        }
    )
    process = Process(far, prepare_topics=False)
    try:
        await process.start()
        await until(lambda: process.failure is not None, "the process has refused")
        assert "tailrace tokens create" in str(process.failure)
    finally:
        await process.stop()
        await scenario.close()


async def test_the_client_does_not_show_a_token_to_everyone_on_the_way():
    with pytest.raises(SettingsError, match="https"):
        Client("http://10.0.0.1:8321", token="tailrace_x")
    with pytest.raises(SettingsError, match="allowed"):
        Client("ftp://localhost")


async def test_where_nothing_runs_the_client_says_so():
    client = Client(f"http://{free_address()}", token=None, timeout_s=0.2)

    with pytest.raises(Unreachable, match="does a worker run there"):
        await asyncio.to_thread(client.status)
