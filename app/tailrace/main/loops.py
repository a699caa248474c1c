"""What a process knows about its loops before it runs: their domain objects, the clocks, the versions."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import faust
import numpy as np
import river
import scipy  # type: ignore[import-untyped]

import tailrace
from tailrace import opening
from tailrace.domain.contract import FeatureContract, TargetContract
from tailrace.domain.join import JoinLimits, JoinSpec
from tailrace.domain.learning import Fold, skeletons
from tailrace.domain.models.codec import CODEC_VERSION
from tailrace.domain.models.spec import FOLD_VERSION, ModelSpec, lineage_of
from tailrace.domain.status import Role
from tailrace.settings import LoopSettings, Settings, importer
from tailrace.streams.topic_plan import TopicPlan, plan
from tailrace.wire.topics import LoopTopics, topics_of

ALL_ROLES = (Role.SCORE, Role.JOIN, Role.LEARN)
"""What `tailrace run` does unless told otherwise."""


def now_ms() -> int:
    """Return the wall clock, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def clock_ms() -> int:
    """Return a clock that never goes back, in milliseconds since some moment."""
    return time.monotonic_ns() // 1_000_000


def versions() -> Mapping[str, str]:
    """Return what two folds must have in common, and what a bug report should name."""
    return {
        "version": tailrace.__version__,
        "aiokafka": package_version("aiokafka"),
        "fold": str(FOLD_VERSION),
        "codec": str(CODEC_VERSION),
        "river": str(vars(river)["__version__"]),
        "numpy": np.__version__,
        "scipy": str(scipy.__version__),
        "python": platform.python_version(),
        "faust": str(faust.__version__),
    }


@dataclass(frozen=True)
class LoopDomain:
    """The parts of one loop that decide and do nothing: the same for serving, learning, verifying and inspecting."""

    name: str
    settings: LoopSettings
    contract: FeatureContract
    target: TargetContract
    spec: ModelSpec
    lineage: str
    topics: LoopTopics

    @classmethod
    def of(cls, name: str, settings: LoopSettings, folder: Path | None = None) -> LoopDomain:
        """Make the domain objects of one loop.

        Args:
            folder: Of the configuration: where the module of a `module:function` is looked for first.

        Raises:
            SettingsError: The model cannot be built.
        """
        target, contract = settings.target, settings.contract
        champion = settings.champion
        build = importer(folder or Path.cwd())
        spec = ModelSpec.load(settings.task.value, champion.model, build, experimental=champion.experimental)
        lineage = lineage_of(
            spec,
            contract_id=contract.id,
            target={
                "task": target.task.value,
                "positive": target.positive,
                "negative": target.negative,
                "classes": list(target.classes),
            },
            start=0,
            settings={},
            cpu_class=platform.machine(),
        )
        return cls(
            name,
            settings,
            contract,
            target,
            spec,
            lineage,
            opening.topics_of(name, settings),
        )

    def fold(self) -> Fold:
        """Make the fold; one per process is enough."""
        return Fold(
            contract=self.contract,
            target=self.target,
            lineage=self.lineage,
            build_model=self.spec.build,
            codec=self.spec.codec(skeletons()),
        )

    def join_spec(self, partition: int, partitions: int) -> JoinSpec:
        """Return what the join of one partition is told."""
        return JoinSpec(
            partition,
            partitions,
            self.settings.times,
            self.settings.implicit_y,
            JoinLimits(max_waiting=self.settings.join.max_waiting, max_early=self.settings.join.max_waiting),
        )

    def group(self, role: Role) -> str:
        """Return the consumer group of a role."""
        return f"tailrace.{self.name}.{role.value}"


def loops_of(settings: Settings) -> list[LoopDomain]:
    """Return the domain objects of every loop."""
    return [LoopDomain.of(name, loop, settings.folder) for name, loop in settings.loops.items()]


async def topic_plan_of(admin: Any, domain: LoopDomain, replication: int | None = None) -> TopicPlan:
    """Compare the topics of one loop with those that exist."""
    topics = topics_of(
        domain.name,
        domain.topics.events,
        domain.topics.labels,
        horizon_ms=domain.settings.horizon,
    )
    found = await admin.describe([topic.name for topic in topics])
    return plan(topics, found, brokers=await admin.brokers(), replication=replication)
