"""What strangers can multiply (names of fields, values of a category, targets) grows nothing that lasts.

A loop that is sent 100,000 of each is compared, in one run, with a loop that learns as many ordinary examples: memory
and snapshot of the two differ by at most 1 %, and so, within noise, do their answers in time.
"""

from __future__ import annotations

import gc
import math
import random
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest
from river import compose, linear_model, preprocessing
from tests.log_builders import begun, make_block, make_claim, make_examples, make_log
from tests.log_builders import make_fold as fold_of

from tailrace.domain.branches import BranchState
from tailrace.domain.categories import CategoriesState
from tailrace.domain.contract import FeatureContract, FeatureSpec, TargetContract
from tailrace.domain.learning import Fold
from tailrace.domain.records import Code, Features, Rejection, Task
from tailrace.domain.scoring import score
from tailrace.domain.state import LoopState

MANY = 100_000
KNOWN = 20
WARM = 2_000
AT_ONCE = 2_000

CONTRACT = FeatureContract((FeatureSpec("amount", "number"), FeatureSpec("country", "category", most=KNOWN)))
TARGET = TargetContract(Task.BINARY, positive="bad", negative="good")


def build() -> Any:
    words = compose.SelectType(str) | preprocessing.OneHotEncoder()
    numbers = compose.SelectType(float) | preprocessing.StandardScaler()
    return (words + numbers) | linear_model.LogisticRegression()


def make_fold() -> Fold:
    return fold_of(build, target=TARGET, contract=CONTRACT)


def ordinary(number: int) -> dict[str, Any]:
    return {"amount": math.sin(number), "country": f"c{number % KNOWN}"}


def hostile(number: int) -> dict[str, Any]:
    """Return an event with a category that nobody ever sent, and ten fields that nobody knows."""
    extra = {f"field {10 * number + each}": each for each in range(10)}
    return ordinary(number) | {"country": f"nobody sent {number} before"} | extra


def champion_of(state: LoopState) -> BranchState:
    return state.branches[state.pointers.champion]


def rows_of(make: Callable[[int], dict[str, Any]], numbers: range) -> list[Features]:
    """Return events as the contract reads them from bytes."""
    read = CONTRACT.read_many([orjson.loads(orjson.dumps(make(number))) for number in numbers]).read
    rows = [row for row in read if not isinstance(row, Rejection)]
    assert len(rows) == len(numbers)
    return rows


def learned(fold: Fold, make: Callable[[int], dict[str, Any]]) -> LoopState:
    """Return a state that learned WARM ordinary examples, then MANY of one kind."""
    state = begun(fold)
    fold.fold(state, make_log(make_claim()))
    for number, rows in enumerate(batches(make), 1):
        fold.fold(state, make_log(block_of(rows, number), start=number))
    return state


def batches(make: Callable[[int], dict[str, Any]]) -> Iterator[list[Features]]:
    yield rows_of(ordinary, range(WARM))
    for first in range(0, MANY, AT_ONCE):
        yield rows_of(make, range(first, first + AT_ONCE))


def block_of(rows: Sequence[Features], number: int) -> Any:
    examples = replace(make_examples(len(rows), seed=number), x=CONTRACT.columns(rows))
    return make_block(examples, number=number, contract_id=CONTRACT.id)


@pytest.fixture(scope="module")
def states() -> tuple[Fold, LoopState, LoopState]:
    """A fold, what it came to by ordinary examples, and what it came to by hostile ones."""
    fold = make_fold()
    return fold, learned(fold, ordinary), learned(fold, hostile)


def test_a_hundred_thousand_categories_add_nothing_to_a_snapshot(states: tuple[Fold, LoopState, LoopState]) -> None:
    """Fails without the bound on known categories: each would be a column of the encoder and a weight."""
    fold, calm, attacked = states
    sizes = [sum(map(len, fold.parts(state).values())) for state in (calm, attacked)]

    assert MANY + WARM == champion_of(attacked).learned
    assert KNOWN == len(champion_of(attacked).categories.known("country"))
    # One weight and one column more, "other", which ordinary events never needed.
    other = len("country_other") * 2 + 40
    assert sizes[1] - other <= sizes[0] * 1.01


def test_a_hundred_thousand_categories_add_nothing_to_memory(states: tuple[Fold, LoopState, LoopState]) -> None:
    """Fails without the bound on known categories."""
    fold, calm, attacked = states

    def memory_of(state: LoopState) -> int:
        parts = fold.parts(state)
        gc.collect()
        tracemalloc.start()
        restored = fold.restore(parts)
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert restored.position == state.position
        return taken

    memory_of(calm)  # what the first restore of a process keeps for good
    assert memory_of(attacked) <= memory_of(calm) * 1.01 + 1_000


def test_answers_take_as_long_after_the_attack_as_without_it(states: tuple[Fold, LoopState, LoopState]) -> None:
    """Fails without the bound on known categories: an answer looks at every column there is."""
    _, calm, attacked = states
    rows = rows_of(ordinary, range(300))

    def seconds(state: LoopState) -> float:
        begun = time.perf_counter()
        score(champion_of(state).model, rows, TARGET, champion_of(state).categories)
        return time.perf_counter() - begun

    rounds = [(seconds(attacked), seconds(calm)) for _ in range(30)]

    # The best of many rounds: what else the machine does only ever adds to a round.
    assert min(each for each, _ in rounds) <= 1.1 * min(each for _, each in rounds)


def test_without_the_bound_the_same_attack_is_felt_at_once() -> None:
    """The measure itself: a model that is shown every category grows by each."""
    fold = make_fold()
    bounded, unbounded = begun(fold), begun(fold)
    champion_of(unbounded).categories = CategoriesState()
    for state in (bounded, unbounded):
        fold.fold(state, make_log(make_claim(), block_of(rows_of(hostile, range(1_000)), 1)))

    assert len(fold.body_of(champion_of(unbounded))) > 10 * len(fold.body_of(champion_of(bounded)))


def test_a_hundred_thousand_names_of_fields_leave_nothing_behind() -> None:
    """Fields that the contract does not name are dropped before anything holds them."""
    names = [f"field {number}" for number in range(MANY)]
    raws = [
        orjson.dumps(ordinary(1) | dict.fromkeys(names[first : first + 1_000], 1)) for first in range(0, MANY, 1_000)
    ]
    for raw in raws[:10]:
        CONTRACT.read(orjson.loads(raw))
    gc.collect()

    tracemalloc.start()
    rows = [CONTRACT.read(orjson.loads(raw)) for raw in raws]
    gc.collect()
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert [{"amount": math.sin(1), "country": "c1"}] * len(raws) == rows
    assert taken < 250_000  # the rows, and the 2,048 keys that orjson remembers; all names are seven million bytes


@pytest.mark.parametrize(
    "target",
    [
        TARGET,
        TargetContract(Task.BINARY, positive="bad"),
        TargetContract(Task.MULTICLASS, classes=("bad", "good", "fine")),
    ],
    ids=["binary", "binary with any negative", "multiclass"],
)
def test_a_hundred_thousand_targets_come_to_no_more_classes_than_the_contract_names(target: TargetContract) -> None:
    """Fails where a model would be given targets as they come: each is a class of a softmax or a tree."""
    rng = random.Random(7)
    sent = ["bad", "good", *(f"{rng.random()}" for _ in range(MANY))]

    read = target.read_many(sent)

    ys = {target.river(y) for y in read if not isinstance(y, Rejection)}
    codes = {y.code for y in read if isinstance(y, Rejection)}
    assert len(ys) <= 2
    assert codes <= {Code.TARGET_INVALID}
