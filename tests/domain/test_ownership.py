"""Which records of the log count, decided by the log alone."""

from __future__ import annotations

from tailrace.domain.ownership import OwnershipState
from tailrace.domain.records import LEARNER, Claim


def test_the_first_claim_of_a_partition_counts_and_names_the_log() -> None:
    state = OwnershipState()

    counted = state.claim(Claim(0, "one", after=None, log_id="log"))

    assert counted
    assert (state.owners, state.numbers, state.log_id) == ({0: "one"}, {0: 0}, "log")


def test_a_claim_that_names_the_present_owner_takes_over() -> None:
    state = _owned_by("one")

    assert state.claim(Claim(0, "two", after="one", log_id="log"))
    assert state.owners == {0: "two"}


def test_a_claim_that_names_a_former_owner_does_not_count() -> None:
    state = _owned_by("one")
    state.claim(Claim(0, "two", after="one", log_id="log"))

    assert not state.claim(Claim(0, "three", after="one", log_id="log"))
    assert state.owners == {0: "two"}


def test_a_claim_that_names_nobody_does_not_count_once_there_is_an_owner() -> None:
    state = _owned_by("one")

    assert not state.claim(Claim(0, "two", after=None, log_id="log"))


def test_a_claim_of_another_log_does_not_count() -> None:
    state = _owned_by("one")

    assert not state.claim(Claim(0, "two", after="one", log_id="other"))
    assert state.log_id == "log"


def test_a_block_before_any_claim_does_not_count() -> None:
    state = OwnershipState()

    assert not state.accept(0, "one", 1)


def test_blocks_of_the_owner_count_in_the_order_of_their_numbers() -> None:
    state = _owned_by("one")

    accepted = [state.accept(0, "one", number) for number in (1, 2, 3)]

    assert accepted == [True, True, True]


def test_a_block_that_is_sent_twice_counts_once() -> None:
    state = _owned_by("one")
    state.accept(0, "one", 1)

    assert not state.accept(0, "one", 1)
    assert state.accept(0, "one", 2)


def test_a_block_after_a_gap_does_not_count() -> None:
    state = _owned_by("one")

    assert not state.accept(0, "one", 2)
    assert state.accept(0, "one", 1)


def test_a_block_of_a_former_owner_does_not_count() -> None:
    state = _owned_by("one")
    state.accept(0, "one", 1)
    state.claim(Claim(0, "two", after="one", log_id="log"))

    assert not state.accept(0, "one", 2)


def test_numbers_begin_again_under_each_claim() -> None:
    state = _owned_by("one")
    state.accept(0, "one", 1)
    state.claim(Claim(0, "two", after="one", log_id="log"))

    assert state.accept(0, "two", 1)


def test_partitions_and_the_learner_have_owners_of_their_own() -> None:
    state = _owned_by("one")
    state.claim(Claim(1, "two", after=None, log_id="log"))
    state.claim(Claim(LEARNER, "three", after=None, log_id="log"))

    assert state.accept(0, "one", 1)
    assert state.accept(1, "two", 1)
    assert state.accept(LEARNER, "three", 1)
    assert not state.accept(1, "one", 2)


def _owned_by(owner: str) -> OwnershipState:
    state = OwnershipState()
    state.claim(Claim(0, owner, after=None, log_id="log"))
    return state
