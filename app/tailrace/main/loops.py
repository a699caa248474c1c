"""What a process knows about its loops before it runs: their domain objects, the clocks, the versions."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version as package_version
from pathlib import Path

import faust

import tailrace
from tailrace import opening
from tailrace.domain.branches import Branch, Filter, Kit
from tailrace.domain.compiling import compiled_kit
from tailrace.domain.contract import FeatureContract, TargetContract
from tailrace.domain.errors import SettingsError
from tailrace.domain.join import JoinLimits, JoinSpec
from tailrace.domain.learning import Fold
from tailrace.domain.models.codec import StateCodec
from tailrace.domain.models.expression import is_function
from tailrace.domain.models.spec import ModelSpec, branch_of, library_versions, loop_lineage
from tailrace.domain.positions import Position
from tailrace.domain.state import skeletons
from tailrace.domain.status import Role
from tailrace.main.compiling import why_not_compiled
from tailrace.settings import LoopSettings, Settings, importer
from tailrace.wire.topics import LoopTopics

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
        **library_versions(),
        "python": platform.python_version(),
        "faust": str(faust.__version__),
    }


@dataclass(frozen=True)
class LoopDomain:
    """The parts of one loop that decide and do nothing: the same for serving, learning, verifying and inspecting.

    Attributes:
        branch: The configured model as a branch: with the libraries of this process, from the log's start.
        why_not_compiled: Why River's own code runs the configured model, in one sentence; "" where it is compiled.
        lineage: Of the loop's own part of a state.
        folder: Of the configuration: where the module of a `module:function` is looked for first.
    """

    name: str
    settings: LoopSettings
    contract: FeatureContract
    target: TargetContract
    branch: Branch
    why_not_compiled: str
    lineage: str
    topics: LoopTopics
    folder: Path

    @classmethod
    def of(cls, name: str, settings: LoopSettings, folder: Path | None = None) -> LoopDomain:
        """Make the domain objects of one loop.

        Args:
            folder: Of the configuration: where the module of a `module:function` is looked for first.

        Raises:
            SettingsError: The model cannot be built.
        """
        contract, place = settings.contract, folder or Path.cwd()
        champion = settings.champion
        try:
            spec = _spec(settings.task.value, champion.model, place, experimental=champion.experimental)
        except SettingsError as error:
            raise SettingsError([f"loops.{name}.champion.model: {each}" for each in error.problems]) from error
        why_not = why_not_compiled(spec, settings)
        return cls(
            name,
            settings,
            contract,
            settings.target,
            branch_of(spec, contract_id=contract.id, cpu_class=platform.machine(), is_compiled=not why_not),
            why_not,
            loop_lineage(contract.id),
            opening.topics_of(name, settings),
            place,
        )

    def fold(self) -> Fold:
        """Make the fold; one per process is enough."""
        return Fold(
            contract=self.contract,
            target=self.target,
            lineage=self.lineage,
            codec=StateCodec(skeletons()),
            kit_of=self.kit_of,
        )

    def kit_of(self, branch: Branch) -> Kit | None:
        """Return what folds a branch; None where this configuration and these libraries cannot.

        A definition comes from a log: it never makes this process import a module that its configuration does not name.
        """
        if is_function(branch.model) and _module_of(branch.model) != _module_of(self.branch.model):
            return None
        try:
            spec = _spec(branch.task, branch.model, self.folder, experimental=branch.experimental)
        except SettingsError:
            return None
        if self.branch_with(spec, start=branch.start, drop=branch.filter, is_compiled=branch.is_compiled) != branch:
            return None
        if branch.is_compiled:
            return compiled_kit(branch, spec, self.contract, self.target)
        return Kit(branch, spec.build, spec.codec())

    def warm(self) -> None:
        """Compile the configured model where it is one that is compiled; it takes seconds, once for each version."""
        kit = self.kit_of(self.branch)
        if kit is not None:
            kit.warm()

    def branch_with(
        self, spec: ModelSpec, *, start: Position = 0, drop: Filter | None = None, is_compiled: bool = False
    ) -> Branch:
        """Return the branch that folds a model with the libraries of this process."""
        return branch_of(
            spec,
            contract_id=self.contract.id,
            cpu_class=platform.machine(),
            start=start,
            drop=drop,
            is_compiled=is_compiled,
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


def _module_of(model: str) -> str:
    """Return the module of a `module:function`; "" of an expression."""
    return model.partition(":")[0].strip() if is_function(model) else ""


def _spec(task: str, model: str, folder: Path, *, experimental: bool) -> ModelSpec:
    return ModelSpec.load(task, model, importer(folder), experimental=experimental)


def loops_of(settings: Settings) -> list[LoopDomain]:
    """Return the domain objects of every loop."""
    return [LoopDomain.of(name, loop, settings.folder) for name, loop in settings.loops.items()]
