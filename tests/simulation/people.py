"""People of a simulated loop: they build branches beside, ask for things, twice, too late, out of order; and forgers."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import Final

from tests.simulation.branch_oracle import Rule, counting
from tests.simulation.branching import MODELS, VERSIONS, branch_of
from tests.simulation.builder import Builder, Built
from tests.simulation.kept import COMMANDS
from tests.simulation.keys import LEARNER_KEY, OPERATOR_KEY, UNKNOWN_OPERATOR_KEY
from tests.simulation.world import LOG_ID, Seat, World

from tailrace.domain.branches import Branch, Filter, digest_of_ids, hash_of_id
from tailrace.domain.positions import Position, position_of
from tailrace.domain.records import Owner, Request, RequestKind
from tailrace.stores.signing import SigningKey
from tailrace.wire.avro_codec import Signed, encode_request, encode_signed

SEAT: Final = Seat("people", 0)


class People:
    """Everybody who writes to the commands topic."""

    def __init__(self, world: World, name: Owner) -> None:
        self._world = world
        self._name = name
        self._made = 0
        self._waiting: list[tuple[Request, bytes]] = []

    def run(self) -> Generator[None, None, None]:
        """Ask for something now and then, until the inputs have ended."""
        world = self._world
        while not world.inputs_ended and world.acts < world.case.acts:
            if world.log.entries and world.faults.strikes("act", 0.06):
                world.acts += 1
                yield from world.rng.choice(self._acts)()
            yield
        self._send_waiting()
        while world.owns(SEAT, self._name):
            world.finished[SEAT] = True
            yield

    @property
    def _acts(self) -> list[Callable[[], Iterator[None]]]:
        usual = [self._build, self._build, self._promote, self._promote]
        return [*usual, self._retire, self._bring_back, self._repeat, self._forge]

    # What they may do

    def _build(self) -> Iterator[None]:
        """Build a branch beside, publish it, ask for its admission and then for its promotion."""
        rng = self._world.rng
        branch, ids = self._new_branch()
        if branch.versions["fold"] == self._world.version:
            builder = Builder(self._world, branch, ids)
            built = yield from builder.run()
        else:
            built = Built(0, "", ())  # made elsewhere, with libraries that no process here has
        ids = tuple(sorted(map(hash_of_id, ids)))
        self._ask(
            self._request(RequestKind.ADMIT, branch.lineage, 0),
            definition=branch.text,
            position=built.position,
            digest=built.digest,
            ids=ids,
            skips=built.skips,
        )
        if rng.random() < 0.7:
            for _ in range(rng.choice([0, 20, 100])):
                yield
            self._ask(self._request(RequestKind.PROMOTE, branch.lineage, self._rule().reigns[-1].epoch))

    def _promote(self) -> Iterator[None]:
        yield from self._ask_about_one(RequestKind.PROMOTE)

    def _retire(self) -> Iterator[None]:
        yield from self._ask_about_one(RequestKind.RETIRE)

    def _bring_back(self) -> Iterator[None]:
        """Retire a branch and ask for its admission again."""
        rng, rule = self._world.rng, self._rule()
        others = sorted(rule.admitted - {rule.reigns[-1].champion})
        if not others:
            return
        lineage = rng.choice(others)
        self._ask(self._request(RequestKind.RETIRE, lineage, rule.reigns[-1].epoch))
        for _ in range(rng.choice([0, 20])):
            yield
        text, ids = rule.definitions[lineage].text, tuple(sorted(rule.ids[lineage]))
        skips = tuple(sorted(rule.skips[lineage]))
        self._ask(self._request(RequestKind.ADMIT, lineage, 0), definition=text, ids=ids, skips=skips)
        yield

    def _ask_about_one(self, kind: RequestKind) -> Iterator[None]:
        rng, rule = self._world.rng, self._rule()
        if rule.admitted:
            epoch = max(0, rule.reigns[-1].epoch + rng.choice([0, 0, 0, -1, 1]))
            self._ask(self._request(kind, rng.choice(sorted(rule.admitted)), epoch))
        yield

    def _repeat(self) -> Iterator[None]:
        """Send again what was sent: one record, or all from an offset on."""
        world, end = self._world, self._world.end_of(COMMANDS)
        start = world.rng.randrange(end) if end else 0
        stop = end if world.rng.random() < 0.3 else start + 1
        for kept in world.records(COMMANDS, start, stop):
            self._append(world.asked.get(kept.offset), kept.value or b"")
            yield

    def _forge(self) -> Iterator[None]:
        """Ask for what is likely to take effect, with a signature that must not count."""
        rng, rule = self._world.rng, self._rule()
        others = sorted(rule.admitted - {rule.reigns[-1].champion})
        if not others:
            return
        request = self._request(RequestKind.PROMOTE, rng.choice(others), rule.reigns[-1].epoch)
        payload = encode_request(request)
        good, whole = _signed(payload, OPERATOR_KEY), encode_signed(_signed(payload, OPERATOR_KEY))
        forged = [
            encode_signed(_signed(payload, UNKNOWN_OPERATOR_KEY)),
            encode_signed(_signed(payload, LEARNER_KEY)),
            encode_signed(Signed(payload, OPERATOR_KEY.key_id, UNKNOWN_OPERATOR_KEY.sign(payload))),
            encode_signed(Signed(encode_request(replace(request, by="else")), good.key_id, good.signature)),
            whole[: len(whole) // 2],
            encode_signed(_signed(encode_request(replace(request, log_id="another")), OPERATOR_KEY)),
        ]
        self._append(None, rng.choice(forged))
        yield

    # How they do it

    def _new_branch(self) -> tuple[Branch, tuple[str, ...]]:
        world, rng = self._world, self._world.rng
        version = rng.choice([world.version, world.version, world.version, *VERSIONS])
        model = rng.choice([world.case.model, *MODELS])
        end, ids = position_of(world.log.next_offset), tuple(f"e{rng.randrange(60)}" for _ in range(20))
        filters: list[tuple[Filter, tuple[str, ...]]] = [
            (Filter(), ()),
            (Filter(corrected_to=self._somewhere(end + rng.choice([0, 0, end]))), ()),
            (Filter(corrected_to=end, sources=("desk",)), ()),
            (Filter(sources=("desk", "users")), ()),
            (Filter(ids=digest_of_ids(map(hash_of_id, ids)), ids_to=end), ids),
            (Filter(start=self._somewhere(end), end=end), ()),
        ]
        left_out, hidden = rng.choice(filters)
        start = rng.choice([0, 0, 0, self._somewhere(end)])
        return branch_of(model, version, left_out, start), hidden

    def _somewhere(self, end: Position) -> Position:
        return self._world.rng.randrange(end + 1)

    def _rule(self) -> Rule:
        rule = Rule()
        rule.read(counting(self._world.log.entries))
        return rule

    def _request(self, kind: RequestKind, branch: str, epoch: int) -> Request:
        self._made += 1
        name = f"{self._name}/{self._made}"
        return Request(name, "loop", LOG_ID, kind, branch, epoch, "ann", "why not", self._world.now_ms())

    def _ask(self, request: Request, **more: object) -> None:
        """Send a request; now and then the next one overtakes it, or it goes out twice."""
        request = replace(request, **more)  # type: ignore[arg-type]
        value = encode_signed(_signed(encode_request(request), OPERATOR_KEY))
        if not self._waiting and self._world.faults.strikes("overtaken", 0.15):
            self._waiting.append((request, value))
            return
        self._append(request, value)
        if self._world.faults.strikes("asked_twice", 0.1):
            self._append(request, value)
        self._send_waiting()

    def _send_waiting(self) -> None:
        for request, value in self._waiting:
            self._append(request, value)
        self._waiting.clear()

    def _append(self, request: Request | None, value: bytes) -> None:
        offset = self._world.append(COMMANDS, b"loop", value)
        if request is not None:
            self._world.asked[offset] = request


def _signed(payload: bytes, key: SigningKey) -> Signed:
    return Signed(payload, key.key_id, key.sign(payload))
