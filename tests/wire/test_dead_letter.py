"""Dead letters: Kafka Connect's header names, our code, and the original headers untouched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.domain.errors import CodecError
from tailrace.domain.records import Code, Rejection, Stage
from tailrace.wire.dead_letter import ATTEMPT, BlockName, encode, parse, without_record


class Record(NamedTuple):
    topic: str = "pages"
    partition: int = 3
    offset: int = 42
    headers: Sequence[tuple[str, bytes | None]] = (("traceparent", b"00-ab"), ("x", b"\xff"))


REJECTION = Rejection(Code.NOT_JSON, Stage.DECODE, "the value is not JSON")


def test_the_headers_are_those_of_kafka_connect_and_our_code_after_the_original_ones() -> None:
    headers = encode(Record(), REJECTION, "phishing", "member-1")

    assert [
        ("traceparent", b"00-ab"),
        ("x", b"\xff"),
        ("__connect.errors.topic", b"pages"),
        ("__connect.errors.partition", b"3"),
        ("__connect.errors.offset", b"42"),
        ("__connect.errors.connector.name", b"tailrace.phishing"),
        ("__connect.errors.task.id", b"member-1"),
        ("__connect.errors.stage", b"decode"),
        ("__connect.errors.class.name", b"tailrace.wire.json_codec"),
        ("__connect.errors.exception.class.name", b"tailrace.not_json"),
        ("__connect.errors.exception.message", b"the value is not JSON"),
        ("tailrace.dlq.code", b"not_json"),
    ] == headers


@given(
    st.builds(Rejection, st.sampled_from(Code), st.sampled_from(Stage), st.text()),
    st.none() | st.builds(BlockName, st.integers(-1, 99), st.text(), st.integers(1)),
    st.lists(st.tuples(st.text(max_size=3), st.binary(max_size=3)), max_size=3),
)
def test_headers_are_read_as_they_were_written(
    rejection: Rejection, block: BlockName | None, original: list[tuple[str, bytes]]
) -> None:
    letter = parse(encode(Record(headers=original), rejection, "loop", "me", block))

    assert (rejection, block, tuple(original)) == (letter.rejection, letter.block, letter.headers)
    assert ("pages", 3, 42) == (letter.topic, letter.partition, letter.offset)
    assert ("tailrace.loop", "me") == (letter.connector, letter.member)


def test_a_block_may_be_given_as_text() -> None:
    letter = parse(encode(Record(), REJECTION, "loop", "me", "2/owner/with/slashes/7"))

    assert BlockName(2, "owner/with/slashes", 7) == letter.block


def test_of_a_record_that_was_rejected_twice_the_last_rejection_counts() -> None:
    first = encode(Record(), REJECTION, "loop", "me", "0/me/1")
    again = Rejection(Code.ID_MISSING, Stage.VALIDATE, "no id")

    letter = parse(encode(Record(offset=43, headers=first), again, "loop", "me"))

    assert (again, None, 43, tuple(first)) == (letter.rejection, letter.block, letter.offset, letter.headers)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tailrace.dlq.code", None),
        ("tailrace.dlq.code", b"unheard_of"),
        ("__connect.errors.stage", b"VALUE_CONVERTER"),
        ("__connect.errors.offset", b"many"),
        ("__connect.errors.topic", None),
        ("__connect.errors.exception.message", b"\xff"),
        ("tailrace.dlq.block", b"nonsense"),
    ],
)
def test_headers_of_another_program_are_refused(name: str, value: bytes | None) -> None:
    headers = dict(encode(Record(headers=()), REJECTION, "loop", "me")) | {name: value}

    with pytest.raises(CodecError):
        parse([(key, text) for key, text in headers.items() if text is not None])


def test_a_record_that_is_sent_back_counts_how_often() -> None:
    first = parse(encode(Record(headers=[("a", b"1")]), REJECTION, "loop", "member"))
    second = parse(encode(Record(headers=first.headers_again), REJECTION, "loop", "member"))

    assert [("a", b"1"), (ATTEMPT, b"1")] == first.headers_again
    assert [("a", b"1"), (ATTEMPT, b"2")] == second.headers_again
    assert [0, 1] == [first.attempt, second.attempt]


@pytest.mark.parametrize("text", [b"", None, b"-1", b"x", b"1.5", b"9" * 10, "²".encode()])
def test_a_count_that_is_none_is_none(text: bytes | None) -> None:
    assert 0 == parse(encode(Record(headers=[(ATTEMPT, text)]), REJECTION, "loop", "member")).attempt


def test_a_letter_says_whether_its_record_goes_along() -> None:
    headers = encode(Record(), REJECTION, "loop", "member")

    assert parse(headers).is_whole
    assert not parse(without_record(headers)).is_whole
