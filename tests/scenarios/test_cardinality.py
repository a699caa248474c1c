"""A loop that strangers fill with names, categories and targets goes on as before, and tells what it left out."""

from __future__ import annotations

from typing import Any

from tests.scenarios.harness import Scenario, now_ms, until

from tailrace.domain.records import Code
from tailrace.wire.avro_codec import decode_scored
from tailrace.wire.dead_letter import parse

KNOWN = 5
NAMES = 100_000
ATTACKS = 200
WORDS = "(SelectType(str) | OneHotEncoder()) + (SelectType(float) | StandardScaler()) | LogisticRegression()"
FEATURES = {"a": "number", "country": {"type": "category", "max": KNOWN}}


def events(count: int, at_ms: int, **more: Any) -> list[dict[str, Any]]:
    made = [{"id": f"e{number}", "at": at_ms + number, "a": number % 7 - 3.0} for number in range(count)]
    return [event | {"country": f"c{number % KNOWN}"} | more for number, event in enumerate(made)]


async def answered(scenario: Scenario, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    async def is_answered() -> bool:
        found[:] = await scenario.user.predictions()
        return len(found) >= count

    await until(is_answered, f"{count} events are answered")
    return found


async def test_names_categories_and_targets_of_strangers_grow_nothing(made):
    """Fails without the bound on known categories; names and targets are bounded by the contract."""
    targets = {"target": "y", "positive": "bad", "negative": "good"}
    labels = {"topic": made.form.topic("labels"), "id": "id", "time": "at", **targets}
    scenario = await made(features=FEATURES, labels=labels, champion={"model": WORDS})
    process = await scenario.start()
    user, at_ms = scenario.user, now_ms() - 600_000
    ordinary = events(2 * KNOWN, at_ms)
    await user.events(*ordinary)
    await user.labels(*({"id": each["id"], "at": each["at"], "y": "good"} for each in ordinary))
    await until(lambda: scenario.learned(process) == len(ordinary), "the model is warm")

    each_time = NAMES // ATTACKS
    for number, event in enumerate(events(ATTACKS, at_ms + 1_000)):
        extra = {f"field {number * each_time + place}": place for place in range(each_time)}
        await user.events(event | {"id": f"x{number}", "country": f"nobody sent {number}"} | extra)
    await answered(scenario, len(ordinary) + ATTACKS)
    sent = [{"id": f"x{number}", "at": at_ms + 2_000} for number in range(ATTACKS)]
    await user.labels(*(label | {"y": f"maybe {number}"} for number, label in enumerate(sent)))
    await user.labels(*(label | {"y": "bad"} for label in sent))
    await until(lambda: scenario.learned(process) == len(ordinary) + ATTACKS, "what strangers sent is learned")
    await user.events({"id": "last", "at": at_ms + 3_000, "a": 1.0, "country": "c1"})

    last = (await answered(scenario, len(ordinary) + ATTACKS + 1))[-1]
    live = scenario.loop_of(process).models.live
    assert live is not None
    known = live.champion.categories.known("country")
    assert {f"c{number}" for number in range(KNOWN)} == set(known)
    columns = [name for name in live.champion.model["LogisticRegression"].weights if name.startswith("country_")]
    assert len(columns) == KNOWN + 1
    assert ("last", 0.5) < (last["event_id"], last["proba"])
    letters = [parse(each.headers).rejection.code for each in await user.read(scenario.domain.topics.dead_labels)]
    assert [Code.TARGET_INVALID] * ATTACKS == letters
    blocks = [decode_scored(each.value or b"") for each in await user.read(scenario.domain.topics.scored)]
    assert "nobody sent 7" in {text for block in blocks for (text,) in block.x.strings}
