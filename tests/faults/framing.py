"""What crosses one connection in Kafka's framing, read as far as is needed to tell answers apart by their API.

Nothing is read here from a socket, and nothing is decided: who asks gives a verdict on each answer. Requests and answers
may come in pieces of any size; what passes is the same however they were cut.

A frame is its length (int32) and so many bytes. A request begins with api_key (int16), api_version (int16) and
correlation_id (int32), an answer with correlation_id (Kafka protocol guide, "Protocol primitives", "Messages").
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from enum import Enum

REQUEST = struct.Struct(">ihhi")
ANSWER = struct.Struct(">ii")
LENGTH_BYTES = 4


class Verdict(Enum):
    """What becomes of an answer; after END nothing passes any more."""

    PASS = "pass"
    DROP = "drop"
    END = "end"


class Conversation:
    """The requests of one connection that may still be answered, and the answers to them.

    A broker answers in the order it was asked in, or not at all (Produce with acks=0), so the requests before one that
    is answered are forgotten. Bytes that cannot be Kafka's pass as they are, from there on.

    Attributes:
        ended: A verdict was END.
    """

    def __init__(self) -> None:
        self.ended = False
        self._asked: deque[tuple[int, int]] = deque()
        self._request = bytearray()
        self._request_rest = 0
        self._answer = bytearray()
        self._answer_rest = 0
        self._passing = True
        self._foreign = False

    def asked(self, chunk: bytes) -> None:
        """Take note of the requests in what the client sent."""
        rest = memoryview(chunk)
        while rest and not self._foreign:
            if self._request_rest:
                taken = min(self._request_rest, len(rest))
                self._request_rest -= taken
                rest = rest[taken:]
                continue
            missing = REQUEST.size - len(self._request)
            self._request += rest[:missing]
            rest = rest[missing:]
            if len(self._request) == REQUEST.size:
                length, api, _version, correlation = REQUEST.unpack(self._request)
                self._request.clear()
                self._request_rest = length + LENGTH_BYTES - REQUEST.size
                self._foreign = self._request_rest < 0
                self._asked.append((correlation, api))

    def answered(self, chunk: bytes, judge: Callable[[int], Verdict] | None) -> bytes:
        """Return what passes of what the broker sent.

        An answer whose head has begun to pass passes to its end, and one that was dropped is dropped to its end, even
        if the judge has changed. With a judge, a head is kept back until it is complete.

        Args:
            judge: Asked once for each answer, with the API of its request; None passes all.
        """
        passed = bytearray()
        rest = memoryview(chunk)
        while rest and not self._foreign and not self.ended:
            if self._answer_rest:
                piece = rest[: self._answer_rest]
                self._answer_rest -= len(piece)
            else:
                if not self._answer:
                    self._passing = judge is None
                piece = rest[: ANSWER.size - len(self._answer)]
                self._answer += piece
            if self._passing:
                passed += piece
            rest = rest[len(piece) :]
            if len(self._answer) == ANSWER.size:
                passed += self._begin_answer(judge)
        if not self.ended:
            if self._foreign and not self._passing:
                passed += self._answer
                self._answer.clear()
            passed += rest
        return bytes(passed)

    def _begin_answer(self, judge: Callable[[int], Verdict] | None) -> bytes:
        """Judge the answer whose head is complete; return of the head what was kept back and passes."""
        head = bytes(self._answer)
        length, correlation = ANSWER.unpack(head)
        self._answer_rest = length + LENGTH_BYTES - ANSWER.size
        api = self._api_of(correlation)
        if self._answer_rest < 0 or api is None:
            self._foreign = True
        self._answer.clear()
        if self._passing:
            return b""
        verdict = Verdict.PASS if judge is None or api is None or self._foreign else judge(api)
        self._passing = verdict is Verdict.PASS
        self.ended = verdict is Verdict.END
        return head if self._passing else b""

    def _api_of(self, correlation: int) -> int | None:
        while self._asked:
            asked, api = self._asked.popleft()
            if asked == correlation:
                return api
        return None
