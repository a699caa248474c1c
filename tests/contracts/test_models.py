"""Every model on the support list keeps every promise of a fold."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.contracts.model_zoo import CONFIGURATIONS, examples, predict, spec_of

from tailrace.domain.errors import CodecError, ExpressionError
from tailrace.domain.models.allowed import CLASSES, MODULES
from tailrace.domain.models.digest import digest_of
from tailrace.domain.models.expression import parse
from tailrace.domain.models.families import FAMILIES
from tailrace.domain.models.rules import BANNED, parts_of, takes_seed
from tailrace.domain.models.teaching import teacher_of

REPOSITORY = Path(__file__).parents[2]
MUTATED = (
    "logistic, scaled and one-hot",
    "softmax",
    "Gaussian Bayes",
    "Hoeffding tree",
    "Hoeffding regression tree, quantised",
    "adaptive tree",
    "half-space trees, one-hot",
    "one-class",
)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_restores_at_random_points_change_neither_predictions_nor_the_digest(name: str) -> None:
    spec = spec_of(name)
    codec = spec.codec()
    straight, restored = spec.build(), spec.build()
    restores = random.Random(name)

    for x, y in examples(spec.task, 500):
        if restores.random() < 0.02:
            restored = codec.decode(codec.encode(restored))
        assert repr(predict(straight, spec.task, x)) == repr(predict(restored, spec.task, x))
        teacher_of(straight)(x, y)
        teacher_of(restored)(x, y)

    assert codec.encode(straight) == codec.encode(restored)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_scoring_leaves_the_state_as_it_is(name: str) -> None:
    spec = spec_of(name)
    codec = spec.codec()
    served, silent = spec.build(), spec.build()

    for number, (x, y) in enumerate(examples(spec.task, 250)):
        predict(served, spec.task, x)
        predict(served, spec.task, {**x, "f9": 1.5, "city": "elsewhere"})
        if number % 10 < 2:
            assert codec.encode(served) == codec.encode(silent)
        teacher_of(served)(x, y)
        teacher_of(silent)(x, y)


def test_every_hash_seed_gives_the_same_digests() -> None:
    first, second = (_digests_in_a_process(seed) for seed in ("1", "2"))

    assert first == second
    assert set(CONFIGURATIONS) == set(first)


def _digests_in_a_process(hash_seed: str) -> dict[str, str]:
    paths = os.pathsep.join([str(REPOSITORY / "app"), str(REPOSITORY)])
    done = subprocess.run(
        [sys.executable, "-m", "tests.contracts.model_zoo"],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", MUTATED)
def test_damaged_bytes_are_refused_or_are_a_state_of_exactly_those_bytes(name: str) -> None:
    spec = spec_of(name)
    codec = spec.codec()
    model = spec.build()
    for x, y in examples(spec.task, 60):
        teacher_of(model)(x, y)
    body = codec.encode(model)
    damage = random.Random(name)

    for _ in range(500):
        mutant = _damaged(body, damage)
        try:
            state = codec.decode(mutant)
        except CodecError:
            continue
        assert mutant == codec.encode(state)


def _damaged(body: bytes, damage: random.Random) -> bytes:
    at = damage.randrange(len(body))
    kind = damage.randrange(4)
    if kind == 0:
        return body[:at]
    if kind == 1:
        return body[:at] + bytes([body[at] ^ 1 << damage.randrange(8)]) + body[at + 1 :]
    if kind == 2:
        return body[:at] + damage.randbytes(damage.randrange(1, 9)) + body[at:]
    other = damage.randrange(len(body))
    return body[:at] + body[other : other + damage.randrange(1, 40)] + body[at + 1 :]


def test_a_state_is_refused_by_the_codec_of_another_model() -> None:
    logistic, bayes = spec_of("logistic, min-max"), spec_of("Gaussian Bayes")
    body = logistic.codec().encode(logistic.build())

    with pytest.raises(CodecError, match="another model"):
        bayes.codec().decode(body)


def test_a_state_has_one_digest_whichever_codec_of_its_spec_writes_it() -> None:
    for name in CONFIGURATIONS:
        spec = spec_of(name)
        one, two = spec.codec(), spec.codec()
        model = spec.build()
        for x, y in examples(spec.task, 80):
            teacher_of(model)(x, y)

        body = one.encode(model)

        assert digest_of(body) == digest_of(two.encode(two.decode(body)))


def test_every_supported_model_has_a_configuration_here() -> None:
    shown = {type(part) for name in CONFIGURATIONS for part in parts_of(spec_of(name).build())}

    heads = {head for family in FAMILIES for head in family.heads}

    assert set() == heads - shown


def test_a_model_and_plain_values_beside_it_share_one_codec() -> None:
    spec = spec_of("Hoeffding tree")
    beside: dict[str, Any] = {"learned": 0, "owners": {}}
    codec = spec.codec([beside])
    state = {"model": spec.build(), "loop": {"learned": 3, "owners": {"0": ["a", 1]}}}

    restored = codec.decode(codec.encode(state))

    assert {"learned": 3, "owners": {"0": ["a", 1]}} == restored["loop"]


ALLOWED = {f"{module}.{name}": getattr(MODULES[module], name) for module, names in CLASSES.items() for name in names}
SHORTEST = {"compose.SelectType": "SelectType(float)", "compose.Pipeline": "Pipeline(StandardScaler())"}


def test_every_allowed_class_that_can_be_built_with_defaults_can_be_written() -> None:
    written = 0
    for name, kind in ALLOWED.items():
        text = SHORTEST.get(name, f"{name}(seed=1)" if takes_seed(kind) else f"{name}()")
        try:
            kind(**({"seed": 1} if takes_seed(kind) else {}))
        except Exception:  # It needs arguments, or another version of Python.
            continue
        if kind not in BANNED:
            recipe = parse(text)
            assert recipe.text == parse(recipe.text).text
            written += 1

    assert written > 180


@pytest.mark.parametrize("kind", BANNED, ids=lambda kind: kind.__name__)
def test_every_banned_class_is_refused_with_what_to_use_instead(kind: type) -> None:
    name = next(name for name, each in ALLOWED.items() if each is kind)

    with pytest.raises(ExpressionError, match="cannot be part of a model: .*; use "):
        parse(f"{name}(seed=1)")
