"""What one event costs a model on this machine: one answer, and one example learned, on made-up examples."""

from __future__ import annotations

from time import process_time
from typing import Final

from tailrace.domain.contract import FeatureContract, FeatureSpec, TargetContract
from tailrace.domain.errors import ContractError, is_stop
from tailrace.domain.models.spec import ModelSpec
from tailrace.domain.models.teaching import teacher_of
from tailrace.domain.scoring import score
from tailrace.domain.sizing import ModelCost
from tailrace.inspection.encode_cost import made_up

EXAMPLES: Final = 4_000
"""That are learned and answered, as far as the time allows."""

LIMIT_S: Final = 2.0
"""CPU, for learning and for answering each."""

_AT_ONCE: Final = 100


def numbers(count: int, target: TargetContract) -> FeatureContract:
    """Return a contract of so many numbers."""
    features = tuple(FeatureSpec(f"feature{index:05}", "number") for index in range(count))
    return FeatureContract(features, target.canonical)


def model_speed(spec: ModelSpec, contract: FeatureContract, target: TargetContract) -> ModelCost:
    """Teach a fresh model made-up examples, then ask it about the same; both by CPU time.

    Raises:
        ContractError: The model raised.
    """
    made = list(made_up(contract, target, EXAMPLES))
    model = spec.build()
    teach = teacher_of(model)
    learned, begun_s = 0, process_time()
    try:
        for x, y in made:
            teach(x, y)
            learned += 1
            if process_time() - begun_s > LIMIT_S:
                break
    except BaseException as error:  # what native code of a model raises is no Exception
        if is_stop(error):
            raise
        raise ContractError(
            f"the model raised {type(error).__name__} at made-up example {learned + 1}; it must be able to learn "
            f"{len(contract.features)} numbers"
        ) from error
    learn_us = (process_time() - begun_s) / learned * 1e6
    answered, begun_s = 0, process_time()
    while answered < EXAMPLES and process_time() - begun_s <= LIMIT_S:
        rows = [x for x, _ in made[answered : answered + _AT_ONCE]]
        score(model, rows, target)
        answered += len(rows)
    return ModelCost((process_time() - begun_s) / answered * 1e6, learn_us)
