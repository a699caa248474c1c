"""Every record through its codec and back; bytes that are no record are refused by a CodecError and nothing else."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from typing import Any

import fastavro
import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.builders import make_corrections, make_scored_block, make_served, make_x
from tests.log_builders import make_block, make_claim

from tailrace.domain.blocks import (
    Corrections,
    Dropped,
    Examples,
    Lowest,
    ScoredBlock,
    Served,
    TrainingBlock,
    Vector,
    XColumns,
)
from tailrace.domain.contract import TargetContract
from tailrace.domain.errors import CodecError, ContractError
from tailrace.domain.positions import position_of
from tailrace.domain.records import Claim, Forward, Label, Mark, Skip, Task
from tailrace.domain.snapshots import Sealed
from tailrace.domain.status import (
    MemberStatus,
    ModelStatus,
    PartitionStatus,
    Quality,
    Quantiles,
    Role,
    RoleState,
    RoleStatus,
    SnapshotStatus,
    Verdict,
)
from tailrace.wire import avro_codec
from tailrace.wire.avro_codec import ModelEvent
from tailrace.wire.prediction_codec import PredictionEncoder, decode_prediction
from tailrace.wire.schemas import fingerprint_of, folder, record_schema

LONGS = st.integers(-(1 << 63), (1 << 63) - 1)
COUNTS = st.integers(0, (1 << 63) - 1)
INTS = st.integers(-(1 << 31), (1 << 31) - 1)
TEXT = st.text(max_size=5)
IDS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=8)
DIGESTS = st.integers(0, (1 << 256) - 1).map(lambda number: f"{number:064x}")
FLOATS = st.floats()


def ints(n: int) -> st.SearchStrategy[Any]:
    return st.lists(LONGS, min_size=n, max_size=n).map(lambda values: np.array(values, np.int64))


def floats(*shape: int) -> st.SearchStrategy[Any]:
    size = math.prod(shape)
    values = st.lists(FLOATS, min_size=size, max_size=size)
    return values.map(lambda found: np.array(found, np.float64).reshape(shape))


@st.composite
def xs(draw: st.DrawFn, n: int) -> XColumns:
    numbers, integers, strings = (draw(st.integers(0, 3)) for _ in range(3))
    width = numbers + integers + strings
    flags = st.lists(st.booleans(), min_size=n * width, max_size=n * width)
    absent = draw(st.none() | flags.map(lambda found: np.array(found, np.bool_).reshape(n, width)))
    return XColumns(
        draw(floats(n, numbers)),
        draw(ints(n * integers)).reshape(n, integers),
        [tuple(draw(TEXT) for _ in range(strings)) for _ in range(n)],
        absent if n and width else None,
    )


@st.composite
def serveds(draw: st.DrawFn, n: int) -> Served:
    return Served(draw(floats(n)), draw(floats(n, draw(st.integers(0, 3)))))


@st.composite
def scored_blocks(draw: st.DrawFn) -> ScoredBlock:
    ids = draw(st.lists(IDS, max_size=4))
    n = len(ids)
    names = (draw(TEXT) for _ in range(4))
    return ScoredBlock(
        *names, draw(LONGS), draw(INTS), draw(ints(n)), ids, draw(ints(n)), draw(serveds(n)), draw(xs(n))
    )


@st.composite
def examples(draw: st.DrawFn) -> Examples:
    ids = draw(st.lists(IDS, max_size=3))
    n = len(ids)
    rest = [draw(ints(n)) for _ in range(6)]
    columns = (draw(ints(n)), ids, draw(ints(n)), draw(floats(n)), *rest, draw(revisions(n)), draw(sources(n)))
    return Examples(*columns, served=draw(serveds(n)), x=draw(xs(n)))


def revisions(n: int) -> st.SearchStrategy[Any]:
    return st.just(np.zeros(n, np.int64)) | ints(n)


def sources(n: int) -> st.SearchStrategy[list[str]]:
    return st.lists(st.just("") | IDS, min_size=n, max_size=n)


@st.composite
def corrections(draw: st.DrawFn) -> Corrections:
    ids = draw(st.lists(IDS, max_size=3))
    n = len(ids)
    said = (draw(floats(n)), draw(revisions(n)), draw(sources(n)))
    return Corrections(draw(ints(n)), ids, draw(ints(n)), *said, *(draw(ints(n)) for _ in range(3)))


@st.composite
def droppeds(draw: st.DrawFn) -> Dropped:
    ids = draw(st.lists(IDS, max_size=3))
    return Dropped(ids, *(draw(ints(len(ids))) for _ in range(3)))


LOWEST = st.builds(Lowest, LONGS, LONGS)
OF_PARTITIONS = st.dictionaries(st.integers(0, 1 << 20), LONGS, max_size=3)
VECTORS = st.builds(
    Vector,
    scored_next=LONGS,
    labels_next=LONGS,
    relabelled_next=LONGS,
    scored_low=LOWEST,
    labels_low=LOWEST,
    relabelled_low=LONGS,
    relabelled_covered=OF_PARTITIONS,
    scored_watermark_ms=LONGS,
    labels_watermark_ms=LONGS,
    marks_ms=OF_PARTITIONS,
    idle_moves=st.lists(st.tuples(LONGS, LONGS), max_size=3).map(tuple),
    oldest_row=LONGS,
    counts=st.dictionaries(TEXT, LONGS, max_size=3),
)
TRAINING = (
    st.builds(TrainingBlock, TEXT, TEXT, INTS, TEXT, LONGS, examples(), droppeds(), VECTORS, corrections())
    | st.builds(Claim, INTS, TEXT, st.none() | TEXT, TEXT)
    | st.builds(Skip, TEXT, LONGS, LONGS, TEXT, TEXT)
)
LABEL = st.builds(Label, TEXT, LONGS, st.none() | st.floats(allow_nan=False), INTS, LONGS, LONGS, LONGS, TEXT)
RELABELLED = st.builds(Forward, LABEL, LONGS) | st.builds(Mark, INTS, LONGS, LONGS)
MODEL_EVENTS = st.builds(
    ModelEvent,
    *(TEXT, TEXT, LONGS, TEXT, TEXT, LONGS, TEXT),
    st.dictionaries(TEXT, st.floats(allow_nan=False), max_size=3),
    st.dictionaries(TEXT, TEXT, max_size=3),
)
SEALED = st.builds(
    Sealed,
    TEXT,
    st.binary(max_size=30),
    st.binary(max_size=64),
    st.dictionaries(TEXT, st.binary(max_size=9), max_size=3),
)
NUMBERS = st.floats(allow_nan=False)
STATUSES = st.builds(
    MemberStatus,
    *(TEXT, TEXT, TEXT, LONGS, LONGS, st.none() | INTS),
    st.lists(
        st.builds(
            RoleStatus,
            st.sampled_from(Role),
            st.sampled_from(RoleState),
            TEXT,
            st.lists(
                st.builds(
                    PartitionStatus,
                    *(TEXT, INTS, LONGS, st.none() | LONGS, st.none() | LONGS, st.none() | NUMBERS),
                    st.sampled_from(Verdict),
                    TEXT,
                ),
                max_size=2,
            ).map(tuple),
        ),
        max_size=2,
    ).map(tuple),
    st.dictionaries(TEXT, LONGS, max_size=3),
    st.none() | st.builds(ModelStatus, TEXT, TEXT, LONGS, LONGS, LONGS, TEXT),
    st.lists(
        st.builds(Quality, TEXT, TEXT, st.none() | NUMBERS, LONGS, st.dictionaries(TEXT, NUMBERS, max_size=2)),
        max_size=2,
    ).map(tuple),
    st.none() | st.builds(SnapshotStatus, LONGS, LONGS, LONGS, LONGS, LONGS, TEXT),
    st.none() | st.builds(Quantiles, NUMBERS, NUMBERS, LONGS),
)


def same(first: object, second: object) -> bool:
    """Whether two records are equal, arrays bit for bit."""
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return first.dtype == second.dtype and first.shape == second.shape and first.tobytes() == second.tobytes()
    if hasattr(first, "__dataclass_fields__") and type(first) is type(second):
        return all(same(getattr(first, name), getattr(second, name)) for name in first.__dataclass_fields__)
    if isinstance(first, dict) and isinstance(second, dict):
        return repr(sorted(first.items())) == repr(sorted(second.items()))
    return repr(first) == repr(second)  # 1 and 1.0 differ, and NaN is equal to itself


CODECS: dict[str, tuple[Callable[[Any], bytes], Callable[[bytes], Any], st.SearchStrategy[Any]]] = {
    "scored": (avro_codec.encode_scored, avro_codec.decode_scored, scored_blocks()),
    "training": (avro_codec.encode_training, avro_codec.decode_training, TRAINING),
    "relabelled": (avro_codec.encode_relabelled, avro_codec.decode_relabelled, RELABELLED),
    "snapshots": (avro_codec.encode_manifest, avro_codec.decode_manifest, SEALED),
    "status": (avro_codec.encode_status, avro_codec.decode_status, STATUSES),
    "model-events": (avro_codec.encode_model_event, avro_codec.decode_model_event, MODEL_EVENTS),
}


@pytest.mark.parametrize("topic", CODECS)
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_a_record_comes_back_as_it_was(topic: str, data: st.DataObject) -> None:
    encode, decode, records = CODECS[topic]
    record = data.draw(records)

    value = encode(record)

    assert same(record, decode(value))
    assert value == encode(decode(value))


@pytest.mark.parametrize("topic", CODECS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_record_that_is_cut_or_longer_than_itself_is_refused(topic: str, data: st.DataObject) -> None:
    encode, decode, records = CODECS[topic]
    value = encode(data.draw(records))
    cut = data.draw(st.integers(0, len(value) - 1))

    for damaged in (value[:cut], value + b"\0"):
        with pytest.raises(CodecError):
            decode(damaged)


@pytest.mark.parametrize("topic", CODECS)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_flipped_bytes_give_another_whole_record_or_a_codec_error(topic: str, data: st.DataObject) -> None:
    encode, decode, records = CODECS[topic]
    value = bytearray(encode(data.draw(records)))
    for place, flip in data.draw(st.lists(st.tuples(st.integers(0, len(value) - 1), st.integers(1, 255)), max_size=4)):
        value[place] ^= flip

    try:
        record = decode(bytes(value))
    except CodecError:
        return

    assert same(record, decode(encode(record)))


@pytest.mark.parametrize("topic", CODECS)
@given(noise=st.binary(max_size=40))
def test_noise_is_refused(topic: str, noise: bytes) -> None:
    _, decode, _ = CODECS[topic]

    for value in (noise, b"\xc3\x01" + noise):
        with pytest.raises(CodecError):
            decode(value)


@pytest.mark.parametrize("topic", CODECS)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_a_record_of_another_topic_is_refused_by_its_fingerprint(topic: str, data: st.DataObject) -> None:
    other = data.draw(st.sampled_from([name for name in CODECS if name != topic]))
    encode, _, records = CODECS[other]

    with pytest.raises(CodecError, match="fingerprint"):
        CODECS[topic][1](encode(data.draw(records)))


def test_a_block_of_a_later_format_is_refused_with_what_to_do() -> None:
    value = bytearray(avro_codec.encode_relabelled(Mark(0, 1, 2)))
    value[10] = 4  # zigzag of 2, the format version

    with pytest.raises(CodecError, match=r"format version 2.*upgrade"):
        avro_codec.decode_relabelled(bytes(value))


@pytest.mark.parametrize(
    "change",
    [
        {"times_ms": np.zeros(3, np.int64)},
        {"served": make_served([0.5])},
        {"x": make_x([[1.0]])},
        {"x": XColumns(np.zeros((2, 1)), np.zeros((2, 0), np.int64), [("a",), ()])},
        {"x": make_x([[1.0], [2.0]], absent=[[True]])},
        {"ids": ["a\0b", "c"]},
        {"ids": ["", "c"]},
        {"state_position": 1 << 63},
        {"source_partition": "0"},
    ],
)
def test_a_block_whose_columns_do_not_fit_each_other_is_not_encoded(change: dict[str, Any]) -> None:
    block = make_scored_block(("a", 1), ("b", 2))
    fields = {name: getattr(block, name) for name in ScoredBlock.__slots__}

    with pytest.raises(ContractError):
        avro_codec.encode_scored(ScoredBlock(**(fields | change)))


@pytest.mark.parametrize("column", ["source_offsets", "times_ms"])
def test_a_block_whose_columns_differ_in_length_is_refused(column: str) -> None:
    block = make_scored_block(("a", 1), ("b", 2))
    fields = _fields_of(avro_codec.encode_scored(block))
    fields[column] += bytes(8)

    with pytest.raises(CodecError, match="does not fit 2 rows"):
        avro_codec.decode_scored(_value_of(fields))


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("served", {"y_pred": b""}),
        ("served", {"proba_width": 2}),
        ("served", {"proba_width": -1}),
        ("x", {"numbers": b"123"}),
        ("x", {"number_width": 0}),
        ("x", {"integer_width": 1}),
        ("x", {"string_width": 1}),
        ("x", {"string_width": -1}),
        ("x", {"strings": ["a"]}),
        ("x", {"absent": b"\0\0"}),
    ],
)
def test_features_and_predictions_must_fit_the_rows_of_their_block(part: str, changes: dict[str, Any]) -> None:
    block = make_scored_block(("a", 1), ("b", 2))
    fields = _fields_of(avro_codec.encode_scored(block))
    fields[part] |= changes

    with pytest.raises(CodecError, match="does not fit 2 rows"):
        avro_codec.decode_scored(_value_of(fields))


@pytest.mark.parametrize(
    "change", [{"sources": ["a"]}, {"sources": ["a", "b\0c"]}, {"revisions": np.ones(1, np.int64)}, {"y": np.zeros(1)}]
)
def test_corrections_whose_columns_do_not_fit_each_other_are_not_encoded(change: dict[str, Any]) -> None:
    corrections = replace(make_corrections(("a", 1, 0.0), ("b", 2, None)), **change)

    with pytest.raises(ContractError):
        avro_codec.encode_training(make_block(corrections=corrections))


@pytest.mark.parametrize("change", [{"sources": "a\0b\0c"}, {"revisions": b"12345678"}, {"kinds": b""}])
def test_corrections_whose_columns_differ_in_length_are_refused(change: dict[str, Any]) -> None:
    block = make_block(corrections=make_corrections(("a", 1, 0.0), ("b", 2, None)))
    fields = _fields_of(avro_codec.encode_training(block), "training_block")
    fields["corrections"] |= change

    with pytest.raises(CodecError, match="does not fit 2 rows"):
        avro_codec.decode_training(_value_of(fields, "training_block"))


def test_a_block_from_before_there_were_revisions_is_read_as_one_without() -> None:
    """
    Blocks that Tailrace wrote before labels had revisions stay readable: revision 0, no source, no corrections.
    """
    past = json.loads((folder() / "history" / "training_block.e107ecbfd8c3614a.avsc").read_bytes())
    fields = _fields_of(avro_codec.encode_training(make_block()), "training_block")
    out = BytesIO()
    fastavro.schemaless_writer(out, past, fields)

    block = avro_codec.decode_training(b"\xc3\x01" + fingerprint_of(past) + out.getvalue())

    assert isinstance(block, TrainingBlock)
    assert [0, 0, 0] == block.examples.revisions.tolist()
    assert ["", "", ""] == block.examples.sources
    assert not len(block.corrections)


def test_the_head_of_a_block_says_whose_it_is() -> None:
    value = avro_codec.encode_training(make_block(number=7, owner="joiner-b", partition=3, dropped=2))

    assert avro_codec.block_head(value) == ("log", 3, "joiner-b", 7)


@pytest.mark.parametrize("fingerprint", sorted(record_schema("training_block").written))
def test_every_form_of_a_block_that_was_ever_written_has_a_head(fingerprint: bytes) -> None:
    schema = record_schema("training_block").written[fingerprint]
    out = BytesIO()
    fastavro.schemaless_writer(out, schema, _fields_of(avro_codec.encode_training(make_block()), "training_block"))

    head = avro_codec.block_head(b"\xc3\x01" + fingerprint + out.getvalue())

    assert head == ("log", 0, "joiner-a", 1)


@given(st.data())
def test_a_head_is_whole_or_a_codec_error_whatever_the_bytes_are(data: st.DataObject) -> None:
    value = bytearray(avro_codec.encode_training(make_block()))
    value = value[: data.draw(st.integers(0, len(value)))]
    for place, flip in data.draw(st.lists(st.tuples(st.integers(10, 60), st.integers(1, 255)), max_size=4)):
        if place < len(value):
            value[place] ^= flip

    with contextlib.suppress(CodecError):
        head = avro_codec.block_head(bytes(value))
        assert (head is None) == (len(value) < 10)
        assert head is None or (type(head.partition), type(head.number), type(head.owner)) == (int, int, str)


def test_the_head_of_a_newer_format_is_refused() -> None:
    fields = _fields_of(avro_codec.encode_training(make_block()), "training_block")
    value = _value_of(fields | {"format_version": 2}, "training_block")

    with pytest.raises(CodecError, match="has format version 2, this Tailrace reads 1"):
        avro_codec.block_head(value)


def test_what_is_no_block_has_no_head() -> None:
    assert avro_codec.block_head(avro_codec.encode_training(make_claim())) is None


def test_an_empty_id_in_a_block_is_refused() -> None:
    fields = _fields_of(avro_codec.encode_scored(make_scored_block(("a", 1), ("b", 2))))

    with pytest.raises(CodecError, match="an id that is empty"):
        avro_codec.decode_scored(_value_of(fields | {"ids": "a\0"}))


def test_decoded_columns_cannot_be_written_to() -> None:
    block = avro_codec.decode_scored(
        avro_codec.encode_scored(make_scored_block(("a", 1), x=make_x([[1.0]], absent=[[True]])))
    )

    for column in (block.times_ms, block.served.proba, block.x.numbers, block.x.integers, block.x.absent):
        assert column is not None
        assert not column.flags.writeable


# --- predictions


@pytest.mark.parametrize(
    ("target", "y_pred", "proba", "shown", "shown_proba"),
    [
        (TargetContract(Task.BINARY), 1.0, [0.75], True, 0.75),
        (TargetContract(Task.BINARY), 0.0, [0.25], False, 0.25),
        (TargetContract(Task.MULTICLASS, classes=("a", "b")), 1.0, [0.25, 0.75], "b", {"a": 0.25, "b": 0.75}),
        (TargetContract(Task.MULTICLASS, classes=("a", 2)), 1.0, [math.nan, 1.0], 2, {"2": 1.0}),
        (TargetContract(Task.REGRESSION), 2.5, [], 2.5, None),
        (TargetContract(Task.ANOMALY), 0.75, [], 0.75, None),
    ],
)
def test_a_prediction_says_what_was_served_by_which_state(
    target: TargetContract, y_pred: float, proba: list[float], shown: object, shown_proba: object
) -> None:
    served = Served(np.array([y_pred]), np.array([proba], np.float64).reshape(1, -1))
    block = make_scored_block(
        ("é-1", 1_800_000_000_123),
        source_offsets=[42],
        source_partition=3,
        state_position=position_of(7, 5),
        served=served,
    )

    (value,) = PredictionEncoder("pages", target).encode(block)

    expected = {
        "prediction_id": "pages/3/42",
        "event_id": "é-1",
        "event_time": "2027-01-15T08:00:00.123Z",
        "y_pred": shown,
        "proba": shown_proba,
        "outcome": "served",
        "model": "champion",
        "version": "lineage",
        "position": "7:5",
    }
    assert {name: value for name, value in expected.items() if value is not None} == decode_prediction(value)
    assert fastavro.validate(decode_prediction(value), record_schema("prediction").present)


def test_a_model_that_abstained_serves_null() -> None:
    served = Served(np.array([math.nan]), np.array([[math.nan]]))

    (value,) = PredictionEncoder("pages", TargetContract(Task.BINARY)).encode(
        make_scored_block(("a", 1), served=served)
    )

    prediction = decode_prediction(value)
    assert [None, "abstained", False] == [prediction["y_pred"], prediction["outcome"], "proba" in prediction]
    assert fastavro.validate(prediction, record_schema("prediction").present)


@given(st.lists(st.tuples(IDS, st.integers(0, 253_402_300_799_999)), min_size=1, max_size=5))
def test_every_row_gets_its_prediction_in_the_order_of_the_block(rows: list[tuple[str, int]]) -> None:
    encoded = PredictionEncoder("pages", TargetContract(Task.BINARY)).encode(make_scored_block(*rows))

    assert [event_id for event_id, _ in rows] == [decode_prediction(value)["event_id"] for value in encoded]


@pytest.mark.parametrize("value", [b"", b"[]", b"{}", orjson.dumps({"event_id": "a"})])
def test_what_is_no_prediction_is_refused(value: bytes) -> None:
    with pytest.raises(CodecError):
        decode_prediction(value)


def _fields_of(value: bytes, name: str = "scored_block") -> dict[str, Any]:
    found = fastavro.schemaless_reader(BytesIO(value[10:]), record_schema(name).present, None)
    assert isinstance(found, dict)
    return found


def _value_of(fields: dict[str, Any], name: str = "scored_block") -> bytes:
    out = BytesIO()
    fastavro.schemaless_writer(out, record_schema(name).present, fields)
    return b"\xc3\x01" + record_schema(name).fingerprint + out.getvalue()


@pytest.mark.parametrize("ids", [[""], ["", ""], ["a", ""], ["", "a"], ["a", "", "b"], ["a", "b"], []])
def test_a_training_block_whose_rows_were_erased_comes_back(ids: list[str]) -> None:
    """The id of an erased row is empty; one block may hold nothing else."""
    count = np.arange(len(ids), dtype=np.int64)
    block = replace(make_block(), dropped=Dropped(ids, count, count, count))

    assert ids == avro_codec.decode_training(avro_codec.encode_training(block)).dropped.ids
