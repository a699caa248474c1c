"""What an outage left is read in the order of its time: a join does not fill up with events whose labels are there."""

from __future__ import annotations

from functools import partial

from tests.scenarios.harness import example_of, now_ms, until

from tailrace.domain.status import Role
from tailrace.main import composition
from tailrace.streams.log import SourceSpec

COUNT = 6_000
STEP_MS = 20


async def test_events_are_not_read_further_ahead_of_their_labels_than_the_horizon(made_on_both, monkeypatch):
    """Fails when the join reads every event that is scored before the first labels: then all of them wait."""
    monkeypatch.setattr(composition, "SourceSpec", partial(SourceSpec, max_records=10))
    scenario = await made_on_both(horizon="10s")
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
    assert held < COUNT / 2 + 1_000  # ids are remembered for the disorder, too: 70 s, of the 120 that there are
