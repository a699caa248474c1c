import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.faults.framing import Conversation, Verdict

PRODUCE, FETCH, HEARTBEAT = 0, 1, 12


def request(api: int, correlation: int, body: bytes = b"") -> bytes:
    return struct.pack(">ihhi", 8 + len(body), api, 9, correlation) + body


def answer(correlation: int, body: bytes = b"") -> bytes:
    return struct.pack(">ii", 4 + len(body), correlation) + body


def drop(*apis: int):
    return lambda api: Verdict.DROP if api in apis else Verdict.PASS


@st.composite
def cuts(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    edges = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    return [stream[start:end] for start, end in zip([0, *edges], [*edges, len(stream)], strict=True)]


ASKED = request(FETCH, 1, b"f" * 30) + request(PRODUCE, 2) + request(HEARTBEAT, 3, b"h") + request(PRODUCE, 4, b"p" * 9)
ANSWERS = [answer(1, b"F" * 40), answer(2, b"P" * 20), answer(3), answer(4, b"P")]


@given(cuts(ASKED), cuts(b"".join(ANSWERS)))
def test_the_same_passes_however_the_stream_is_cut(requests, answers):
    conversation = Conversation()

    for chunk in requests:
        conversation.asked(chunk)
    passed = b"".join(conversation.answered(chunk, drop(PRODUCE)) for chunk in answers)

    assert ANSWERS[0] + ANSWERS[2] == passed


@given(cuts(ASKED), cuts(b"".join(ANSWERS)))
def test_after_the_end_nothing_passes(requests, answers):
    conversation = Conversation()

    for chunk in requests:
        conversation.asked(chunk)
    passed = b"".join(
        conversation.answered(chunk, lambda api: Verdict.END if api == PRODUCE else Verdict.PASS) for chunk in answers
    )

    assert ANSWERS[0] == passed
    assert conversation.ended


@given(cuts(b"".join(ANSWERS)))
def test_without_a_judge_every_byte_passes_at_once(answers):
    conversation = Conversation()
    conversation.asked(ASKED)

    for chunk in answers:
        assert chunk == conversation.answered(chunk, None)


@pytest.mark.parametrize("begun_bytes", [1, 7, 8, 20])
def test_an_answer_that_has_begun_to_pass_passes_to_its_end(begun_bytes):
    conversation = Conversation()
    conversation.asked(ASKED)
    stream = b"".join(ANSWERS)

    begun = conversation.answered(stream[:begun_bytes], None)
    rest = conversation.answered(stream[begun_bytes:], drop(FETCH, PRODUCE))

    assert ANSWERS[0] + ANSWERS[2] == begun + rest


def test_an_answer_that_was_dropped_is_dropped_to_its_end():
    conversation = Conversation()
    conversation.asked(ASKED)
    stream = b"".join(ANSWERS)

    dropped = conversation.answered(stream[:20], drop(FETCH))
    rest = conversation.answered(stream[20:], None)

    assert b"" == dropped
    assert b"".join(ANSWERS[1:]) == rest


def test_a_head_that_was_kept_back_passes_when_there_is_no_judge_any_more():
    conversation = Conversation()
    conversation.asked(ASKED)
    stream = b"".join(ANSWERS)

    kept_back = conversation.answered(stream[:5], drop(FETCH))
    rest = conversation.answered(stream[5:], None)

    assert b"" == kept_back
    assert stream == rest


def test_a_request_that_is_never_answered_does_not_shift_the_answers():
    conversation = Conversation()
    conversation.asked(request(PRODUCE, 1) + request(FETCH, 2) + request(PRODUCE, 3))

    assert answer(2) == conversation.answered(answer(2) + answer(3), drop(PRODUCE))


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"),
        (bytes(100), bytes(100)),
        (b"\xff" * 100, b"\xff" * 100),
        (request(PRODUCE, 1), struct.pack(">ii", -1, 1) + b"rest"),
        (request(PRODUCE, 1), answer(77) + b"rest"),
    ],
)
def test_what_cannot_be_kafkas_passes_as_it_is(asked, answered):
    conversation = Conversation()
    conversation.asked(asked)

    passed = b"".join(conversation.answered(answered[i : i + 1], drop(PRODUCE)) for i in range(len(answered)))

    assert answered == passed
