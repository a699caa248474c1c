"""What a person asks of a learner: signed, waited for, answered in words, whatever snapshots there are."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

from tests.keys import make_key
from tests.scenarios.commanding import learn, tailrace
from tests.scenarios.harness import now_ms, until

from tailrace.domain.branches import Filter, digest_of_ids, hash_of_id
from tailrace.domain.positions import position_of
from tailrace.domain.records import Claim, Request, RequestKind
from tailrace.inspection.operator_key import operator_key
from tailrace.opening import open_keys
from tailrace.stores.signing import Purpose, sign_command
from tailrace.streams.log import Outgoing
from tailrace.wire.avro_codec import Signed, decode_model_event, encode_request, encode_signed, encode_training

RARELY = {"every": "1h", "publish": "1h"}


async def snapshots_written(scenario):
    return [
        event
        for record in await scenario.user.read(scenario.domain.topics.model_events)
        if (event := decode_model_event(record.value or b"")).kind == "snapshot"
    ]


async def test_which_branch_serves_is_told_without_any_snapshot_and_beside_any(made):
    """From the log's start, and from the newest snapshot on, the same is found."""
    scenario = await made(snapshots=RARELY)
    process = await scenario.start()
    await learn(scenario, process, 20)

    first = await tailrace(scenario, "branches", "list")
    await scenario.stop(process)
    assert await snapshots_written(scenario)
    second = await tailrace(scenario, "branches", "list")

    assert (None, 20) == (first.line["learned"], second.line["learned"])
    assert scenario.domain.branch.lineage == first.line["lineage"]
    assert {**first.line, "learned": 20, "left_out": 0} == second.line


async def test_a_snapshot_that_is_asked_for_is_written_at_once_and_only_when_there_is_something_new(made):
    scenario = await made(snapshots=RARELY)
    process = await scenario.start()
    await learn(scenario, process, 20)

    asked = await tailrace(scenario, "snapshots", "create", "--by", "ada")
    again = await tailrace(scenario, "snapshots", "create", "--by", "ada")
    await learn(scenario, process, 5, first=50)
    await scenario.stop(process)

    assert (0, "done") == (asked.code, asked.line["said"])
    assert (0, "nothing was asked for: a snapshot reaches the end of the log already") == (
        again.code,
        again.line["said"],
    )
    assert 2 == len(await snapshots_written(scenario)), "the other is that of the end"


async def test_a_snapshot_that_nobody_takes_is_waited_for_and_said_to_lie_there(made):
    scenario = await made(snapshots=RARELY)
    process = await scenario.start()
    await learn(scenario, process, 20)
    await scenario.stop(process)
    await scenario.user.raw(
        scenario.domain.topics.training, 0, Outgoing(None, encode_training(Claim(9, "nobody", None, "another log")))
    )

    asked = await tailrace(scenario, "snapshots", "create", "--wait", "0")

    assert (4, False) == (asked.code, asked.line["done"])
    assert "lies at offset 0 of the commands" in asked.line["said"]


async def test_a_request_that_nobody_trusted_has_signed_or_that_is_for_another_log_is_refused_and_told(made):
    """Also one that is no request at all; a good one behind them is taken."""
    scenario = await made()
    process = await scenario.start()
    await learn(scenario, process, 10)
    state = scenario.loop_of(process).models.live
    own = operator_key(open_keys(scenario.settings), print)

    def signed(key, log_id):
        request = Request(
            *(uuid4().hex, scenario.domain.name, log_id, RequestKind.PROMOTE),
            *(scenario.domain.branch.lineage, 0, "eve", "because", now_ms()),
        )
        payload = encode_request(request)
        return encode_signed(Signed(payload, key.key_id, sign_command(key, payload)))

    values = [
        b"no request",
        signed(make_key(7, Purpose.COMMANDS), state.ownership.log_id),
        signed(own, "another log"),
        signed(own, state.ownership.log_id),
    ]
    for value in values:
        await scenario.user.raw(scenario.domain.topics.commands, 0, Outgoing(None, value))
    await until(lambda: len(state.pointers.decisions) == 2, "the good one is decided")

    said = [
        event.detail
        for record in await scenario.user.read(scenario.domain.topics.model_events)
        if (event := decode_model_event(record.value or b"")).kind == "command_refused"
    ]
    assert 3 == len(said)
    for words, detail in zip(("no Avro", "which is not trusted here", "another log"), said, strict=True):
        assert words in detail
    assert "it serves already" == state.pointers.decisions[-1].refusal


async def test_a_request_to_admit_that_leaves_open_what_its_filter_means_is_refused(made):
    """
    Ids come beside the definition, so that they could be others than those that it names; and of corrections and ids
    up to a position that is still to come, a learner that restarts would know other ones. Either way two folds of one
    branch would differ, and nobody could say which of them is right.
    """
    scenario = await made()
    process = await scenario.start()
    await learn(scenario, process, 10)
    state = scenario.loop_of(process).models.live
    own, serving = operator_key(open_keys(scenario.settings), print), scenario.domain.branch
    far = position_of(1_000_000)
    named = digest_of_ids([hash_of_id("e1")])

    for drop, ids in (
        (Filter(ids=named, ids_to=1), (hash_of_id("e2"),)),
        (Filter(ids=named, ids_to=1), ()),
        (Filter(), (hash_of_id("e1"),)),
        (Filter(corrected_to=far), ()),
        (Filter(ids=named, ids_to=far), (hash_of_id("e1"),)),
    ):
        branch = replace(serving, filter=drop, start=1)
        request = Request(
            *(uuid4().hex, scenario.domain.name, state.ownership.log_id, RequestKind.ADMIT, branch.lineage),
            *(0, "eve", "because", now_ms(), branch.text, 0, "", ids),
        )
        payload = encode_request(request)
        value = encode_signed(Signed(payload, own.key_id, sign_command(own, payload)))
        await scenario.user.raw(scenario.domain.topics.commands, 0, Outgoing(None, value))

    async def said():
        events = await scenario.user.read(scenario.domain.topics.model_events)
        found = [decode_model_event(record.value or b"") for record in events]
        return [event.detail for event in found if event.kind == "command_refused"]

    async def all_said():
        return len(await said()) == 5

    await until(all_said, "all are refused")
    told = await said()
    assert all("are not those that its filter names" in detail for detail in told[:3])
    assert all("its filter reaches to 1000000:0" in detail for detail in told[3:])
    assert [serving.lineage] == list(state.pointers.admitted) == list(state.branches)


async def test_a_loop_that_never_learned_has_no_branches_and_the_error_says_what_makes_them(made):
    scenario = await made()

    ran = await tailrace(scenario, "branches", "list")

    assert 5 == ran.code
    assert "`tailrace run` does" in ran.err
