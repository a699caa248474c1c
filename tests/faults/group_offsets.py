"""Deletes groups and their offsets, as an administrator of Kafka would; Kafka's answer is a name, "" where it did so.

aiokafka has no method for either, and no form of OffsetDelete (KIP-496).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import for_code
from aiokafka.protocol.admin import DeleteGroupsRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Int16, Int32, Schema, String
from tests.faults.brokers import ask_of

# Of a group with members: it cannot be deleted, nor what it has committed for topics that they read.
NON_EMPTY_GROUP = "NonEmptyGroup"
GROUP_SUBSCRIBED_TO_TOPIC = "GroupSubscribedToTopic"
_GROUP_SUBSCRIBED_TO_TOPIC = 86  # unknown to aiokafka


class _OffsetDeleteResponse(Response):  # type: ignore[misc]
    API_KEY = 47
    API_VERSION = 0
    SCHEMA = Schema(
        ("error_code", Int16),
        ("throttle_time_ms", Int32),
        (
            "topics",
            Array(
                ("name", String("utf-8")),
                ("partitions", Array(("partition_index", Int32), ("error_code", Int16))),
            ),
        ),
    )


class _OffsetDeleteStruct(RequestStruct):  # type: ignore[misc]
    API_KEY = 47
    API_VERSION = 0
    RESPONSE_TYPE = _OffsetDeleteResponse
    SCHEMA = Schema(
        ("group_id", String("utf-8")),
        ("topics", Array(("name", String("utf-8")), ("partitions", Array(Int32)))),
    )


class _OffsetDelete(Request[_OffsetDeleteStruct]):  # type: ignore[misc]
    API_KEY = 47

    def __init__(self, group: str, topic: str, partitions: Sequence[int]) -> None:
        self._content = (group, [(topic, list(partitions))])

    def build(self, request_struct_class: type[_OffsetDeleteStruct]) -> _OffsetDeleteStruct:
        return request_struct_class(*self._content)


async def delete_group(bootstrap: str, group: str) -> str:
    """Delete a group with everything it has committed; return why Kafka did not."""
    answer = await _sent(bootstrap, group, lambda: DeleteGroupsRequest([group]))
    ((_, code),) = answer.results
    return _name(code)


async def delete_offsets(bootstrap: str, group: str, topic: str, partitions: Sequence[int]) -> str:
    """Delete what a group has committed for some partitions; return why Kafka did not, at the first that it kept."""
    answer = await _sent(bootstrap, group, lambda: _OffsetDelete(group, topic, partitions))
    codes = [answer.error_code, *(code for _, found in answer.topics for _, code in found)]
    return next((_name(code) for code in codes if code), "")


async def _sent(bootstrap: str, group: str, request: Callable[[], Request[Any]]) -> Any:
    async def ask(admin: AIOKafkaAdminClient) -> Any:
        coordinator = await admin.find_coordinator(group)
        return await admin._send_request_to_node(coordinator, request())

    asked: Callable[[AIOKafkaAdminClient], Awaitable[Any]] = ask
    return await ask_of(bootstrap, asked, f"whether {group} is deleted")


def _name(code: int) -> str:
    if not code:
        return ""
    return GROUP_SUBSCRIBED_TO_TOPIC if code == _GROUP_SUBSCRIBED_TO_TOPIC else str(for_code(code).__name__)
