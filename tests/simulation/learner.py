"""The learner of a simulated loop: the product's own learn agent, in a process of ours."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Final

from tests.simulation.branching import branch_of, fold_of
from tests.simulation.broker import SimReader, SimSink, SimSource
from tests.simulation.environment import SimRecorder
from tests.simulation.kept import COMMANDS, MODEL_EVENTS, TRAINING
from tests.simulation.keys import SimTrustFile
from tests.simulation.processes import index_of
from tests.simulation.virtual import QUIET_ROUNDS, Machine
from tests.simulation.world import CHAMPION, Seat, Seen, World, champion_text

from tailrace.domain.models.digest import digest_of
from tailrace.domain.positions import offset_of
from tailrace.domain.records import Owner
from tailrace.domain.snapshots import Refusal
from tailrace.domain.state import BRANCHES
from tailrace.domain.status import Role, RoleState
from tailrace.stores.signing import verify_command
from tailrace.streams.agreed_digests import AgreedDigests
from tailrace.streams.announcements import Announcements
from tailrace.streams.commands import Commands, CommandsParts
from tailrace.streams.followers import Models
from tailrace.streams.learn_agent import LearnAgent, LearnParts
from tailrace.streams.other_learners import OtherLearners
from tailrace.streams.restoring import Restoring
from tailrace.streams.role import RoleReport
from tailrace.streams.snapshot_writer import SnapshotWriter
from tailrace.streams.standby import NoStandby
from tailrace.streams.training_log import TrainingLog
from tailrace.wire.avro_codec import Signed

SEAT: Final = Seat("learn", 0)
_TOO_OFTEN = "the model raised"


class Learner:
    """One process that learns."""

    def __init__(self, world: World, name: Owner) -> None:
        self._world = world
        self._name = name
        self._terms = 0
        version = world.version
        self.machine, recorder = Machine(), SimRecorder(world)
        with self.machine.running():
            self._reader = SimReader(world, self.machine)
            self._source = SimSource(world, self.machine, SEAT, name)
            sink = SimSink(world, self.machine)
            fold = self._fold = fold_of(world.rules, world.rng, version)
            announcements = Announcements(sink, loop="loop", topic=MODEL_EVENTS, now_ms=world.now_ms)
            self._report = RoleReport(Role.LEARN, recorder)
            index = index_of(world, version, sink)
            asked = CommandsParts(COMMANDS, "loop", self._reader, _verify, announcements, recorder)
            self._writer = SnapshotWriter(
                loop="loop",
                fold=fold,
                index=index,
                announcements=announcements,
                recorder=recorder,
                versions={"fold": version},
                store_address=world.vault.address,
                publish_ms=world.case.publish_ms,
                snapshot_ms=world.case.snapshot_ms,
                clock_ms=lambda: int(1_000 * self.machine.loop.time()),
                now_ms=world.now_ms,
            )
            training = TrainingLog(self._reader, sink, TRAINING)
            self._agent = LearnAgent(
                LearnParts(
                    fold=fold,
                    configured=branch_of(world.case.model, version),
                    commands=lambda start, log_id: Commands(asked, start=start, log_id=log_id),
                    training=training,
                    reader=self._reader,
                    index=index,
                    restoring=Restoring(fold, training, index, recorder, self._report),
                    standby=NoStandby(),
                    writer=self._writer,
                    digests=AgreedDigests(fold, self.machine.loop.time),
                    # Never started: here nobody sends heartbeats, and every state is compared by the checks.
                    others=OtherLearners(
                        reader=self._reader,
                        status_topic="loop.status",
                        member=str(name),
                        lineage=fold.lineage,
                        announcements=announcements,
                        recorder=recorder,
                    ),
                    models=Models(),
                    announcements=announcements,
                    recorder=recorder,
                    report=self._report,
                    new_owner=self._new_owner,
                    now_ms=world.now_ms,
                    refold_after_ms=world.case.refold_ms,
                )
            )
            self._agent.attach(self._source)

    def run(self) -> Generator[None, None, None]:
        """Learn until killed, refused, or asked to leave."""
        machine, world = self.machine, self._world
        machine.launch(self._live())
        try:
            while machine.failure is None and not self._agent.crashed:
                machine.turn_if(world.news)
                if self._report.state is RoleState.FAILED:
                    self._check_why_down()
                    return
                if world.owns(SEAT, self._name):
                    self._report_end()
                elif world.rng.random() < 0.05:
                    if world.rng.random() < 0.5:
                        yield from self._leave()
                    return
                yield
            problem = machine.failure or self._agent.crash_reason
            world.violations.append(f"learner crashed: {problem!r}")
        finally:
            machine.kill()

    async def _live(self) -> None:
        await self._agent.maybe_start()
        await self._agent.on_assigned(1, self._source.assigned)
        await self._agent.run(self._source.batches())

    def _leave(self) -> Iterator[None]:
        leaving = self.machine.launch(self._agent.on_revoked(self._source.assigned))
        while not leaving.done():
            self.machine.turn()
            yield

    def _new_owner(self) -> Owner:
        self._terms += 1
        return f"{self._name}.{self._terms}"

    def _check_why_down(self) -> None:
        if not self._report.reason.startswith(_TOO_OFTEN):
            self._world.violations.append(f"learner down: {self._report.reason}")

    def _report_end(self) -> None:
        world, state = self._world, self._agent.live_state
        is_done = (
            world.inputs_ended
            and state is not None
            and self.machine.idle_rounds >= QUIET_ROUNDS
            and offset_of(state.position) == world.log.next_offset
            and self._reader.followed.get(COMMANDS) == world.end_of(COMMANDS)
        )
        if not is_done or state is None:
            world.finished.pop(SEAT, None)
            return
        proof = (world.log.next_offset, world.end_of(COMMANDS))
        if world.finished.get(SEAT) == proof:
            return
        world.finished[SEAT] = proof
        for name, body in self._fold.parts(state).items():
            if name != BRANCHES:
                world.seen.append(Seen(self._name, state.position, name, digest_of(body)))
        pointers = state.pointers
        world.seen.append(Seen(self._name, state.position, CHAMPION, champion_text(pointers.champion, pointers.epoch)))
        world.live_outcomes = dict(state.outcomes)


def _verify(signed: Signed, at_ms: int) -> Refusal | None:
    return verify_command(SimTrustFile().current(), signed.payload, signed.signature, signed.key_id, at_ms)
