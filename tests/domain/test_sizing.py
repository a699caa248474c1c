"""The formula: rate times cost is cores, and no process is planned for more than half of one."""

import pytest

from tailrace.domain.errors import ContractError
from tailrace.domain.sizing import BUSY, JOIN, LEARN, SCORE, ModelCost, Work, size

FREE = ModelCost(predict_us=0.0, learn_us=0.0)


def test_the_cost_of_a_role_grows_with_the_features():
    assert 14.0 == Work(fixed_us=4.0, feature_us=0.5).of(20)


def test_cores_are_rate_times_cost_of_role_and_model():
    score, join, learn = size(10_000, 20, ModelCost(predict_us=4.0, learn_us=10.0)).roles

    assert 10_000 * (SCORE.of(20) + 4.0) / 1e6 == pytest.approx(score.cores)
    assert 10_000 * JOIN.of(20) / 1e6 == pytest.approx(join.cores)
    assert 10_000 * (LEARN.of(20) + 10.0) / 1e6 == pytest.approx(learn.cores)


def test_no_process_is_planned_for_more_than_its_share_of_a_core():
    fleet = size(100_000, 20, FREE)

    for role in fleet.roles[:2]:
        assert role.cores / role.processes <= BUSY < role.cores / (role.processes - 1)


def test_a_small_rate_needs_one_process_and_one_partition():
    fleet = size(1_000, 20, FREE)

    assert (True, 1) == (fleet.is_one_process, fleet.partitions)
    assert sum(role.cores for role in fleet.roles) == pytest.approx(fleet.cores)


def test_no_process_is_without_a_partition():
    fleet = size(200_000, 20, FREE)

    assert max(role.processes for role in fleet.roles) == fleet.partitions > 1
    assert not fleet.is_one_process


def test_there_is_one_learner_and_a_model_that_it_cannot_keep_up_with_is_said():
    fleet = size(5_000, 20, ModelCost(predict_us=0.0, learn_us=900.0))

    assert 1 == fleet.roles[2].processes
    assert not fleet.keeps_up
    assert 1e6 / (LEARN.of(20) + 900.0) == pytest.approx(fleet.most_learned)


def test_events_without_labels_are_not_learned():
    fleet = size(5_000, 20, ModelCost(predict_us=0.0, learn_us=900.0), labelled=0.1)

    assert fleet.keeps_up


@pytest.mark.parametrize(("rate", "features", "labelled"), [(0, 20, 1.0), (1, 0, 1.0), (1, 20, 1.1), (1, 20, -0.1)])
def test_numbers_out_of_range_are_refused(rate: float, features: int, labelled: float):
    with pytest.raises(ContractError, match="allowed are a rate above 0"):
        size(rate, features, FREE, labelled)
