"""Expressions: what is accepted, how it is written canonically, where it is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import compose, linear_model, tree
from tests.domain.models.parts import Mine, Sampler

from tailrace.domain.errors import ExpressionError
from tailrace.domain.models import expression
from tailrace.domain.models.expression import load, parse


def no_functions(name: str) -> Any:
    """Import nothing."""
    raise ImportError(f"no module for {name}")


def refused(text: str) -> ExpressionError:
    """Return the refusal of a text."""
    with pytest.raises(ExpressionError) as caught:
        load(text, no_functions)
    return caught.value


def test_the_expression_of_the_readme_becomes_a_pipeline() -> None:
    text = "(SelectType(str) | OneHotEncoder()) + (SelectType(float) | StandardScaler()) | LogisticRegression()"

    model = load(text, no_functions).build()

    assert isinstance(model, compose.Pipeline)
    assert ["TransformerUnion", "LogisticRegression"] == list(model.steps)


def test_lists_tuples_and_dicts_reach_the_constructor() -> None:
    model = parse(
        "Pipeline(('names', Renamer({'a': 'b'})), ('vote', VotingClassifier([GaussianNB(), BernoulliNB()])))"
    ).build()

    assert {"a": "b"} == model["names"].mapping
    assert 2 == len(model["vote"].models)


def test_every_build_is_a_fresh_model() -> None:
    recipe = parse("LogisticRegression()")

    assert recipe.build() is not recipe.build()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("LogisticRegression()", " river.linear_model . LogisticRegression( )"),
        ("LogisticRegression(SGD(.1))", "LogisticRegression(optimizer=optim.SGD(lr=0.1))"),
        ("LogisticRegression(l2=1e-3, optimizer=SGD())", "LogisticRegression(optimizer=SGD(), l2=0.001)"),
        ("StandardScaler() | LogisticRegression()", "((StandardScaler())\n\t| LogisticRegression())"),
        ("HoeffdingTreeClassifier()", "HoeffdingTreeClassifier(max_depth=20)"),
        ("HoeffdingTreeClassifier()", "HoeffdingTreeClassifier(max_depth=None)"),
    ],
)
def test_two_spellings_of_one_model_have_one_text(one: str, other: str) -> None:
    assert parse(one).text == parse(other).text


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("Binarizer(-0.5)", "preprocessing.Binarizer(threshold=-0.5)"),
        ("Binarizer(+1)", "preprocessing.Binarizer(threshold=1)"),
        ("SelectType(str, float)", "compose.SelectType(str, float)"),
        ("Discard('a', 'b')", "compose.Discard('a', 'b')"),
        ("Renamer({'a': 'b'})", "compose.Renamer(mapping={'a': 'b'})"),
        ("Pipeline(('s', StandardScaler()),)", "compose.Pipeline(('s', preprocessing.StandardScaler()))"),
        (
            "VotingClassifier(models=[GaussianNB(), BernoulliNB()])",
            "ensemble.VotingClassifier(models=[naive_bayes.GaussianNB(), naive_bayes.BernoulliNB()])",
        ),
        (
            "StandardScaler() | (MinMaxScaler() | GaussianNB())",
            "preprocessing.StandardScaler() | (preprocessing.MinMaxScaler() | naive_bayes.GaussianNB())",
        ),
        ("GaussianNB() | GaussianNB() | GaussianNB()", " | ".join(["naive_bayes.GaussianNB()"] * 3)),
        ("Prefixer(prefix=('a',))", "compose.Prefixer(prefix=('a',))"),
        (
            "HoeffdingAdaptiveTreeClassifier(seed=1)",
            "tree.HoeffdingAdaptiveTreeClassifier(max_depth=20, memory_estimate_period=1000000000000000000, seed=1)",
        ),
    ],
)
def test_the_canonical_text_names_modules_and_arguments(text: str, canonical: str) -> None:
    assert canonical == parse(text).text
    assert canonical == parse(canonical).text


def test_open_ended_arguments_come_last_in_their_own_order() -> None:
    text = "TransformerUnion(('b', StandardScaler()), ('a', MinMaxScaler()))"

    assert parse(text).text == parse(parse(text).text).text


@pytest.mark.parametrize(
    ("text", "column", "says"),
    [
        ("", 0, "not an expression"),
        ("StandardScaler() | | GaussianNB()", 19, "not an expression"),
        ("  ((", 3, "never closed"),
        ("-" * 9000 + "1", 0, "can be read"),
        ("GaussianNB()\0", 0, "not an expression"),
        ("1", 0, "found 1, which is no model"),
        ("  'text'", 2, "which is no model"),
        ("LogisticRegression", 0, "write LogisticRegression()"),
        ("StandardScaler() | linear_model.LogisticRegression", 19, "is a class"),
        ("LogisticRegresion()", 0, "did you mean LogisticRegression?"),
        ("tree.HoefdingTreeClassifier()", 0, "did you mean tree.HoeffdingTreeClassifier?"),
        ("Zzzzzzzzzz()", 0, "no class of River that may be used; allowed"),
        ("StandardScaler() | nothing", 19, "the name nothing means nothing"),
        ("LogisticRegression(optim.Adm)", 19, "did you mean optim.Adam?"),
        ("Constant(1)", 0, "optim.initializers.Constant or optim.schedulers.Constant"),
        ("LogisticRegression(loss=float)", 24, "float may stand inside SelectType only"),
        ("SelectType(list) | GaussianNB()", 11, "not list"),
        ("SelectType('str') | GaussianNB()", 11, "not 'str'"),
        ("SelectType() | GaussianNB()", 0, "at least one"),
        ("SelectType(types=str) | GaussianNB()", 0, "at least one"),
        ("__import__('os').system('ls')", 0, "a call of something that is no name"),
        ("(lambda: 1)()", 1, "a call of something that is no name"),
        ("GaussianNB().__class__", 0, "found GaussianNB"),
        ("[GaussianNB() for x in 'ab']", 0, "found"),
        ("GaussianNB() if 1 else 2", 0, "found"),
        ("GaussianNB() & GaussianNB()", 0, "found"),
        ("GaussianNB() | 3", 15, "joins models and transformers only"),
        ("1 + GaussianNB()", 0, "joins models and transformers only"),
        ("LogisticRegression(l2=1 + 1)", 22, "joins models and transformers only"),
        ("LogisticRegression(l2=f'{1}')", 22, "found f'{1}'"),
        ("LogisticRegression(l2=1j)", 22, "found 1j"),
        ("LogisticRegression(l2=b'a')", 22, "found b'a'"),
        ("LogisticRegression(l2=-True)", 22, "found -True"),
        ("LogisticRegression(l2=-'a')", 22, "found -'a'"),
        ("LogisticRegression(l2=not 1)", 22, "found not 1"),
        ("LogisticRegression(l2=...)", 22, "found ..."),
        ("Pipeline(*[GaussianNB()])", 9, "'*' in the arguments"),
        ("LogisticRegression(**{'l2': 1})", 0, "'**' in the arguments"),
        ("Renamer({**{}})", 11, "'**' inside a dict"),
        ("Renamer({GaussianNB(): 1})", 9, "found GaussianNB"),
        ("LogisticRegression(lr=1)", 0, "no argument lr; it takes optimizer"),
        ("LogisticRegression(optimiser=SGD())", 0, "did you mean optimizer?"),
        ("Normalizer(2, 3)", 0, "at most 1 arguments by position and got 2"),
        ("Normalizer(2, order=3)", 0, "argument order twice"),
        ("Normalizer(order=2, order=3)", 0, "argument order twice"),
        ("LogisticRegression(l2=-1e999)", 22, "not finite"),
        (f"LogisticRegression(l2=0x{'f' * 5_000})", 22, "not finite"),
        ("StandardScaler() | HoeffdingAdaptiveTreeClassifier()", 19, "write HoeffdingAdaptiveTreeClassifier(seed=1)"),
        ("FeatureHasher(seed=None) | GaussianNB()", 0, "takes a seed"),
        ("Select('a') | GaussianNB()", 0, "use SelectType"),
        ("sketch.Counter(seed=1)", 0, "hash()"),
        ("AMRules()", 0, "addresses in memory"),
        ("HoeffdingTreeClassifier(memory_estimate_period=9)", 0, "switched off"),
        ("HoeffdingTreeClassifier(max_size=9)", 0, "switched off"),
        ("HoeffdingTreeClassifier(max_depth=51)", 0, "from 1 to 50"),
        ("HoeffdingTreeClassifier(max_depth=0)", 0, "from 1 to 50"),
        ("HoeffdingTreeClassifier(max_depth=2.5)", 0, "from 1 to 50"),
        ("HoeffdingTreeClassifier(max_depth=[2])", 0, "from 1 to 50"),
        ("StandardScaler() | LogisticRegression(l1=1, l2=1)", 19, "refuses its arguments: NotImplementedError"),
        ("Agg()", 0, "refuses its arguments: TypeError"),
        ("HoeffdingTreeClassifier(leaf_prediction='best')", 0, "would use 'nba' instead"),
        ("Pipeline()", 0, "without steps"),
        ("Renamer({'a': GaussianNB(1)})", 14, "at most 0 arguments by position and got 1"),
        ("Pipeline(LogisticRegression(l1=1, l2=1))", 9, "refuses its arguments: NotImplementedError"),
        ("SGD() + SGD()", 0, "River cannot join SGD + SGD"),
        ("'ü', GaussianNB() | 3", 20, "joins models"),
        ("BaggingClassifier(Unknown(), seed=1)", 18, "no class of River"),
    ],
)
def test_anything_else_is_refused_with_its_position(text: str, column: int, says: str) -> None:
    error = refused(text)

    assert says in str(error)
    assert column == error.column


def test_a_long_refused_part_is_shown_shortened() -> None:
    error = refused("[" + "x for x in " + "'" + "a" * 100 + "']")

    assert "…" in str(error)
    assert "a" * 60 not in str(error)


def test_a_text_that_is_too_long_is_refused() -> None:
    assert expression.MAX_LENGTH == refused("GaussianNB()" + " " * expression.MAX_LENGTH).column


def test_a_text_that_is_too_deep_is_refused() -> None:
    error = refused(" | ".join(["StandardScaler()"] * 50))

    assert "too large" in str(error)


def test_a_text_with_too_many_parts_is_refused() -> None:
    error = refused("VotingClassifier([" + "1," * expression.MAX_NODES + "])")

    assert "at most 2000 parts" in str(error)


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("()[]{}|+-.,:='\" \n01aS_StandardScaler*"), max_size=40))
def test_any_text_is_a_model_or_is_refused_inside_it(text: str) -> None:
    try:
        parse(text)
    except ExpressionError as error:
        assert 0 <= error.column <= len(text)


def test_a_refusal_inside_a_refused_part_keeps_its_own_position() -> None:
    error = refused("BaggingClassifier(LogisticRegression(l1=1, l2=1), seed=1)")

    assert 18 == error.column


def test_a_function_builds_the_model_and_keeps_its_name() -> None:
    recipe = load(" my_models:build ", lambda name: {"my_models:build": Mine}[name])

    assert "my_models:build" == recipe.text
    assert isinstance(recipe.build(), Mine)


def test_a_function_that_cannot_be_imported_is_refused() -> None:
    assert "ImportError: no module for my_models:build" in str(refused("my_models:build"))


def test_a_tree_from_a_function_has_its_growth_bounded() -> None:
    unbounded = load("a:b", lambda _: lambda: compose.Pipeline(tree.HoeffdingTreeClassifier())).build()
    bounded = load("a:b", lambda _: lambda: tree.HoeffdingTreeClassifier(max_depth=7)).build()

    grown = unbounded["HoeffdingTreeClassifier"]
    assert (20, 10**18) == (grown.max_depth, grown.memory_estimate_period)
    assert (7, 10**18) == (bounded.max_depth, bounded.memory_estimate_period)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (lambda: compose.Select("a") | linear_model.LogisticRegression(), "use SelectType"),
        (lambda: tree.HoeffdingAdaptiveTreeClassifier(), "takes a seed and has none"),
        (lambda: {"inside": [Sampler()]}, "Sampler takes a seed"),
    ],
)
def test_a_model_from_a_function_keeps_the_rules_too(model: Any, says: str) -> None:
    with pytest.raises(ExpressionError, match=says):
        load("a:b", lambda _: model)


def test_a_model_that_would_learn_while_it_predicts_is_refused() -> None:
    with compose.learn_during_predict(), pytest.raises(ExpressionError, match="learn_during_predict is on"):
        load("GaussianNB()", no_functions)
