"""The branches of a simulated loop: their models, the versions of processes, and folds that can or cannot fold them."""

from __future__ import annotations

from random import Random
from typing import Any, Final

from river import compose, linear_model, preprocessing
from tests.simulation.rules import Rules
from tests.simulation.world import CONTRACT, TARGET

from tailrace.domain.branches import Branch, Filter, Kit
from tailrace.domain.learning import Fold
from tailrace.domain.models.catalog import family_of
from tailrace.domain.models.codec import StateCodec
from tailrace.domain.records import Features
from tailrace.domain.state import skeletons

VERSIONS: Final = ("1", "2")
MODELS: Final = ("plain", "slow", "fragile")
BREAKS_FROM: Final = 6.0
"""The fragile model raises where feature a is greater than this, about twice in a hundred examples."""


class Fragile(compose.Pipeline):
    """A model that raises at some examples when it has learned half of them."""

    def learn_one(self, x: Features, y: Any) -> None:  # type: ignore[override]
        """Let the scaler learn, then raise or go on."""
        scaler, model = self.steps.values()
        scaler.learn_one(x)
        if breaks(x):
            raise ArithmeticError("feature a is too large")
        model.learn_one(scaler.transform_one(x), y)


def breaks(x: Features) -> bool:
    """Whether the fragile model raises at these features."""
    a = x["a"]
    return isinstance(a, float) and a > BREAKS_FROM


def build(model: str, rules: Rules) -> Any:
    """Return a model that has learned nothing."""
    if model == "fragile":
        return Fragile(preprocessing.StandardScaler(), linear_model.LogisticRegression())
    if model == "slow":
        return linear_model.Perceptron()
    return rules.build_model()


def branch_of(model: str, version: str, left_out: Filter | None = None, start: int = 0) -> Branch:
    """Return the definition of a branch."""
    return Branch("binary", model, False, CONTRACT.id, {"fold": version}, start, left_out or Filter())


def lineage_of(version: str) -> str:
    """Return the lineage of the loop's own fold in processes of a version."""
    return f"fold {version}"


class SimFold(Fold):
    """A fold that remembers the branches that it was asked about, by lineage."""

    branches: dict[str, Branch]


def fold_of(rules: Rules, rng: Random, version: str | None) -> SimFold:
    """Return the fold of a process of a version; None: one that can fold the branches of all of them."""

    asked: dict[str, Branch] = {}

    def kit_of(branch: Branch) -> Kit | None:
        asked[branch.lineage] = branch
        is_ours = version is None or branch.versions == {"fold": version}
        if not is_ours or branch.model not in MODELS or branch.contract_id != CONTRACT.id:
            return None
        return Kit(branch, lambda: build(branch.model, rules), codec_of(branch.model, rules))

    fold = SimFold(
        contract=CONTRACT,
        target=TARGET,
        lineage=lineage_of(version or "all"),
        codec=_loop_codec(),
        kit_of=kit_of,
    )
    fold.branches = asked
    fold.contract = rules.contract(CONTRACT, rng)
    return fold


_CODECS: dict[tuple[str, str | None], StateCodec] = {}


def codec_of(model: str, rules: Rules) -> StateCodec:
    """Return the codec of a model; the table in it is made once."""

    def make() -> StateCodec:
        skeleton = build(model, rules)
        return StateCodec([skeleton], family_of(skeleton))

    return _made(model, rules.plant, make)


def _loop_codec() -> StateCodec:
    return _made("", None, lambda: StateCodec(skeletons()))


def _made(name: str, plant: str | None, make: Any) -> StateCodec:
    codec = _CODECS.get((name, plant))
    if codec is None:
        codec = _CODECS[name, plant] = make()
    return codec
