"""The model as if examples had never been, or labels had been right: built from the log, promoted, proven by River."""

from __future__ import annotations

from tests.scenarios.commanding import accepted, bare, bytes_of, learn, tailrace
from tests.scenarios.harness import now_ms, pairs, until

LABELS = {"id": "id", "target": "y", "time": "at", "revision": "version", "source": "by"}


async def scenario_of(made, **changes):
    topic = made.form.topic("labels")
    return await made(labels={"topic": topic, **LABELS}, corrections_within="1h", **changes)


async def correct(scenario, process, count, first=0):
    """Turn some labels round by a second revision, and withdraw every fifth of these; wait until all is in the log."""
    live = scenario.loop_of(process).models.live
    before = live.counts.corrected + live.counts.withdrawn
    _, labels = pairs(count, now_ms(), first=first)
    said = [
        {**label, "y": None if number % 5 == 0 else not label["y"], "version": 2} for number, label in enumerate(labels)
    ]
    await scenario.user.labels(*said)

    def all_there():
        live = scenario.loop_of(process).models.live
        return live is not None and live.counts.corrected + live.counts.withdrawn == before + count

    await until(all_there, "the corrections are folded")


def corrected_of(count):
    """Return what a bare model must be told of the corrections of the first examples: left out, and target."""
    _, labels = pairs(count, 0)
    y = {label["id"]: not label["y"] for label in labels}
    gone = {label["id"] for number, label in enumerate(labels) if number % 5 == 0}
    return (lambda event_id, _: event_id in gone), y.get


async def champion_of(scenario, process, lineage):
    def serves():
        live = scenario.loop_of(process).models.live
        return live is not None and live.pointers.champion == lineage and live.champion is not None

    await until(serves, "the repaired branch serves")
    return scenario.loop_of(process).models.live.champion


async def test_labels_of_a_bad_source_are_as_if_they_had_never_been_and_stay_out(made):
    """Also after another restart, and those that still come: byte for byte what River learns without them."""
    scenario = await scenario_of(made)
    process = await scenario.start()
    await learn(scenario, process, 60, by="expert")
    await learn(scenario, process, 40, first=100, by="crowd")

    tried = await tailrace(scenario, "repair", "--drop-source", "crowd", "--dry-run")
    assert (0, 40, 60) == (tried.code, tried.line["left_out"], tried.line["compared"])
    assert 1 == len(scenario.loop_of(process).models.live.pointers.admitted), "nothing was changed"
    ran = await tailrace(scenario, "repair", "--drop-source", "crowd", "--by", "ada")
    assert 0 == ran.code, ran.err
    await champion_of(scenario, process, ran.line["branch"])
    await learn(scenario, process, 10, first=300, by="crowd")
    await scenario.stop(process)
    process = await scenario.start()
    await learn(scenario, process, 10, first=400, by="expert")

    found = scenario.loop_of(process).models.live.champion
    assert (70, 50) == (found.learned, found.left_out)
    expected = await bare(scenario, left_out=lambda _, source: source == "crowd")
    assert bytes_of(scenario, expected) == bytes_of(scenario, found.model)
    await scenario.stop(process)
    assert 0 == (await tailrace(scenario, "verify")).code


async def test_corrected_labels_are_learned_as_if_they_had_been_right_from_the_start(made):
    scenario = await scenario_of(made)
    process = await scenario.start()
    await learn(scenario, process, 60)
    await correct(scenario, process, 20)

    ran = await tailrace(scenario, "repair", "--apply-corrections")

    assert 0 == ran.code, ran.err
    assert (16, 4) == (ran.line["corrected"], ran.line["withdrawn"])
    left_out, corrected = corrected_of(20)
    found = await champion_of(scenario, process, ran.line["branch"])
    assert bytes_of(scenario, await bare(scenario, left_out, corrected)) == bytes_of(scenario, found.model)


async def test_repairs_add_up_and_outlive_an_upgrade(made, tmp_path):
    """A source, then named events, then a new model: what was left out once is never learned again."""
    scenario = await scenario_of(made)
    process = await scenario.start()
    await learn(scenario, process, 40, by="expert")
    await learn(scenario, process, 20, first=100, by="crowd")
    assert 0 == (await tailrace(scenario, "repair", "--drop-source", "crowd")).code
    (tmp_path / "ids").write_text("e3\ne5\n\ne107\n")

    second = await tailrace(scenario, "repair", "--drop-ids", str(tmp_path / "ids"), "--why", "erasure")
    assert 0 == second.code, second.err
    found = await champion_of(scenario, process, second.line["branch"])
    gone = {"e3", "e5", "e107"}

    def left_out(event_id, source):
        return source == "crowd" or event_id in gone

    assert (38, 22) == (found.learned, found.left_out)
    assert bytes_of(scenario, await bare(scenario, left_out)) == bytes_of(scenario, found.model)
    await scenario.stop(process)
    text = scenario.config.read_text()
    scenario.config.write_text(text.replace("LogisticRegression()", "LogisticRegression(l2=0.1)"))
    process = await scenario.start()

    upgraded = await tailrace(scenario, "upgrade", "--promote")

    assert 0 == upgraded.code, upgraded.err
    assert (38, 22) == (upgraded.line["learned"], upgraded.line["left_out"])
    listed = await tailrace(scenario, "branches", "list")
    (serving,) = [line for line in listed.lines if line["serves"]]
    assert "without labels of crowd; without named events before" in serving["note"]


async def test_a_stretch_of_the_log_is_left_out_and_what_one_filter_cannot_say_is_refused(made):
    scenario = await scenario_of(made)
    process = await scenario.start()
    await learn(scenario, process, 30)
    start = (await accepted(scenario))[-1][0] + 1
    await learn(scenario, process, 10, first=100)
    end = (await accepted(scenario))[-1][0] + 1
    await learn(scenario, process, 5, first=200)

    ran = await tailrace(scenario, "repair", "--from", str(start), "--to", str(end))
    assert 0 == ran.code, ran.err
    found = await champion_of(scenario, process, ran.line["branch"])
    gone = {f"e{number}" for number in range(100, 110)}
    assert bytes_of(scenario, await bare(scenario, lambda event_id, _: event_id in gone)) == bytes_of(
        scenario, found.model
    )

    again = await tailrace(scenario, "repair", "--from", str(start), "--to", str(end))
    open_end = await tailrace(scenario, "repair", "--from", str(end), "--dry-run")
    other = await tailrace(scenario, "repair", "--drop-source", "crowd")
    nothing = await tailrace(scenario, "repair")

    assert (0, False) == (again.code, again.line["built"])
    assert (2, 2) == (other.code, nothing.code)
    assert 2 == open_end.code, "another stretch cannot be said by one filter"
    assert f"without everything from {start}:0 to {end}:0" in other.err


async def test_a_learner_that_is_told_to_applies_corrections_by_itself(made):
    """One branch at a time, promoted when it is ready; those that it supersedes are retired, the first one is not."""
    scenario = await scenario_of(made, corrections="refold")
    process = await scenario.start()
    first = scenario.domain.branch.lineage
    await learn(scenario, process, 50)

    def has_applied(count):
        live = scenario.loop_of(process).models.live
        if live is None or live.champion is None or live.pointers.champion == first:
            return False
        return len(live.pointers.admitted) == 2 and live.champion.left_out == count

    await correct(scenario, process, 10)
    await until(lambda: has_applied(2), "two withdrawn labels are unlearned")
    await correct(scenario, process, 20, first=10)
    await until(lambda: has_applied(6), "and four more")

    live = scenario.loop_of(process).models.live
    left_out, corrected = corrected_of(30)
    assert bytes_of(scenario, await bare(scenario, left_out, corrected)) == bytes_of(scenario, live.champion.model)
    assert first in live.pointers.admitted
    assert [] == [decision.refusal for decision in live.pointers.decisions if decision.refusal]
    await scenario.stop(process)
    assert 0 == (await tailrace(scenario, "verify")).code, "each branch by the corrections that it was built with"


async def test_a_person_who_goes_back_to_the_uncorrected_model_is_not_overruled(made):
    scenario = await scenario_of(made, corrections="refold")
    process = await scenario.start()
    first = scenario.domain.branch.lineage
    await learn(scenario, process, 30)
    await correct(scenario, process, 10)

    def epoch():
        live = scenario.loop_of(process).models.live
        return -1 if live is None else live.pointers.epoch

    await until(lambda: epoch() == 1, "the corrected model serves")
    assert 0 == (await tailrace(scenario, "branches", "promote", first[:8], "--by", "ada")).code
    writer, first_example = scenario.loop_of(process).learn._parts.writer, 100
    written = writer.newest.number
    while writer.newest.number < written + 3:  # an interval is what it would wait for
        await learn(scenario, process, 5, first=first_example)
        first_example += 5
    assert (2, first) == (epoch(), scenario.loop_of(process).models.live.pointers.champion)

    await correct(scenario, process, 1, first=10)
    await until(lambda: epoch() > 2, "another correction is one that nobody decided against")
