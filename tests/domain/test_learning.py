"""The fold: which records count, what the model learns, and that nothing else enters a state."""

from __future__ import annotations

import random
from asyncio import CancelledError
from dataclasses import replace
from typing import Any

import pytest
from river import anomaly, base, compose, linear_model, preprocessing
from tests.builders import make_corrections
from tests.log_builders import (
    BRANCH,
    CONTRACT,
    begun,
    make_block,
    make_branch,
    make_claim,
    make_examples,
    make_fold,
    make_learner_claim,
    make_log,
    make_model,
    make_skip,
    skipping,
)

from tailrace.domain.blocks import TrainingBlock
from tailrace.domain.branches import part_name
from tailrace.domain.contract import FeatureContract, FeatureSpec, TargetContract
from tailrace.domain.drift import DriftSignal
from tailrace.domain.errors import CodecError, ContractError, FoldError, SnapshotRefused
from tailrace.domain.learning import Fold
from tailrace.domain.models.codec import StateCodec
from tailrace.domain.notices import Logged, Notices
from tailrace.domain.positions import position_of
from tailrace.domain.records import Features, Task
from tailrace.domain.state import BRANCHES, LOOP, LoopState, skeletons

NUMBERS = FeatureContract((FeatureSpec("amount", "number"), FeatureSpec("size", "number")))


class Poison(BaseException):
    """Like the panics of River's compiled parts: no Exception."""


class Raising:
    """A model that raises what it is told to."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def learn_one(self, _x: Any, _y: Any) -> None:
        raise self.error


class RaisingClassifier(base.Classifier):
    """A classifier of a pipeline that learns one example, and raises at the next."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.learned = 0

    def learn_one(self, _x: Any, _y: Any) -> None:
        if self.learned:
            raise self.error
        self.learned += 1

    def predict_one(self, _x: Any) -> bool:
        return True


def numbers_fold() -> Fold:
    """A fold whose contract has numbers alone, so that every row is complete."""
    return make_fold(contract=NUMBERS)


def numbers_block(count: int) -> TrainingBlock:
    rng = random.Random(count)
    x = NUMBERS.columns([{"amount": rng.gauss(10, 3), "size": rng.gauss(0, 1)} for _ in range(count)])
    return replace(make_block(replace(make_examples(count), x=x)), contract_id=NUMBERS.id)


def folded(log: list[Logged], fold: Fold | None = None, notices: Notices | None = None) -> LoopState:
    fold = fold or make_fold()
    state = begun(fold)
    fold.fold(state, log, notices or Notices())
    return state


def long_log() -> list[Logged]:
    """Two owners, a fenced block, a block sent twice, empty and one-row blocks, a skip: everything a log may hold."""
    return make_log(
        make_claim(),
        make_block(make_examples(40, 1, implicit=[3, 4]), number=1, counts={"joined": 38, "implicit": 2}),
        make_block(make_examples(1, 2), number=2, dropped=2, counts={"dropped": 2}),
        make_block(make_examples(1, 2), number=2, dropped=2),
        make_claim("joiner-b", after="joiner-a"),
        make_block(make_examples(5, 3), number=3),
        make_learner_claim(),
        make_block(make_examples(30, 4, poison=[7]), owner="joiner-b", counts={"late": 1}),
        make_skip(position_of(7, 7)),
        make_block(make_examples(0, 5), owner="joiner-b", number=2),
        make_block(make_examples(25, 6), owner="joiner-b", number=3),
    )


def test_the_model_learns_every_example_of_an_accepted_block_as_river_would() -> None:
    examples = make_examples(50, 1)
    alone = make_model()

    state = folded(make_log(make_claim(), make_block(examples)))
    for x, y in zip(CONTRACT.rows(examples.x), examples.y.tolist(), strict=True):
        alone.learn_one(x, y == 1.0)

    x = CONTRACT.rows(examples.x)[0]
    assert alone.predict_proba_one(x) == state.champion.model.predict_proba_one(x)
    assert 50 == state.champion.learned


def test_a_detector_learns_features_alone_is_judged_by_labels_and_watched_for_nothing() -> None:
    fold = make_fold(lambda: anomaly.HalfSpaceTrees(window_size=20, seed=1), target=TargetContract(Task.ANOMALY))
    examples, state = make_examples(60, 1), begun(fold)
    alone = anomaly.HalfSpaceTrees(window_size=20, seed=1)

    found = fold.fold(state, make_log(make_claim(), make_block(examples)))
    for x in CONTRACT.rows(examples.x):
        alone.learn_one(x)

    x = CONTRACT.rows(examples.x)[0]
    assert alone.score_one(x) == state.champion.model.score_one(x)
    assert (60, 60) == (state.champion.learned, state.quality.metrics["roc_auc"].samples)
    assert ([], 0) == (found, state.drift.width)


def test_a_state_does_not_depend_on_slices_and_restores() -> None:
    """Any two processes that fold the same records hold the same state, byte for byte."""
    log, skips, fold = long_log(), skipping(position_of(7, 7)), make_fold()
    expected = fold.parts(folded(log, fold, skips))

    for seed in range(25):
        rng, state = random.Random(seed), begun(fold)
        for offset, record, digest in log:
            block = fold.open(state, offset, record, digest)
            row = 0
            while block and row < len(block.examples):
                stop = rng.randint(row, len(block.examples))
                fold.learn(state, block, offset, row, stop, skips)
                row = stop
                if rng.random() < 0.3:
                    state = fold.restore(fold.parts(state))
                    assert fold.open(state, offset, record, digest) is record
            if block:
                fold.close(state, offset)
            if rng.random() < 0.3:
                state = fold.restore(fold.parts(state))

        assert expected == fold.parts(state)


def test_a_restored_state_continues_where_it_ended() -> None:
    """Records that a state holds are passed over; offsets may have gaps."""
    log, skips, fold = long_log(), skipping(position_of(7, 7)), make_fold()
    whole = fold.digest(folded(log, fold, skips))

    for cut in range(len(log)):
        state = folded(log[:cut], fold, skips)
        again = fold.restore(fold.parts(state))
        fold.fold(again, log, skips)

        assert whole == fold.digest(again)


def test_a_block_opened_before_the_restore_is_continued_in_its_middle() -> None:
    log, fold = make_log(make_claim(), make_block(make_examples(10, 1))), make_fold()
    state = folded(log[:1], fold)
    block = fold.open(state, *log[1])
    assert block is not None
    fold.learn(state, block, 1, 0, 4)

    again = fold.restore(fold.parts(state))
    fold.fold(again, log)

    assert fold.digest(folded(log, fold)) == fold.digest(again)


def test_every_record_is_counted_by_what_it_did() -> None:
    state = folded(long_log(), notices=skipping(position_of(7, 7)))

    counts = state.counts

    assert (5, 96, 2) == (counts.blocks, counts.examples, counts.dropped)
    assert (94, 2) == (counts.joined, counts.implicit)
    assert (95, 1) == (state.champion.learned, state.champion.skipped)
    assert (2, 3 + 5) == (counts.fenced_blocks, counts.fenced_rows)
    assert (3, 0) == (counts.claims, counts.fenced_claims)
    assert (1, 0) == (counts.notices, counts.fenced_notices)


def test_corrections_are_counted_and_not_learned() -> None:
    """
    The fold counts what corrects and withdraws, of accepted blocks alone; its models learn examples and nothing else.
    """
    fold = make_fold()
    plain, corrected = begun(fold), begun(fold)
    said = make_corrections(("0-0", 0, 1.0), ("0-1", 1, None), ("0-2", 2, 0.0))

    fold.fold(plain, make_log(make_claim(), make_block()))
    fold.fold(corrected, make_log(make_claim(), make_block(corrections=said), make_block(number=9, corrections=said)))

    counts = corrected.counts
    assert (3, 2, 1) == (corrected.champion.learned, counts.corrected, counts.withdrawn)
    assert 3 + 3 == counts.fenced_rows
    codec = StateCodec([make_model()])
    assert codec.encode(plain.champion.model) == codec.encode(corrected.champion.model)


def test_outcomes_of_accepted_blocks_are_summed() -> None:
    state = folded(long_log(), notices=skipping(position_of(7, 7)))

    assert {"joined": 38, "implicit": 2, "dropped": 2, "late": 1} == state.outcomes


def test_claims_and_skips_that_do_not_count_are_fenced() -> None:
    state = folded(make_log(make_claim(), make_claim("joiner-b", after="joiner-x"), make_skip(0)))

    assert (1, 1, 0, 1) == (
        state.counts.claims,
        state.counts.fenced_claims,
        state.counts.notices,
        state.counts.fenced_notices,
    )
    assert "joiner-a" == state.ownership.owners[0]


def test_the_position_is_exclusive_and_moves_with_every_slice() -> None:
    fold = make_fold()
    state = folded(make_log(make_claim()), fold)
    assert position_of(1) == state.position

    block = fold.open(state, 5, make_block(make_examples(10)), "digest")
    assert block is not None
    assert position_of(5, 0) == state.position
    fold.learn(state, block, 5, 0, 4)
    assert position_of(5, 4) == state.position
    fold.learn(state, block, 5, 4, 99)
    assert position_of(5, 10) == state.position
    fold.close(state, 5)
    assert (position_of(6), 5, "digest") == (state.position, state.last_offset, state.last_digest)


def test_a_slice_that_does_not_begin_where_the_state_ends_is_refused() -> None:
    fold = make_fold()
    state = folded(make_log(make_claim()), fold)
    block = fold.open(state, 1, make_block(make_examples(10)), "digest")
    assert block is not None

    with pytest.raises(ContractError, match="begins at 1:4, the state ends at 1:0"):
        fold.learn(state, block, 1, 4, 5)


def test_a_model_that_raises_names_the_example_and_the_cause() -> None:
    with pytest.raises(FoldError) as caught:
        folded(make_log(make_claim(), make_block(make_examples(9, poison=[4]))))

    assert position_of(1, 4) == caught.value.position
    assert isinstance(caught.value.cause, TypeError)


@pytest.mark.parametrize("error", [Poison(), CancelledError(), MemoryError(), RecursionError()])
def test_what_is_no_stop_is_a_failure_of_the_model_too(error: BaseException) -> None:
    """A cancellation that comes out of a model is the model's own; taken for the task's, it would end learning."""
    fold = make_fold()
    state = folded(make_log(make_claim()), fold)
    state.champion.model = Raising(error)

    with pytest.raises(FoldError, match=f"raised {type(error).__name__} while it learned"):
        fold.fold(state, make_log(make_block(), start=1))


def test_complete_rows_behind_a_scaler_are_learned_as_river_would_in_any_slices() -> None:
    fold, block, model = numbers_fold(), numbers_block(20), make_model()
    whole, sliced = folded(make_log(make_claim(), block), fold), folded(make_log(make_claim()), fold)

    opened = fold.open(sliced, 1, block, "digest of 1")
    assert opened is not None
    for start, stop in [(0, 1), (1, 12), (12, 20)]:
        fold.learn(sliced, opened, 1, start, stop)
    for x, y in zip(NUMBERS.rows(block.examples.x), block.examples.y.tolist(), strict=True):
        model.learn_one(x, y == 1.0)

    codec = StateCodec([make_model()])
    assert 1 == len({codec.encode(learned) for learned in (whole.champion.model, sliced.champion.model, model)})


def test_a_model_behind_a_scaler_names_the_example_too() -> None:
    fold = numbers_fold()
    state = folded(make_log(make_claim()), fold)
    state.champion.model = preprocessing.StandardScaler() | RaisingClassifier(Poison())

    with pytest.raises(FoldError) as caught:
        fold.fold(state, make_log(numbers_block(9), start=1))

    assert position_of(1, 1) == caught.value.position


def test_what_ends_the_process_ends_it_behind_a_scaler_too() -> None:
    fold = numbers_fold()
    state = folded(make_log(make_claim()), fold)
    state.champion.model = preprocessing.StandardScaler() | RaisingClassifier(KeyboardInterrupt())

    with pytest.raises(KeyboardInterrupt):
        fold.fold(state, make_log(numbers_block(9), start=1))


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(), GeneratorExit()])
def test_what_ends_the_process_is_no_failure_of_the_model(stop: BaseException) -> None:
    fold = make_fold()
    state = folded(make_log(make_claim()), fold)
    state.champion.model = Raising(stop)

    with pytest.raises(type(stop)):
        fold.fold(state, make_log(make_block(), start=1))


def test_a_skipped_example_is_judged_and_not_learned() -> None:
    log = make_log(make_claim(), make_block(make_examples(9, poison=[4])))

    state = folded(log, notices=skipping(position_of(1, 4)))

    assert (8, 1) == (state.champion.learned, state.champion.skipped)
    assert 9 == state.quality.metrics["accuracy"].samples


def test_the_served_predictions_are_judged_and_not_the_models_own() -> None:
    examples = make_examples(4, ys=[1, 0, 1, 1], probabilities=[0.9, 0.2, 0.1, float("nan")])

    quality = folded(make_log(make_claim(), make_block(examples))).quality

    assert (2 / 3, 3, 1) == (quality.metrics["accuracy"].value, quality.metrics["accuracy"].samples, quality.abstained)


def test_examples_of_another_contract_are_counted_and_left_out() -> None:
    """Their features have another layout, so this model cannot learn them."""
    state = folded(make_log(make_claim(), make_block(make_examples(5), contract_id="older")))

    assert (5, 5) == (state.counts.examples, state.counts.foreign)
    assert (5, 0) == (state.champion.foreign, state.champion.learned)
    assert 0 == state.quality.metrics["accuracy"].samples
    assert position_of(2) == state.position


def test_a_change_of_the_loss_is_returned_with_its_position() -> None:
    right = make_examples(500, 1, ys=[1.0] * 500, probabilities=[0.9] * 500)
    wrong = make_examples(500, 2, ys=[0.0] * 500, probabilities=[0.9] * 500)
    fold = make_fold()

    found = fold.fold(begun(fold), make_log(make_claim(), make_block(right), make_block(wrong, number=2)))

    assert [DriftSignal] == [type(signal) for signal in found]
    assert found[0].is_worse
    assert position_of(2) < found[0].position < position_of(2, 100)


def test_the_last_skipped_positions_are_named() -> None:
    skips = [make_skip(position_of(1, row), number=1 + row) for row in range(20)]

    state = folded(make_log(make_learner_claim(), *skips))

    assert [position_of(1, row) for row in range(4, 20)] == state.skipped_positions


def test_a_body_of_another_lineage_than_its_part_says_is_refused() -> None:
    fold, other = make_fold(), make_branch(start=5)
    parts = fold.parts(begun(fold))
    parts[part_name(BRANCH.lineage)] = fold.body_of(fold.begin_branch(other))

    with pytest.raises(SnapshotRefused, match=f"is of lineage {other.lineage}, expected was {BRANCH.lineage}"):
        fold.restore(parts)


def test_a_champion_can_be_restored_alone() -> None:
    fold = make_fold()
    state = folded(make_log(make_claim(), make_block(make_examples(5))), fold)

    champion = fold.restore_champion(fold.publication(state))

    assert 5 == champion.learned


def test_what_is_no_state_is_refused() -> None:
    fold = make_fold()
    parts = fold.parts(begun(fold))
    name = part_name(BRANCH.lineage)
    empty = StateCodec([make_model()]).encode({})

    for damaged, said in (
        ({BRANCHES: parts[BRANCHES]}, "lacks or garbles part loop"),
        ({LOOP: parts[LOOP]}, "lacks or garbles part branches"),
        ({LOOP: parts[LOOP], BRANCHES: parts[BRANCHES]}, f"lacks or garbles part {name}"),
        (parts | {LOOP: fold.body_of(fold.begin_branch(BRANCH))}, "not"),
        (parts | {LOOP: StateCodec(skeletons()).encode({})}, "the loop lacks or garbles KeyError"),
        (parts | {name: empty}, f"the {name} lacks or garbles KeyError"),
        (parts | {BRANCHES: b"[1]"}, "the branches lacks or garbles TypeError"),
        (parts | {BRANCHES: b"{"}, "the branches lacks or garbles"),
        (parts | {BRANCHES: parts[BRANCHES].replace(BRANCH.lineage[:9].encode(), b"012345678")}, "a definition"),
    ):
        with pytest.raises(CodecError, match=said):
            fold.restore(damaged)


def fold_of_words(most: int = 2) -> Fold:
    """Return a fold whose model is one-hot on an open category."""

    def build() -> Any:
        words = compose.SelectType(str) | preprocessing.OneHotEncoder()
        return words + compose.SelectType(float) | linear_model.LogisticRegression()

    specs = (FeatureSpec("amount", "number"), FeatureSpec("country", "category", most=most))
    return make_fold(build, contract=FeatureContract(specs))


def block_of_words(fold: Fold, words: str, number: int = 1) -> TrainingBlock:
    rows: list[Features] = [{"amount": row / 3, "country": word} for row, word in enumerate(words)]
    examples = replace(make_examples(len(rows), seed=number), x=fold.contract.columns(rows))
    return make_block(examples, number=number, contract_id=fold.contract.id)


def test_a_model_learns_the_first_values_of_an_open_category_and_other_for_the_rest() -> None:
    fold = fold_of_words()
    state = begun(fold)

    fold.fold(state, make_log(make_claim(), block_of_words(fold, "abacda")))

    champion = state.branches[BRANCH.lineage]
    assert ("a", "b") == champion.categories.known("country")
    assert {"country_a", "country_b", "country_other"} <= set(champion.model["LogisticRegression"].weights)
    assert "country_c" not in champion.model["LogisticRegression"].weights


def test_known_values_are_of_the_state_however_it_was_sliced_and_restored() -> None:
    fold = fold_of_words()
    log = make_log(make_claim(), block_of_words(fold, "abacda"), block_of_words(fold, "cabd", 2))
    straight, restored = begun(fold), begun(fold)

    fold.fold(straight, log)
    fold.fold(restored, log[:2])
    restored = fold.restore(fold.parts(restored))
    block = fold.open(restored, *log[2])
    assert block is not None
    for row in range(len(block.examples)):
        fold.learn(restored, block, log[2].offset, row, row + 1)
    fold.close(restored, log[2].offset)

    assert fold.digest(straight) == fold.digest(restored)


def test_a_skipped_example_teaches_no_category() -> None:
    fold = fold_of_words()
    state = begun(fold)

    fold.fold(state, make_log(make_claim(), block_of_words(fold, "abc")), skipping(position_of(1)))

    assert ("b", "c") == state.branches[BRANCH.lineage].categories.known("country")
