"""Genuine decisions about which branch serves, asked for as a person asks, while faults go on: what I8 is about."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, replace

from tests.faults.ground import Ground, now_ms
from tests.faults.invariants import Epoch, directory_of, epochs_of
from tests.faults.topics import Topics, prediction_source
from tests.scenarios.commanding import tailrace
from tests.scenarios.harness import Scenario

CHALLENGER = "StandardScaler() | LogisticRegression(l2=0.1)"
TAKEN_S = 60.0
REACHED_S = 10.0
TOOK_IT_NOT_YET = 4
"""The exit code of a command that no learner has taken so far."""


@dataclass
class Decisions:
    """A challenger beside the branch that a loop began with; the one that does not serve is promoted, again and again.

    Attributes:
        scenario: With the challenger's configuration; the workers keep theirs.
        lineages: Of the first branch and of the challenger.
        asked: How many promotions were asked for, one at a time: each is of the epoch that the one before has made.
    """

    at: Ground
    scenario: Scenario
    lineages: tuple[str, str]
    asked: int = 0

    @classmethod
    async def begin(cls, at: Ground) -> Decisions:
        """Build the challenger from the log and let the learner admit it."""
        model, config = at.scenario.domain.settings.champion.model, at.folder / "challenger.toml"
        text = at.scenario.config.read_text()
        assert model in text
        config.write_text(text.replace(model, CHALLENGER))
        scenario = replace(at.scenario, config=config)
        ran = await tailrace(scenario, "upgrade", "--by", "ada", "--why", "a challenger")
        assert ran.code == 0, ran.err
        return cls(at, scenario, (at.scenario.domain.branch.lineage, ran.line["branch"]))

    async def ask(self) -> None:
        """Ask for the branch that does not serve; some learner takes that, now or when there is one."""
        self.asked += 1
        lineage = self.lineages[self.asked % 2]
        why = ("back again", "in its turn")[self.asked % 2]
        ran = await tailrace(self.scenario, "branches", "promote", lineage, "--by", "ada", "--why", why, "--wait", "0")
        assert ran.code in (0, TOOK_IT_NOT_YET), f"{ran.code}: {ran.out}{ran.err}"

    async def taken(self) -> None:
        """Wait until the log holds the decision that was asked for last."""
        end_s = time.monotonic() + TAKEN_S
        while (history := await self._history())[-1].epoch < self.asked:
            if time.monotonic() >= end_s:
                raise self.at.in_vain(f"{TAKEN_S} s after promotion {self.asked} it is epoch {history[-1].epoch}")
            await asyncio.sleep(0.05)
        assert (history[-1].epoch, history[-1].champion) == (self.asked, self.lineages[self.asked % 2]), history

    async def reached(self) -> float:
        """Wait until the branch that was decided on answers every partition; return the seconds. There must be load."""
        version, since_ms, begun_s = self.lineages[self.asked % 2][:12], now_ms(), time.monotonic()
        names, left = self.at.scenario.domain.topics, set(range(self.at.topics.partitions))
        while True:
            for column in await self.at.topics.read(names.predictions):
                for record, plain in zip(reversed(column.records), reversed(column.decoded), strict=True):
                    if record.timestamp < since_ms:
                        break
                    if plain["version"] == version:
                        left.discard(prediction_source(record)[0])
            seconds = time.monotonic() - begun_s
            if not left:
                return seconds
            if seconds >= REACHED_S:
                raise self.at.in_vain(
                    f"{seconds:.0f} s after {version} was promoted it does not answer partitions {left}"
                )
            await asyncio.sleep(0.05)

    def seen(self) -> Seen:
        """Return how much of these decisions the checks of I8 had before them; there must be something of each kind.

        The topics are those of the last check, which was made at the end.
        """
        seen = Seen.of(self.at.topics)
        assert seen.epoch == self.asked, f"{self.asked} promotions were asked for: {seen}"
        assert set(seen.predictions) == {lineage[:12] for lineage in self.lineages}, seen
        assert seen.announced, seen
        assert seen.manifests, seen
        return seen

    async def _history(self) -> list[Epoch]:
        await self.at.topics.read(self.at.scenario.domain.topics.training)
        return epochs_of(self.at.topics)


@dataclass(frozen=True)
class Seen:
    """What I8 looks at.

    Attributes:
        epoch: The last one, as the log has it.
        predictions: How many, by the branch that they say they are of.
        announced: Promotions.
        manifests: Of an epoch that somebody has decided, where the index itself says who is champion.
    """

    epoch: int
    predictions: dict[str, int]
    announced: int
    manifests: int

    @classmethod
    def of(cls, topics: Topics) -> Seen:
        """Count it."""
        names, history = topics.domain.topics, epochs_of(topics)
        predictions = Counter(
            plain["version"] for column in topics.all_of(names.predictions) for plain in column.decoded
        )
        told = [event for column in topics.all_of(names.model_events) for event in column.decoded]
        directories = [directory_of(manifest) for _, manifest in topics.manifests()]
        return cls(
            history[-1].epoch if history else 0,
            dict(predictions),
            sum(event.kind == "promote" for event in told),
            sum(each is not None and int(each["epoch"]) > 0 for each in directories),
        )

    @property
    def in_words(self) -> str:
        """For a note."""
        shares = " and ".join(str(count) for count in self.predictions.values())
        return (
            f"{self.epoch} promotions asked for between the strikes, {self.announced} announced, {self.manifests} states "
            f"in the index name their champion; {shares} predictions of the two branches"
        )
