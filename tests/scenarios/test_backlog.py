"""What an outage left fills no waiting room: a join does not fill up with events whose labels are there."""

from __future__ import annotations

from functools import partial

from tests.scenarios.harness import example_of, now_ms, until

from tailrace.domain.status import Role
from tailrace.main import composition
from tailrace.streams.log import SourceSpec

COUNT = 6_000
STEP_MS = 20
MOST = 4_000


async def test_events_whose_labels_are_there_do_not_go_to_disk(made_on_both, monkeypatch):
    """Fails when the join reads all that is scored before the first labels: then they wait, all of them, on disk."""
    monkeypatch.setattr(composition, "SourceSpec", partial(SourceSpec, max_records=10))
    scenario = await made_on_both(horizon="10s", disorder="1s", join={"max_waiting": MOST})
    begin_ms = now_ms() - COUNT * STEP_MS
    events, labels = zip(*(example_of(number, begin_ms + number * STEP_MS) for number in range(COUNT)), strict=True)
    await scenario.user.events(*events)
    scorer = await scenario.start([Role.SCORE])
    await until(lambda: scenario.loop_of(scorer).recorder.counts["events_scored"] == COUNT, "all are scored")
    await scenario.stop(scorer)
    await scenario.user.labels(*labels)

    process = await scenario.start()
    held = 0

    def is_learned():
        nonlocal held
        for each in scenario.loop_of(process).join.joins:
            held = max(held, each.join.remembered if each.join is not None else 0)
        return scenario.learned(process) == COUNT

    await until(is_learned, "every label is learned", 60.0)
    assert held < MOST
    assert not (scenario.settings.folder / "waiting").exists()
