"""What contracts accept, reject and make of features and targets."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.domain.blocks import XColumns
from tailrace.domain.contract import ABSENT, FeatureContract, FeatureSpec, TargetContract
from tailrace.domain.errors import ContractError
from tailrace.domain.features import json_type
from tailrace.domain.records import Code, Rejection, Task

COUNTRY = FeatureSpec("country", "category", values=("de", "fr"))
MIXED = FeatureContract(
    (
        FeatureSpec("vip", "boolean"),
        FeatureSpec("note", "text", missing=ABSENT, max_length=5),
        FeatureSpec("age", "integer", minimum=0, maximum=150.5),
        FeatureSpec("amount", "number", minimum=0, maximum=100),
        COUNTRY,
    )
)
GOOD: dict[str, Any] = {"vip": True, "note": "hi", "age": 7, "amount": 2, "country": "de"}


def numbers(*names: str) -> FeatureContract:
    return FeatureContract(tuple(FeatureSpec(name, "number") for name in names))


def one(type_: Any, **settings: Any) -> FeatureContract:
    return FeatureContract((FeatureSpec("f", type_, **settings),))


def code_of(found: object) -> Code:
    assert isinstance(found, Rejection)
    return found.code


# --- reading one record


def test_features_come_in_sorted_order_typed_by_the_contract() -> None:
    x = MIXED.read(GOOD)

    assert [("age", 7), ("amount", 2.0), ("country", "de"), ("note", "hi"), ("vip", True)] == list(x.items())
    assert [int, float, str, str, bool] == [type(value) for value in x.values()]


def test_a_number_may_be_written_as_an_integer() -> None:
    x = numbers("a", "b").read({"a": 1, "b": 2.5})

    assert {"a": 1.0, "b": 2.5} == x
    assert float is type(x["a"])


@pytest.mark.parametrize("contract", [numbers("a", "b"), FeatureContract((*numbers("a", "b").features, COUNTRY))])
def test_minus_zero_is_read_as_zero(contract: FeatureContract) -> None:
    raw = {"a": -0.0, "b": 1.0, "country": "de"}

    x = contract.read(raw)
    many = contract.read_many([raw]).read[0]

    assert [1.0, 1.0] == [math.copysign(1, found["a"]) for found in (x, many)]


def test_fields_that_the_contract_does_not_name_are_ignored() -> None:
    assert {"a": 1.0} == numbers("a").read({"z": None, "a": 1.0})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400])
def test_a_number_that_is_not_finite_is_rejected(value: float) -> None:
    assert Code.FEATURE_NOT_FINITE is code_of(numbers("f", "g").read({"f": value, "g": 1.0}))


def test_finite_numbers_whose_sum_is_not_finite_are_accepted() -> None:
    raw = {"f": 1.7e308, "g": 1.7e308}

    assert raw == numbers("f", "g").read(raw)


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("number", "1"),
        ("number", True),
        ("number", [1]),
        ("integer", 1.0),
        ("integer", True),
        ("boolean", 1),
        ("category", 1),
        ("text", 1),
    ],
)
def test_types_are_never_mixed(type_: Any, value: object) -> None:
    contract = one(type_, values=("1",) if type_ == "category" else ())

    assert Code.FEATURE_TYPE is code_of(contract.read({"f": value}))


@pytest.mark.parametrize("value", [-0.1, 100.1])
def test_a_number_out_of_its_bounds_is_rejected(value: float) -> None:
    assert Code.FEATURE_OUT_OF_BOUNDS is code_of(MIXED.read(GOOD | {"amount": value}))


@pytest.mark.parametrize("value", [0, 100])
def test_bounds_are_inclusive(value: float) -> None:
    assert value == MIXED.read(GOOD | {"amount": value})["amount"]


@pytest.mark.parametrize("value", [-1, 151, 1 << 63, -(1 << 63) - 1])
def test_an_integer_out_of_its_bounds_is_rejected(value: int) -> None:
    assert Code.FEATURE_OUT_OF_BOUNDS is code_of(MIXED.read(GOOD | {"age": value}))


def test_an_integer_without_bounds_has_64_bits() -> None:
    contract = one("integer")

    assert {"f": (1 << 63) - 1} == contract.read({"f": (1 << 63) - 1})
    rejection = contract.read({"f": 1 << 63})
    assert "64 bits" in rejection.detail


def test_a_bound_on_one_side_is_shown_with_an_open_other_side() -> None:
    below = one("number", minimum=1).read({"f": 0})
    above = one("number", maximum=1).read({"f": 2})

    assert below.detail.endswith("1 to …")
    assert above.detail.endswith("… to 1")


def test_an_unlisted_category_is_rejected() -> None:
    assert Code.CATEGORY_UNKNOWN is code_of(MIXED.read(GOOD | {"country": "it"}))


def test_an_unlisted_category_goes_to_the_other_bucket_where_there_is_one() -> None:
    contract = one("category", values=("de",), other=True)

    assert [{"f": "other"}, {"f": "de"}] == [contract.read({"f": value}) for value in ("it", "de")]


def test_an_open_category_takes_any_text_up_to_its_length_as_it_is() -> None:
    """What a model knows of it is decided in the fold, so that a record is read by itself alone."""
    contract = one("category", most=1, max_length=3)

    assert [{"f": "de"}, {"f": "fr"}] == [contract.read({"f": value}) for value in ("de", "fr")]
    assert [("de",), ("fr",)] == contract.read_many([{"f": "de"}, {"f": "fr"}]).x.strings  # type: ignore[union-attr]
    assert Code.TEXT_TOO_LONG is code_of(contract.read({"f": "long"}))
    assert Code.FEATURE_TYPE is code_of(contract.read({"f": 1}))
    assert contract.read_many([{"f": "de"}, {"f": "long"}]).x is None


def test_a_contract_names_its_open_categories_and_how_many_values_are_known() -> None:
    specs = (
        FeatureSpec("c", "category", values=("x",)),
        FeatureSpec("b", "category", most=7),
        FeatureSpec("a", "text"),
    )

    assert {"b": 7} == FeatureContract(specs).open_categories


def test_a_text_that_is_too_long_is_rejected() -> None:
    assert {"f": "12345"} == one("text", max_length=5).read({"f": "12345"})
    assert Code.TEXT_TOO_LONG is code_of(one("text", max_length=5).read({"f": "123456"}))


@pytest.mark.parametrize("raw", [{}, {"f": None}])
def test_a_missing_or_null_feature_is_rejected_left_out_or_replaced_as_configured(raw: dict[str, object]) -> None:
    assert Code.FEATURE_MISSING is code_of(one("number").read(raw))
    assert {} == one("number", missing=ABSENT).read(raw)
    assert {"f": 3.0} == one("number", missing=3).read(raw)


def test_a_dotted_name_leads_into_nested_objects() -> None:
    contract = numbers("user.age", "user.size")

    assert {"user.age": 4.0, "user.size": 1.0} == contract.read({"user": {"age": 4.0, "size": 1.0}})
    assert Code.FEATURE_MISSING is code_of(contract.read({"user": 4.0}))
    assert Code.FEATURE_MISSING is code_of(contract.read({}))


def test_a_field_whose_own_name_has_the_dots_wins_over_the_path() -> None:
    assert {"a.b": 1.0} == numbers("a.b").read({"a.b": 1.0, "a": {"b": 2.0}})


def test_roots_are_the_top_level_fields_that_are_looked_at() -> None:
    assert {"a", "user", "user.age"} == numbers("user.age", "a").roots


# --- reading many records


RAW = st.fixed_dictionaries(
    {},
    optional={
        "vip": st.booleans() | st.integers(0, 1),
        "note": st.text(max_size=7) | st.none(),
        "age": st.integers(-2, 160) | st.floats() | st.integers(),
        "amount": st.floats(-10, 110) | st.just(-0.0) | st.integers(0, 100) | st.floats(),
        "country": st.sampled_from(["de", "fr", "it", ""]),
        "extra": st.none(),
    },
)


@given(st.lists(RAW, max_size=8))
def test_reading_many_gives_what_reading_each_gives(raws: list[dict[str, object]]) -> None:
    batch = MIXED.read_many(raws)

    each = [MIXED.read(raw) for raw in raws]
    assert repr(each) == repr(batch.read)


@given(st.lists(st.floats(0, 100), max_size=8))
def test_the_columns_of_a_batch_are_those_of_its_rows(amounts: list[float]) -> None:
    batch = MIXED.read_many([GOOD | {"amount": amount} for amount in amounts])

    assert batch.x is not None
    assert batch.read == MIXED.rows(batch.x)


@pytest.mark.parametrize(
    "bad", [{"amount": "x"}, {"amount": 1e9}, {"age": 1 << 70}, {"age": 1.5}, {"age": -1}, {"vip": 1}]
)
@pytest.mark.parametrize("also_bad", [{}, {"country": "it"}, {"note": "too long"}, {"note": 3}])
def test_a_batch_with_a_bad_record_has_no_columns(bad: dict[str, object], also_bad: dict[str, object]) -> None:
    batch = MIXED.read_many([GOOD, GOOD | bad | also_bad, GOOD])

    assert batch.x is None
    assert [False, True, False] == [isinstance(found, Rejection) for found in batch.read]


@pytest.mark.parametrize("bad", [{"country": "it"}, {"note": "too long"}, {"note": 3}, {"amount": math.nan}])
def test_each_kind_of_column_notices_what_is_wrong_in_it(bad: dict[str, object]) -> None:
    assert MIXED.read_many([GOOD, GOOD | bad]).x is None


@given(st.lists(st.tuples(*[st.floats(-1, 1) | st.sampled_from([0.0, -0.0, 1])] * 2), max_size=4))
def test_batches_of_numbers_alone_are_read_alike(pairs: list[tuple[float, float]]) -> None:
    raws = [{"b": b, "a": a} for a, b in pairs]
    contract = numbers("a", "b")

    batch = contract.read_many(raws)

    assert repr([contract.read(raw) for raw in raws]) == repr(batch.read)
    assert batch.x is not None
    assert repr(contract.rows(batch.x)) == repr(batch.read)


def test_dotted_names_are_read_in_batches_too() -> None:
    batch = numbers("user.age", "a").read_many([{"a": 1, "user": {"age": 2}}, {"a": 3, "user": {"age": 4}}])

    assert batch.x is not None
    assert [{"a": 1.0, "user.age": 2.0}, {"a": 3.0, "user.age": 4.0}] == batch.read


# --- columns and rows


SPECS = {
    "number": FeatureSpec("", "number"),
    "integer": FeatureSpec("", "integer"),
    "boolean": FeatureSpec("", "boolean"),
    "category": FeatureSpec("", "category", values=("de", "fr")),
    "text": FeatureSpec("", "text"),
}
VALUES = {
    "number": st.floats(allow_nan=False, allow_infinity=False).map(lambda value: value + 0.0),
    "integer": st.integers(-(1 << 63), (1 << 63) - 1),
    "boolean": st.booleans(),
    "category": st.sampled_from(["de", "fr"]),
    "text": st.text(max_size=5),
}


@st.composite
def contracts_and_rows(draw: st.DrawFn) -> tuple[FeatureContract, list[dict[str, Any]]]:
    types = draw(st.lists(st.sampled_from(sorted(SPECS)), min_size=1, max_size=6))
    features = tuple(
        FeatureSpec(f"{type_[0]}{index}", type_, values=SPECS[type_].values, missing=ABSENT)
        for index, type_ in enumerate(types)
    )
    contract = FeatureContract(features)
    row = st.fixed_dictionaries({}, optional={spec.name: VALUES[spec.type] for spec in features})
    full = st.fixed_dictionaries({spec.name: VALUES[spec.type] for spec in features})
    rows = draw(st.lists(row | full, max_size=6))
    return contract, [{name: row[name] for name in contract.names if name in row} for row in rows]


@given(contracts_and_rows())
def test_rows_are_the_exact_inverse_of_columns(case: tuple[FeatureContract, list[dict[str, Any]]]) -> None:
    contract, rows = case

    back = contract.rows(contract.columns(rows))

    assert repr(rows) == repr(back)


def test_columns_of_complete_rows_have_no_absent_matrix() -> None:
    x = MIXED.columns([{"age": 7, "amount": 2.0, "country": "de", "note": "hi", "vip": True}])

    assert x.absent is None
    assert [[2.0]] == x.numbers.tolist()
    assert [[7, 1]] == x.integers.tolist()
    assert [("de", "hi")] == x.strings


def test_a_row_with_a_feature_of_no_contract_is_a_mistake() -> None:
    with pytest.raises(ContractError, match="'b'"):
        numbers("a").columns([{"b": 1.0}])
    with pytest.raises(ContractError, match="'b'"):
        numbers("a").columns([{"a": 1.0, "b": 1.0}])


@pytest.mark.parametrize(
    "x",
    [
        XColumns(np.zeros((1, 2)), np.zeros((1, 0), np.int64), [()]),
        XColumns(np.zeros((1, 1)), np.zeros((1, 1), np.int64), [()]),
        XColumns(np.zeros((1, 1)), np.zeros((1, 0), np.int64), [("a",)]),
        XColumns(np.zeros((1, 1)), np.zeros((1, 0), np.int64), []),
        XColumns(np.zeros((1, 1)), np.zeros((1, 0), np.int64), [()], np.zeros((1, 2), np.bool_)),
    ],
)
def test_columns_of_another_shape_than_the_contract_are_a_mistake(x: XColumns) -> None:
    with pytest.raises(ContractError, match="do not fit"):
        numbers("a").rows(x)


# --- the contract itself


def test_equal_contracts_have_one_id_however_they_were_written() -> None:
    first = FeatureContract((FeatureSpec("b", "number", minimum=0), FeatureSpec("a", "category", values=("y", "x"))))
    second = FeatureContract((FeatureSpec("a", "category", values=("x", "y")), FeatureSpec("b", "number", minimum=0.0)))

    assert first.id == second.id
    assert "a269164f20a727f6" == FeatureContract((FeatureSpec("a", "number"),)).id


def test_any_other_rule_gives_another_id() -> None:
    ids = {
        one("number").id,
        one("integer").id,
        one("number", minimum=0).id,
        one("number", maximum=0).id,
        one("number", missing=ABSENT).id,
        one("number", missing=0).id,
        one("category", values=("a",)).id,
        one("category", values=("a",), other=True).id,
        one("text").id,
        one("text", max_length=7).id,
        one("category", most=200).id,
        one("category", most=201).id,
        one("category", most=200, max_length=7).id,
    }

    assert 13 == len(ids)


@pytest.mark.parametrize(
    "target",
    [
        TargetContract(Task.REGRESSION),
        TargetContract(Task.BINARY),
        TargetContract(Task.BINARY, positive="a", negative="b"),
        TargetContract(Task.BINARY, positive="a"),
        TargetContract(Task.MULTICLASS, classes=("a", "b", "c")),
    ],
)
@pytest.mark.parametrize(
    "values",
    [
        [],
        [1.5, -0.0],
        [1.7e308, 1.7e308],
        [math.inf, 1.0],
        [True, False],
        ["a", "b"],
        ["a", "x"],
        ["a", None],
        [1, 2.5],
        [["a"], ["a"]],
    ],
)
def test_many_targets_are_read_as_each_of_them_alone(target: TargetContract, values: list[object]) -> None:
    assert [target.read(value) for value in values] == list(target.read_many(values))


def test_the_id_says_what_targets_mean_too() -> None:
    (features,) = one("number").features
    targets = [
        TargetContract(Task.BINARY, positive="1"),
        TargetContract(Task.BINARY, positive=1),
        TargetContract(Task.BINARY, positive=True),
        TargetContract(Task.BINARY, positive="1", negative="0"),
        TargetContract(Task.MULTICLASS, classes=("a", "b", "c")),
        TargetContract(Task.MULTICLASS, classes=("b", "a", "c")),
        TargetContract(Task.MULTICLASS, classes=("a", "b")),
        TargetContract(Task.REGRESSION),
        TargetContract(Task.ANOMALY, positive="1"),
    ]

    ids = {FeatureContract((features,), target.canonical).id for target in targets}

    assert 9 == len(ids)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (FeatureSpec("f", "float"), "allowed are number"),
        (FeatureSpec("", "number"), "the name is empty"),
        (FeatureSpec("a..b", "number"), "empty part"),
        (FeatureSpec("f", "text", minimum=1), "bounds do not go with type text"),
        (FeatureSpec("f", "number", minimum=2, maximum=1), "not above maximum"),
        (FeatureSpec("f", "number", minimum=-math.inf), "finite"),
        (FeatureSpec("f", "integer", minimum=1.2, maximum=1.8), "no whole number"),
        (FeatureSpec("f", "integer", minimum=1e30), "no whole number"),
        (FeatureSpec("f", "number", values=("a",)), "values and other"),
        (FeatureSpec("f", "category"), "needs values"),
        (FeatureSpec("f", "category", values=("a", "a")), "twice"),
        (FeatureSpec("f", "text", max_length=0), "max_length"),
        (FeatureSpec("f", "number", missing="none"), "missing is no value"),
        (FeatureSpec("f", "category", values=("a",), missing="b"), "category_unknown"),
        (FeatureSpec("a", "category", values=("b",), most=2), "max, a count of values, does not go with values"),
        (FeatureSpec("a", "text", most=2), "another type than category"),
        (FeatureSpec("a", "category", most=0), "from 1 to 10000"),
        (FeatureSpec("a", "category", most=10_001), "from 1 to 10000"),
    ],
)
def test_a_specification_that_contradicts_itself_is_refused(spec: FeatureSpec, problem: str) -> None:
    with pytest.raises(ContractError, match=problem):
        FeatureContract((spec,))


def test_a_contract_needs_features_with_different_names() -> None:
    with pytest.raises(ContractError, match="at least one"):
        FeatureContract(())
    with pytest.raises(ContractError, match="must differ"):
        numbers("a", "a")


def test_a_type_that_json_does_not_have_is_named_so() -> None:
    assert ["null", "of an unknown type"] == [json_type(None), json_type(b"")]


# --- targets


def test_a_binary_target_is_true_by_default() -> None:
    target = TargetContract(Task.BINARY)

    assert [1.0, 0.0] == [target.read(True), target.read(False)]
    assert [Code.TARGET_INVALID] * 3 == [code_of(target.read(value)) for value in (1, "true", [])]


def test_without_a_negative_every_other_target_of_that_type_is_one() -> None:
    target = TargetContract(Task.BINARY, positive="yes")

    assert [1.0, 0.0, 0.0] == [target.read(value) for value in ("yes", "no", "")]
    assert Code.TARGET_INVALID is code_of(target.read(True))


def test_with_a_negative_no_other_target_is_taken() -> None:
    target = TargetContract(Task.BINARY, positive=1, negative=0)

    assert [1.0, 0.0] == [target.read(value) for value in (1, 0)]
    assert [Code.TARGET_INVALID] * 3 == [code_of(target.read(value)) for value in (2, True, 1.0)]


def test_a_class_is_read_as_its_index() -> None:
    target = TargetContract(Task.MULTICLASS, classes=("red", "green", 3))

    assert [0.0, 1.0, 2.0] == [target.read(value) for value in ("red", "green", 3)]
    assert [Code.TARGET_INVALID] * 3 == [code_of(target.read(value)) for value in ("blue", 3.0, {"a": 1})]


def test_a_regression_target_is_a_finite_number() -> None:
    target = TargetContract(Task.REGRESSION)

    assert [1.0, 2.5] == [target.read(value) for value in (1, 2.5)]
    assert [Code.TARGET_INVALID] * 4 == [code_of(target.read(value)) for value in ("1", True, math.nan, 10**400)]


@pytest.mark.parametrize("task", list(Task))
def test_a_label_without_a_target_is_rejected(task: Task) -> None:
    assert Code.TARGET_MISSING is code_of(TargetContract(task, classes=_classes(task)).read(None))


@pytest.mark.parametrize(
    ("task", "width", "y", "shown"),
    [(Task.BINARY, 1, 1.0, True), (Task.MULTICLASS, 2, 1.0, "b"), (Task.REGRESSION, 0, 1.5, 1.5)],
)
def test_predictions_speak_in_the_words_of_labels(task: Task, width: int, y: float, shown: object) -> None:
    target = TargetContract(task, classes=_classes(task))

    assert width == target.width
    assert [shown, shown] == [target.river(y), target.show(y)]
    assert type(shown) is type(target.show(y))
    assert None is target.show(math.nan)


def test_an_anomaly_is_answered_by_a_number_and_labelled_by_yes_or_no() -> None:
    target = TargetContract(Task.ANOMALY, positive="odd")

    assert 0 == target.width
    assert [1.0, 0.0] == [target.read("odd"), target.read("fine")]
    assert [True, False] == [target.river(1.0), target.river(0.0)]
    assert [0.75, 1.0, None] == [target.show(0.75), target.show(1.0), target.show(math.nan)]
    assert type(target.show(1.0)) is float


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"task": Task.BINARY, "positive": "a", "negative": "a"}, "same"),
        ({"task": Task.BINARY, "classes": ("a", "b")}, "classes do not go"),
        ({"task": Task.MULTICLASS, "classes": ("a",)}, "at least two"),
        ({"task": Task.MULTICLASS, "classes": ("1", 1)}, "as text"),
    ],
)
def test_a_target_contract_that_contradicts_itself_is_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ContractError, match=problem):
        TargetContract(**settings)


def test_targets_of_different_types_are_different_targets() -> None:
    target = TargetContract(Task.BINARY, positive=1, negative=True)

    assert [1.0, 0.0] == [target.read(1), target.read(True)]


def _classes(task: Task) -> tuple[str, ...]:
    return ("a", "b") if task is Task.MULTICLASS else ()


@pytest.mark.parametrize(
    "target",
    [
        TargetContract(Task.BINARY),
        TargetContract(Task.BINARY, positive="yes"),
        TargetContract(Task.BINARY, positive="yes", negative="no"),
        TargetContract(Task.BINARY, positive=1, negative=False),
        TargetContract(Task.MULTICLASS, classes=("a", "b", 3)),
        TargetContract(Task.REGRESSION),
        TargetContract(Task.ANOMALY, positive="yes"),
        TargetContract(Task.ANOMALY, positive="yes", negative="no"),
    ],
)
@pytest.mark.parametrize(
    "values",
    [
        [],
        [True, False, True],
        ["yes", "no", "yes"],
        ["yes", "perhaps"],
        ["a", "b", "c"],
        [1, 3, 0],
        [True, 1, "yes", None],
        [0.5, -0.0, 1e308],
        [1e308, 1e308],
        [0.5, math.inf],
        [0.5, 2],
        [["yes"], ["no"]],
        [{}],
    ],
)
def test_reading_many_targets_gives_what_reading_each_gives(target: TargetContract, values: list[object]) -> None:
    many, each = list(target.read_many(values)), [target.read(value) for value in values]

    assert each == many
    assert [math.copysign(1, y) for y in each if isinstance(y, float)] == [
        math.copysign(1, y) for y in many if isinstance(y, float)
    ]
