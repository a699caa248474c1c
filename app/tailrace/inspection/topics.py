"""The topics of a loop: how those that exist differ from those that it needs, and making them so."""

from __future__ import annotations

from tailrace.inspection.reading import Reading, ask, is_there
from tailrace.settings import LoopSettings, Settings
from tailrace.streams.topic_plan import TopicPlan, apply, plan, plan_for
from tailrace.wire.topics import TopicSpec, topics_of

__all__ = ["TopicPlan", "applied", "plan_of", "planned", "specs_of"]


def specs_of(name: str, loop: LoopSettings) -> list[TopicSpec]:
    """Return the table of topics of a loop."""
    return topics_of(name, loop.events.topic, loop.labels.topic, horizon_ms=loop.horizon)


def planned(settings: Settings, name: str, loop: LoopSettings, *, with_inputs: bool) -> TopicPlan:
    """Return what would be done. An embedded log that is not there is not made for that.

    Args:
        with_inputs: Plan the user's own topics too; on an embedded log nobody else would make them.

    Raises:
        LogUnavailable: The log does not answer.
    """
    if not is_there(settings):
        return plan(specs_of(name, loop), {}, brokers=1)
    return ask(settings, lambda reading: plan_of(reading, name, loop, with_inputs=with_inputs))


async def plan_of(reading: Reading, name: str, loop: LoopSettings, *, with_inputs: bool = False) -> TopicPlan:
    """Compare the topics of a loop with those that exist."""
    made = await plan_for(reading.admin, specs_of(name, loop), reading.settings.kafka.replication)
    return made if with_inputs or reading.settings.servers is None else made.without_users()


async def applied(reading: Reading, name: str, loop: LoopSettings, *, with_inputs: bool = False) -> TopicPlan:
    """Make the topics of a loop as they must be; return what was done.

    Raises:
        LogError: A topic breaks a promise; nothing was done.
    """
    made = await plan_of(reading, name, loop, with_inputs=with_inputs)
    await apply(reading.admin, made)
    return made
