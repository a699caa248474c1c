"""A model that keeps every text it learns is known before a contract lets strangers' text into it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from river import base, compose, linear_model, multiclass, naive_bayes, preprocessing, tree

from tailrace.domain.models.catalog import family_of
from tailrace.domain.models.codec import StateCodec
from tailrace.domain.models.vocabulary import grows_with_texts


class Raising(base.Classifier):
    """Raises at every row."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def learn_one(self, _x: Any, _y: Any) -> None:
        raise self.error


class Unencodable(base.Classifier):
    """Holds what has no place in a state."""

    def learn_one(self, _x: Any, _y: Any) -> None:
        self.held = lambda: None


def behind(words: Any) -> Any:
    return (compose.SelectType(str) | words) + compose.SelectType(float) | linear_model.LogisticRegression()


def grows(build: Callable[[], Any]) -> bool:
    codec = StateCodec([build()], family_of(build(), experimental=True))
    return grows_with_texts(build, codec, {"amount": 1.0, "note": "a"}, ["note"], [True, False])


GROWING: dict[str, Callable[[], Any]] = {
    "one-hot": lambda: behind(preprocessing.OneHotEncoder()),
    "ordinal": lambda: behind(preprocessing.OrdinalEncoder()),
    "tree": tree.HoeffdingTreeClassifier,
    "one-hot inside of one-vs-rest": lambda: multiclass.OneVsRestClassifier(behind(preprocessing.OneHotEncoder())),
}
BOUNDED: dict[str, Callable[[], Any]] = {
    "text is left out": lambda: compose.SelectType(float) | naive_bayes.GaussianNB(),
    "hashed": lambda: behind(preprocessing.FeatureHasher(seed=1)),
    "hashed inside of one-vs-rest": lambda: multiclass.OneVsRestClassifier(behind(preprocessing.FeatureHasher(seed=1))),
    "text raises": lambda: preprocessing.StandardScaler() | linear_model.LogisticRegression(),
    "a panic": lambda: Raising(BaseException("panic")),
    "no state": Unencodable,
}


@pytest.mark.parametrize("build", GROWING.values(), ids=GROWING)
def test_a_model_that_keeps_every_text_is_known(build: Callable[[], Any]) -> None:
    """Without the question 100,000 texts are 100,000 weights, in memory and in every snapshot."""
    assert grows(build)


@pytest.mark.parametrize("build", BOUNDED.values(), ids=BOUNDED)
def test_a_model_that_keeps_none_or_hashes_them_may_have_text(build: Callable[[], Any]) -> None:
    assert not grows(build)


def test_a_stop_is_no_answer_of_the_model() -> None:
    with pytest.raises(KeyboardInterrupt):
        grows(lambda: Raising(KeyboardInterrupt()))
