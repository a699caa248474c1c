"""Another model, other libraries: built beside, compared, admitted and promoted at one position, and back again."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from contextlib import closing
from dataclasses import replace

import pytest
from tests.scenarios.commanding import accepted, bare, bytes_of, examples, learn, tailrace
from tests.scenarios.harness import Scenario, following, now_ms, pairs, until

from tailrace import settings as loading
from tailrace.domain import pointers
from tailrace.domain.branches import part_name
from tailrace.domain.errors import ForeignLogError
from tailrace.domain.positions import offset_of
from tailrace.domain.status import Role, RoleState
from tailrace.main import LoopDomain, Process
from tailrace.stores import snapshot_file
from tailrace.streams import branch_keeper, warming
from tailrace.streams.log import Outgoing
from tailrace.wire.avro_codec import decode_model_event

TREE = "HoeffdingTreeClassifier(grace_period=10)"
LINEAR = "StandardScaler() | LogisticRegression()"


def configure(scenario, model):
    """Write another model into the configuration; what runs already keeps its own."""
    text = scenario.config.read_text()
    was = scenario.settings.loops[scenario.domain.name].champion.model
    scenario.config.write_text(text.replace(was, model))
    scenario.settings = loading.load(scenario.config)
    scenario.domain = LoopDomain.of(
        scenario.domain.name, scenario.settings.loops[scenario.domain.name], scenario.settings.folder
    )


async def serves(scenario, process, lineage):
    live = scenario.loop_of(process).models.live
    return live is not None and live.pointers.champion == lineage and live.champion is not None


async def refused(scenario, reason):
    events = [
        decode_model_event(record.value) for record in await scenario.user.read(scenario.domain.topics.model_events)
    ]
    return any(event.kind == "command_refused" and reason in event.detail for event in events)


@pytest.fixture
async def scenario(log_form, tmp_path):
    found = await Scenario.make(log_form, tmp_path)
    yield found
    await found.close()


async def test_another_model_is_built_beside_compared_and_takes_over_while_the_old_one_serves(scenario):
    """Every event is answered meanwhile; what takes over is what a learner would have come to from the start."""
    process = await scenario.start()
    before = scenario.domain.branch.lineage
    await learn(scenario, process, 200)
    configure(scenario, TREE)
    after = scenario.domain.branch.lineage

    tried = await tailrace(scenario, "upgrade", "--dry-run")
    assert (0, True) == (tried.code, await serves(scenario, process, before))
    ran = await tailrace(scenario, "upgrade", "--promote", "--by", "ada")

    assert 0 == ran.code, ran.err
    assert (after, True, 200, 200) == tuple(ran.line[key] for key in ("branch", "promoted", "learned", "compared"))
    assert "of 200 examples" in ran.line["in_words"]
    await until(lambda: serves(scenario, process, after), "the new one serves")
    await learn(scenario, process, 50, first=500)
    live = scenario.loop_of(process).models.live
    assert (250, 250) == (live.branches[after].learned, live.branches[before].learned)
    predictions = await scenario.user.predictions()
    assert 250 == len({prediction["event_id"] for prediction in predictions})
    assert {before[:12], after[:12]} == {prediction["version"] for prediction in predictions}
    await scenario.stop(process)
    assert 0 == (await tailrace(scenario, "verify")).code


async def test_the_one_before_is_promoted_again_then_the_other_retired_and_all_of_it_is_told(made):
    scenario = await made()
    process = await scenario.start()
    before = scenario.domain.branch.lineage
    await learn(scenario, process, 50)
    configure(scenario, TREE)
    after = scenario.domain.branch.lineage
    await tailrace(scenario, "upgrade", "--promote", "--by", "ada", "--why", "a tree")

    back = await tailrace(scenario, "branches", "promote", before[:8], "--by", "ben", "--why", "false alarms")
    again = await tailrace(scenario, "branches", "promote", before[:8], "--by", "ben", "--why", "twice")
    listed = await tailrace(scenario, "branches", "list")
    gone = await tailrace(scenario, "branches", "retire", after[:8], "--by", "ben", "--why", "slow")
    told = await tailrace(scenario, "branches", "history")

    assert (0, 5, 0) == (back.code, again.code, gone.code), back.err
    assert "it serves already" in again.line["said"]
    assert [(before, True), (after, False)] == [(row["lineage"], row["serves"]) for row in listed.lines]
    assert "kept to go back to" in listed.lines[1]["note"]
    live = scenario.loop_of(process).models.live
    assert [before] == list(live.branches)
    sentences = [line["what"] for line in told.lines]
    assert f"tailrace admitted branch {before[:12]}, because: the first model of this log" == sentences[0]
    assert f"ada promoted branch {after[:12]}, because: a tree; it serves from here on" in sentences
    assert f"ben retired branch {after[:12]}, because: slow; it is not folded any more" == sentences[-1]
    assert all(line["time"] for line in told.lines)


async def test_a_branch_that_was_retired_is_built_again_and_is_what_it_would_have_been(made):
    """
    Its way from the log's start passes the record that retired it. If the fold let it go there, it could never be
    built again, and no learner could restore a log in which it is admitted.
    """
    scenario = await made()
    process = await scenario.start()
    before = scenario.domain.branch.lineage
    await learn(scenario, process, 50)
    configure(scenario, TREE)
    after = scenario.domain.branch.lineage
    assert 0 == (await tailrace(scenario, "upgrade", "--promote")).code
    assert 0 == (await tailrace(scenario, "branches", "promote", before[:8])).code
    assert 0 == (await tailrace(scenario, "branches", "retire", after[:8])).code
    await learn(scenario, process, 20, first=100)

    again = await tailrace(scenario, "upgrade", "--promote")

    assert (0, 70) == (again.code, again.line["learned"]), again.err
    await until(lambda: serves(scenario, process, after), "it serves again")
    await learn(scenario, process, 10, first=200)
    assert 80 == scenario.loop_of(process).models.live.champion.learned
    await scenario.stop(process)
    assert 0 == (await tailrace(scenario, "verify")).code
    for manifest in (scenario.config.parent / "snapshots").rglob("*.tailrace"):
        manifest.unlink()
    process = await scenario.start()
    await until(lambda: serves(scenario, process, after), "a learner comes to it without any file")
    assert 80 == scenario.loop_of(process).models.live.champion.learned


async def test_a_copy_of_an_old_request_to_admit_brings_no_retired_branch_back(made):
    """
    Whoever may write to the commands topic can repeat what was signed once. Without the check of the epoch every
    branch that was ever retired could be made to cost learning again.
    """
    scenario = await made()
    process = await scenario.start()
    await learn(scenario, process, 20)
    configure(scenario, TREE)
    after = scenario.domain.branch.lineage
    assert 0 == (await tailrace(scenario, "upgrade")).code
    assert 0 == (await tailrace(scenario, "branches", "retire", after[:8])).code
    topic = scenario.domain.topics.commands
    (copied, _) = await scenario.user.read(topic)

    await scenario.user.raw(topic, 0, Outgoing(copied.key, copied.value))

    await until(lambda: refused(scenario, "it was made for epoch 0, this is epoch 1"), "it is refused")
    live = scenario.loop_of(process).models.live
    assert (False, 1) == (after in live.pointers.admitted, len(live.branches))


async def test_a_branch_whose_warming_was_interrupted_by_a_restore_is_warmed_again_and_then_admitted(made):
    """
    If it were admitted without being held, a promotion would let nothing new serve until the next start.
    """
    scenario = await made(champion={"model": TREE})
    process = await scenario.start()
    await learn(scenario, process, 20)
    configure(scenario, TREE.replace("10", "30"))
    after, term = scenario.domain.branch.lineage, scenario.loop_of(process).learn._term
    keeper, results = term._keeper(), []
    begin, carry_out = keeper._parts.warming.begin, keeper.carry_out

    async def begin_while_it_restores(branch, notices=None):
        term.is_live = bool(results)
        return await begin(branch, notices)

    async def carry_out_noted(*given):
        results.append(await carry_out(*given))
        return results[-1]

    keeper._parts.warming.begin, keeper.carry_out = begin_while_it_restores, carry_out_noted
    term._keeper = lambda: keeper
    asked = asyncio.create_task(tailrace(scenario, "upgrade", "--promote"))
    await until(lambda: False in results, "the learner could not hold it")
    assert after not in term.folded.pointers.admitted
    term.is_live = True

    ran = await asked
    assert (0, True) == (ran.code, ran.line["promoted"]), ran.err
    await until(lambda: serves(scenario, process, after), "it serves")


async def test_a_branch_whose_admission_crossed_a_restore_is_held_all_the_same(made):
    """
    It was held in the state that was thrown away, and admitted in the next one; nobody else would notice before the
    next start, and it would be promoted meanwhile.
    """
    scenario = await made()
    process = await scenario.start()
    await learn(scenario, process, 20)
    configure(scenario, TREE)
    after = scenario.domain.branch.lineage
    assert 0 == (await tailrace(scenario, "upgrade")).code
    live = scenario.loop_of(process).models.live

    live.branches = {lineage: held for lineage, held in live.branches.items() if lineage != after}
    await until(lambda: after in live.branches, "it is held again")

    await learn(scenario, process, 10, first=100)
    assert (30, live.position) == (live.branches[after].learned, live.branches[after].position)


async def test_a_branch_is_held_although_the_log_grows_as_fast_as_it_is_warmed(made, monkeypatch):
    """
    Without a bound on the rounds that bring it no nearer it would be warmed for ever, and every command wait behind it.
    """
    monkeypatch.setattr(branch_keeper, "_NEAR", -1)
    scenario = await made()
    process = await scenario.start()
    await learn(scenario, process, 20)
    configure(scenario, TREE)

    assert 0 == (await tailrace(scenario, "upgrade", "--promote")).code
    await until(lambda: serves(scenario, process, scenario.domain.branch.lineage), "it serves")


async def test_a_branch_that_begins_where_a_slow_learner_has_not_come_to_counts_nothing_twice(made):
    """
    What was built up to the log's end has counted the examples before its start. Held by a learner that is not there
    yet, it would count them again, and be another state than the one that everybody else folds.
    """
    scenario = await made()
    process = await scenario.start()
    await learn(scenario, process, 10)
    live, term = scenario.loop_of(process).models.live, scenario.loop_of(process).learn._term
    keeper, begun, still = term._keeper(), [], []
    begin, fold_rounds = keeper._parts.warming.begin, term._round

    async def begin_noted(*given):
        begun.append(await begin(*given))
        return begun[-1]

    async def stand_still():
        still.append(live.position)
        await asyncio.sleep(0.01)

    keeper._parts.warming.begin, term._keeper, term._round = begin_noted, (lambda: keeper), stand_still
    await until(lambda: bool(still), "the learner folds nothing more")
    events, labels = pairs(30, now_ms(), first=100)
    await scenario.user.events(*events)
    await scenario.user.labels(*labels)

    async def written():
        return sum(len(block.examples) for _, block in await accepted(scenario)) == 40

    await until(written, "the log is ahead of the learner")
    start, last = next((offset, block) for offset, block in reversed(await accepted(scenario)) if block.examples.ids)
    configure(scenario, TREE)
    asked = asyncio.create_task(tailrace(scenario, "upgrade", "--start", str(start)))
    await until(lambda: bool(begun), "the learner has read what was built")
    for _ in range(100):  # turns of this loop, in which it could be held
        await asyncio.sleep(0)
    term._round = fold_rounds

    assert 0 == (await asked).code
    await learn(scenario, process, 5, first=200)
    held, learned = live.branches[(await asked).line["branch"]], len(last.examples)
    assert (learned + 5, 40 - learned) == (held.learned, held.left_out)


async def test_without_a_learner_a_command_waits_and_takes_effect_when_one_comes(made):
    scenario = await made()
    process = await scenario.start()
    await learn(scenario, process, 50)
    before = scenario.domain.branch.lineage
    configure(scenario, TREE)
    admitted = await tailrace(scenario, "upgrade")
    assert 0 == admitted.code, admitted.err
    after = scenario.domain.branch.lineage
    await scenario.stop(process)

    asked = await tailrace(scenario, "branches", "promote", after[:8], "--wait", "0")
    assert 4 == asked.code
    assert "no learner has taken it yet" in asked.line["said"]
    process = await scenario.start()

    await until(lambda: serves(scenario, process, after), "it takes effect")
    await scenario.stop(process)
    process = await scenario.start()
    live = scenario.loop_of(process).models.live
    assert (after, 1) == (live.pointers.champion, live.pointers.epoch), "and once only"
    assert before in live.branches


async def test_a_command_of_nobody_who_is_trusted_changes_nothing_and_is_told(made):
    scenario = await made()
    process = await scenario.start()
    await learn(scenario, process, 20)
    configure(scenario, TREE)
    assert 0 == (await tailrace(scenario, "upgrade")).code
    (key,) = [line for line in (await tailrace(scenario, "keys", "list")).lines if line["purpose"] == "commands"]
    assert 0 == (await tailrace(scenario, "keys", "revoke", key["key"])).code

    ran = await tailrace(scenario, "branches", "promote", scenario.domain.branch.lineage[:8])

    assert 5 == ran.code
    assert "was revoked" in ran.line["said"]
    assert 0 == scenario.loop_of(process).models.live.pointers.epoch


async def test_a_learner_admits_what_was_published_without_folding_the_log_again(made):
    """Its index was read when it began; the branch was published after that."""
    scenario = await made()
    process = await scenario.start()
    await learn(scenario, process, 60)
    configure(scenario, LINEAR.replace("()", "(l2=0.1)", 2).replace("StandardScaler(l2=0.1)", "StandardScaler()"))
    training, read = scenario.loop_of(process).learn._parts.training, []
    records = training.records

    def noted(start, end):
        read.append(start)
        return records(start, end)

    training.records = noted
    ran = await tailrace(scenario, "upgrade")

    assert 0 == ran.code, ran.err
    assert min(read, default=9) > 3, "nothing was read from the log's start"


async def test_the_model_that_takes_over_is_what_river_comes_to(made):
    scenario = await made(champion={"model": TREE, "compiled": "never"})
    process = await scenario.start()
    await learn(scenario, process, 80)
    configure(scenario, LINEAR)

    assert 0 == (await tailrace(scenario, "upgrade", "--promote")).code
    await until(lambda: serves(scenario, process, scenario.domain.branch.lineage), "it serves")

    live = scenario.loop_of(process).models.live
    assert bytes_of(scenario, await bare(scenario)) == bytes_of(scenario, live.champion.model)


async def test_an_example_at_which_the_new_model_raises_is_left_out_by_every_fold_of_it(made):
    """Also by one that begins at the log's start, such as `verify`: where it was built is where it was found out."""
    scenario = await made(champion={"model": TREE})
    process = await scenario.start()
    await scenario.user.events({"id": "huge", "at": now_ms(), "a": 1e308, "b": -1e308})
    await learn(scenario, process, 60)
    await scenario.user.labels({"id": "huge", "at": now_ms(), "y": True})
    await until(
        lambda: scenario.loop_of(process).models.live is not None and examples(scenario, process) == 61, "it is"
    )
    configure(scenario, TREE.replace("10", "20"))

    ran = await tailrace(scenario, "upgrade", "--promote")
    assert (0, 1) == (ran.code, ran.line["skipped"]), ran.err
    await learn(scenario, process, 10, first=100)
    await scenario.stop(process)
    process = await scenario.start()

    live = scenario.loop_of(process).models.live
    assert (70, 1) == (live.champion.learned, live.champion.skipped)
    await scenario.stop(process)
    assert 0 == (await tailrace(scenario, "verify")).code


async def test_a_model_that_raises_at_too_much_is_not_built_on_and_on(made, monkeypatch):
    """
    Every example at which it raises costs a stretch of the fold again; without a bound a model that raises at all of
    them would be folded nearly for ever.
    """
    monkeypatch.setattr(warming, "MAX_SKIPS", 1)
    scenario = await made(champion={"model": "naive_bayes.GaussianNB()"})
    process = await scenario.start()
    await learn(scenario, process, 60)
    huge = [{"id": f"huge{number}", "at": now_ms(), "a": 1e308, "b": -1e308} for number in range(3)]
    await scenario.user.events(*huge)
    await scenario.user.labels(*({"id": event["id"], "at": event["at"], "y": True} for event in huge))
    await until(lambda: examples(scenario, process) == 63, "they are learned")
    configure(scenario, TREE)

    ran = await tailrace(scenario, "upgrade")

    assert 1 == ran.code, ran.out
    assert "and at 1 examples before; choose a model that learns every value" in ran.err


async def test_a_branch_that_the_log_has_no_room_for_is_refused_and_not_folded_either(made, monkeypatch):
    monkeypatch.setattr(pointers, "MAX_ADMITTED", 1)
    monkeypatch.setattr(branch_keeper, "MAX_ADMITTED", 1)
    scenario = await made()
    process = await scenario.start()
    await learn(scenario, process, 20)
    before = scenario.domain.branch.lineage
    configure(scenario, TREE)

    ran = await tailrace(scenario, "upgrade", "--promote")

    assert 5 == ran.code
    assert "1 branches are admitted, which is the most; retire one first" in ran.line["said"]
    assert [before] == list(scenario.loop_of(process).models.live.branches)


async def test_other_features_begin_with_the_configured_model_and_the_old_ones_come_back(made):
    """The champion's features are not those of the configuration: it cannot be folded, and is not lost either."""
    scenario = await made()
    process = await scenario.start()
    await learn(scenario, process, 40)
    before = scenario.domain.branch.lineage
    await scenario.stop(process)
    old = scenario.config.read_text()
    scenario.config.write_text(old.replace('"a" = "number"', '"a" = { type = "number", min = -9 }'))
    configure(scenario, LINEAR)

    process = await scenario.start()
    await until(lambda: serves(scenario, process, scenario.domain.branch.lineage), "the configured model serves")
    live = scenario.loop_of(process).models.live
    assert (40, 0, 1) == (live.champion.foreign, live.champion.learned, live.pointers.epoch)
    await learn(scenario, process, 10, first=300)
    await scenario.stop(process)
    scenario.config.write_text(old)
    configure(scenario, LINEAR)

    process = await scenario.start()
    await until(lambda: serves(scenario, process, before), "the old one serves again")
    live = scenario.loop_of(process).models.live
    assert (40, 10) == (live.champion.learned, live.champion.foreign)
    assert RoleState.RUNNING is scenario.loop_of(process).reports[Role.LEARN].state
    await scenario.user.events(*pairs(1, now_ms(), first=900)[0])


async def test_a_machine_without_the_learners_key_is_told_before_anything_is_folded(made):
    scenario = await made()
    process = await scenario.start()
    await learn(scenario, process, 10)
    configure(scenario, TREE)
    (scenario.settings.keys.folder / "learner.key").rename(scenario.settings.keys.folder / "elsewhere")

    ran = await tailrace(scenario, "upgrade")

    assert 3 == ran.code
    assert "run this where the learner runs" in ran.err
    assert "folded" not in ran.err


async def test_a_module_that_only_a_record_of_the_log_names_is_never_imported(made):
    """A definition is data; of code, what the configuration names can be folded, and neighbours in the same module."""
    planted = """
from river import linear_model
def one(): return linear_model.LogisticRegression()
def two(): return linear_model.LogisticRegression(l2=0.1)
"""
    scenario = await made()
    for name in ("planted_by_data", "named_by_settings"):
        (scenario.config.parent / f"{name}.py").write_text(planted)
    foreign = replace(scenario.domain.branch, model="planted_by_data:one")

    assert scenario.domain.kit_of(foreign) is None
    configure(scenario, "named_by_settings:one")
    assert scenario.domain.kit_of(foreign) is None
    assert "planted_by_data" not in sys.modules
    assert scenario.domain.kit_of(replace(scenario.domain.branch, model="named_by_settings:two")) is not None


RAISING = """
from river import linear_model


class Raising(linear_model.LogisticRegression):
    def learn_one(self, x, y):
        if x["a"] > 100:
            raise ValueError
        super().learn_one(x, y)


def build():
    return Raising()
"""


async def test_a_branch_that_does_not_serve_and_raises_again_and_again_is_retired_and_learning_goes_on(made, tmp_path):
    """Where the branch that serves does, learning stays down; one beside it may not cost it that."""
    (tmp_path / "raising_beside.py").write_text(RAISING)
    scenario = await made(champion={"model": LINEAR, "experimental": True})
    process = await scenario.start()
    before = scenario.domain.branch.lineage
    await learn(scenario, process, 30)
    configure(scenario, "raising_beside:build")
    await scenario.stop(process)
    process = await scenario.start()
    after = scenario.domain.branch.lineage
    ran = await tailrace(scenario, "upgrade")
    assert 0 == ran.code, ran.err
    loop = scenario.loop_of(process)
    await until(lambda: after in loop.models.live.branches, "both learn")

    for number in range(5):
        name = f"high{number}"
        await scenario.user.events({"id": name, "at": now_ms(), "a": 200.0, "b": 0.0})
        await scenario.user.labels({"id": name, "at": now_ms(), "y": True})
        await until(lambda now=31 + number: scenario_learned(loop) == now, f"{name} is learned by the one that serves")
    await learn(scenario, process, 20, first=100)

    live = loop.models.live
    assert ({before}, {before}) == (live.pointers.admitted.keys(), live.branches.keys())
    assert (55, 0) == (live.champion.learned, live.champion.skipped)
    assert RoleState.RUNNING is loop.reports[Role.LEARN].state
    events = [decode_model_event(each.value) for each in await scenario.user.read(scenario.domain.topics.model_events)]
    told = [event.detail for event in events if event.kind == "retire"]
    assert [
        f"branch {after[:12]} is retired (tailrace: the model raised ValueError again after 3 restarts in 5 minutes)"
    ] == told
    await scenario.stop(process)
    verified = await tailrace(scenario, "verify")
    assert 0 == verified.code, verified.out  # what lies behind the retirement is not asked of it any more


async def events_of(scenario, kind):
    records = await scenario.user.read(scenario.domain.topics.model_events)
    return [event for event in map(decode_model_event, (each.value for each in records)) if event.kind == kind]


async def killed(scenario, process):
    """Stop a process that takes no last snapshot."""

    async def none_taken(_state):
        pass

    scenario.loop_of(process).learn._parts.writer.last = none_taken
    await scenario.stop(process)


def remark_of(loop):
    (role,) = [role for role in loop.heartbeat.picture().roles if role.role is Role.LEARN]
    return role.reason


async def test_a_branch_beside_whose_file_and_records_are_gone_is_held_back_and_learning_goes_on(made, monkeypatch):
    """
    It is admitted and stands in no snapshot. If that brought learning down, no restart would bring it back, and the
    branch that serves would learn nothing more although nothing of it is lost.
    """
    monkeypatch.setattr(snapshot_file.Packed, "fits_inline", property(lambda _packed: False))  # as of a larger model
    scenario = await made(snapshots={"every": "1h", "publish": "1h"})
    process = await scenario.start()
    before = scenario.domain.branch.lineage
    await learn(scenario, process, 30)
    await scenario.stop(process)  # with a snapshot
    process = await scenario.start()
    cut_at = offset_of(scenario.loop_of(process).heartbeat.picture().snapshot.position) - 1
    configure(scenario, TREE)
    after = scenario.domain.branch.lineage
    assert 0 == (await tailrace(scenario, "upgrade")).code
    await learn(scenario, process, 10, first=100)
    await killed(scenario, process)
    (file,) = (scenario.config.parent / "snapshots").rglob("branch-*.tailrace")
    away = file.rename(scenario.config.parent / "elsewhere")
    with closing(sqlite3.connect(scenario.form.folder / "log.sqlite3")) as log, log:
        (topic,) = log.execute("select id from topics where name = ?", (scenario.domain.topics.training,)).fetchone()
        log.execute(f"delete from r{topic}_0 where offset < ?", (cut_at,))

    process = await scenario.start()
    loop = scenario.loop_of(process)
    await until(lambda: loop.reports[Role.LEARN].state is RoleState.RUNNING, "learning runs")
    await learn(scenario, process, 20, first=200)
    promoted = await tailrace(scenario, "branches", "promote", after[:8])

    live = loop.models.live
    assert ({before, after}, {before}) == (live.pointers.admitted.keys(), live.branches.keys())
    assert (before, 60) == (live.pointers.champion, live.champion.learned)
    assert f"branch {after[:12]} is admitted and not folded here: offset 0 of" in remark_of(loop)
    (event,) = await events_of(scenario, "held_back")
    assert (after, True) == (event.texts["branch"], "the log holds" in event.texts["why"])
    assert 5 == promoted.code
    assert "not folded here" in promoted.line["said"]

    await scenario.stop(process)
    verified = await tailrace(scenario, "verify")
    assert 0 == verified.code, verified.err  # of what is held back nothing is recorded
    away.rename(file)
    process = await scenario.start()
    loop = scenario.loop_of(process)
    live = loop.models.live
    assert (60, 60, "") == (live.branches[after].learned, live.branches[before].learned, remark_of(loop))
    await until(lambda: serves(scenario, process, after), "what was asked for meanwhile is carried out")


async def test_a_branch_beside_that_raises_at_too_much_while_it_is_warmed_is_retired(made, tmp_path, monkeypatch):
    """Each start would fold it in vain again, and bring learning down."""
    (tmp_path / "raising_behind.py").write_text(RAISING)
    scenario = await made(champion={"model": LINEAR, "experimental": True})
    process = await scenario.start()
    before = scenario.domain.branch.lineage
    await learn(scenario, process, 30)
    configure(scenario, "raising_behind:build")
    after = scenario.domain.branch.lineage
    assert 0 == (await tailrace(scenario, "upgrade")).code  # by code that this learner does not have
    for number in range(3):
        await scenario.user.events({"id": f"high{number}", "at": now_ms(), "a": 200.0, "b": 0.0})
        await scenario.user.labels({"id": f"high{number}", "at": now_ms(), "y": True})
    await until(lambda: scenario_learned(scenario.loop_of(process)) == 33, "the learner learns them")
    await scenario.stop(process)
    monkeypatch.setattr(warming, "MAX_SKIPS", 1)

    process = await scenario.start()
    loop = scenario.loop_of(process)
    await until(lambda: loop.reports[Role.LEARN].state is RoleState.RUNNING, "learning runs")
    await learn(scenario, process, 10, first=100)

    live = loop.models.live
    assert ({before}, {before}) == (live.pointers.admitted.keys(), live.branches.keys())
    assert (43, "") == (live.champion.learned, remark_of(loop))
    (event,) = await events_of(scenario, "retire")
    assert f"branch {after[:12]} is retired (tailrace: the model raised ValueError at" in event.detail
    await scenario.stop(process)
    verified = await tailrace(scenario, "verify")
    assert 0 == verified.code, verified.out  # nobody has folded it, so it is not asked of


async def test_a_branch_that_serves_and_cannot_be_warmed_keeps_learning_down(made, monkeypatch):
    """Without it nothing that is recorded could be judged by what serves."""
    scenario = await made()
    process = await scenario.start()
    await learn(scenario, process, 20)
    configure(scenario, TREE)
    after = scenario.domain.branch.lineage
    assert 0 == (await tailrace(scenario, "upgrade", "--promote")).code
    live = scenario.loop_of(process).models.live

    async def never(*_given, **_options):
        raise warming.WarmingFailed("it is no model of these events")

    monkeypatch.setattr(warming.Warming, "begin", never)
    live.branches = {lineage: held for lineage, held in live.branches.items() if lineage != after}

    report = scenario.loop_of(process).reports[Role.LEARN]
    await until(lambda: report.state is RoleState.FAILED, "learning is down")
    assert "it is no model of these events" == report.reason


async def test_a_configured_branch_that_is_held_back_does_not_take_over_from_one_that_cannot_be_folded(
    made, monkeypatch
):
    """It would be promoted without being held: nothing would serve, and the log say so for everybody."""
    scenario = await made(snapshots={"every": "1h", "publish": "1h"})
    process = await scenario.start()
    before = scenario.domain.branch.lineage
    await learn(scenario, process, 20)
    configure(scenario, TREE)
    assert 0 == (await tailrace(scenario, "upgrade")).code
    await killed(scenario, process)
    kit_of = LoopDomain.kit_of

    def kit_of_newer(domain, branch):
        return None if branch.lineage == before else kit_of(domain, branch)

    async def nowhere(*_given, **_options):
        raise ForeignLogError("the log does not reach back to it")

    monkeypatch.setattr(LoopDomain, "kit_of", kit_of_newer)
    monkeypatch.setattr(warming.Warming, "begin", nowhere)
    process = Process(scenario.settings, prepare_topics=False)
    scenario.processes.append(process)
    await process.start()
    await until(lambda: process.loops, "the process knows its loop")
    report = scenario.loop_of(process).reports[Role.LEARN]

    await until(lambda: report.state is RoleState.FAILED, "learning is down")
    assert "the log does not reach back to it" == report.reason
    assert [] == await events_of(scenario, "promote")


async def followed_as_far(scenario, process, loop):
    def has_come():
        followed, live = loop.follow.followed, scenario.loop_of(process).models.live
        return followed is not None and live is not None and followed.position == live.position

    await until(has_come, "the follower has come as far as the learner")


async def test_a_follower_of_newer_libraries_goes_on_without_a_branch_that_only_it_folds_and_that_raises(
    made, tmp_path
):
    """
    The learner raises nothing, skips nothing and goes on. A follower that took that for a divergence would tell a false
    alarm, and be no standby any more.
    """
    (tmp_path / "raising_ahead.py").write_text(RAISING)
    scenario = await made(
        champion={"model": LINEAR, "experimental": True}, snapshots={"every": "1h", "publish": "200ms"}
    )
    process = await scenario.start()
    before = scenario.domain.branch.lineage
    await learn(scenario, process, 30)
    configure(scenario, "raising_ahead:build")
    after = scenario.domain.branch.lineage
    assert 0 == (await tailrace(scenario, "upgrade")).code
    await scenario.stop(process)
    await scenario.stop(await scenario.start())  # with a snapshot of both, as a follower takes it
    process = await scenario.start()
    live = scenario.loop_of(process).models.live
    assert {before, after} == live.branches.keys()
    scenario.loop_of(process).learn._parts.fold._kits[after] = None  # of newer libraries than this learner has
    live.branches = {before: live.branches[before]}

    async with following(scenario) as loop:
        await until(lambda: loop.follow.followed is not None, "it follows")
        await until(lambda: after in loop.follow.followed.branches, "it folds both")
        await scenario.user.events({"id": "high", "at": now_ms(), "a": 200.0, "b": 0.0})
        await scenario.user.labels({"id": "high", "at": now_ms(), "y": True})
        await until(lambda: scenario_learned(scenario.loop_of(process)) == 31, "the learner learns it")
        await learn(scenario, process, 60, first=100)
        await followed_as_far(scenario, process, loop)
        equal = loop.recorder.counts["digests_equal"]
        await learn(scenario, process, 200, first=200)
        await until(lambda: loop.recorder.counts["digests_equal"] > equal, "more digests were compared")

        followed = loop.follow.followed
        assert ({before, after}, {before}) == (followed.pointers.admitted.keys(), followed.branches.keys())
        assert RoleState.RUNNING is loop.reports[Role.FOLLOW].state
        assert f"branch {after[:12]} is admitted and not folded here: its model raised" in loop.follow.remark()
        assert 0 == loop.recorder.counts["divergences"]
        (event,) = await events_of(scenario, "held_back")
        assert (after, True) == (event.texts["branch"], "the learner does not fold it" in event.texts["why"])


async def test_a_follower_at_which_a_branch_raises_that_the_learner_folds_has_diverged(made):
    scenario = await made()
    process = await scenario.start()
    await learn(scenario, process, 30)
    configure(scenario, TREE)
    after = scenario.domain.branch.lineage
    assert 0 == (await tailrace(scenario, "upgrade")).code

    async with following(scenario) as loop:
        await until(lambda: loop.follow.followed is not None, "it follows")
        await until(lambda: after in loop.follow.followed.branches, "it folds both")

        def broken(*_example):
            raise ValueError

        loop.follow.followed.branches[after].model.learn_one = broken
        await learn(scenario, process, 100, first=100)
        await until(lambda: loop.reports[Role.FOLLOW].state is RoleState.FAILED, "it stops")

        assert part_name(after) in loop.reports[Role.FOLLOW].reason
        assert 1 == loop.recorder.counts["divergences"]


async def test_a_follower_goes_on_without_a_branch_beside_that_cannot_be_warmed(made, monkeypatch):
    """Else no follower could be a standby of a learner that holds the branch back itself."""
    scenario = await made()
    process = await scenario.start()
    await learn(scenario, process, 20)
    before = scenario.domain.branch.lineage
    configure(scenario, TREE)
    after = scenario.domain.branch.lineage
    assert 0 == (await tailrace(scenario, "upgrade")).code

    begin = warming.Warming.begin

    async def begin_another(each, branch, notices=None):
        if branch.lineage == after:
            raise warming.WarmingFailed("it is no model of these events")
        return await begin(each, branch, notices)

    monkeypatch.setattr(warming.Warming, "begin", begin_another)
    async with following(scenario) as loop:
        await followed_as_far(scenario, process, loop)

        assert {before} == loop.follow.followed.branches.keys()
        assert f"branch {after[:12]} is admitted and not folded here: it is no model" in loop.follow.remark()


def scenario_learned(loop):
    live = loop.models.live
    return 0 if live is None else live.champion.learned
