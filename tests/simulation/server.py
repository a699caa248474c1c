"""A process that only serves: the product's own follower of snapshots and publications, watched at every round."""

from __future__ import annotations

from collections.abc import Generator

from tests.simulation.branching import branch_of, codec_of, fold_of
from tests.simulation.broker import SimReader
from tests.simulation.kept import TRAINING
from tests.simulation.processes import index_of
from tests.simulation.virtual import Machine
from tests.simulation.world import SERVES, Seat, Seen, World

from tailrace.domain.models.digest import digest_of
from tailrace.domain.records import Owner
from tailrace.streams.followers import Follower, Models, Serving
from tailrace.streams.training_log import TrainingLog


class Server:
    """One process that serves what learners publish."""

    def __init__(self, world: World, seat: Seat, name: Owner) -> None:
        self._world = world
        self._seat = seat
        self._name = name
        self._models = Models()
        self._highest = -1
        self._served: Serving | None = None
        version = world.version
        self._machine = Machine()
        with self._machine.running():
            reader = SimReader(world, self._machine)
            self._fold = fold_of(world.rules, world.rng, version)
            self._follower = Follower(
                reader=reader,
                index=index_of(world, version),
                fold=self._fold,
                models=self._models,
                training=TrainingLog(reader, None, TRAINING),
                configured=branch_of(world.case.model, version),
                on_refused=world.count_refusal,
            )

    def run(self) -> Generator[None, None, None]:
        """Follow until killed."""
        world, machine = self._world, self._machine
        machine.launch(self._live())
        try:
            while machine.failure is None and not self._follower.crashed and world.owns(self._seat, self._name):
                machine.turn_if(world.news)
                self._look()
                world.finished[self._seat] = True
                yield
            if problem := machine.failure or self._follower.crash_reason:
                world.violations.append(f"server crashed: {problem!r}")
        finally:
            machine.kill()

    async def _live(self) -> None:
        await self._follower.maybe_start()

    def _look(self) -> None:
        serving, world = self._models.current(), self._world
        if serving is None or serving is self._served:
            return
        self._served = serving
        if serving.position < self._highest:
            world.violations.append("served below what was served before")
        self._highest = max(self._highest, serving.position)
        if serving.position:
            codec = codec_of(self._fold.branches[serving.version].model, world.rules)
            world.seen.append(
                Seen(self._name, serving.position, serving.version, digest_of(codec.encode(serving.model)))
            )
            world.seen.append(Seen(self._name, serving.position, SERVES, serving.version))
