"""The records of internal topics ↔ Avro single-object encoding: mark, fingerprint of the schema, body.

A value names the form of the schema that wrote it, so that every form ever written stays readable. Equal records
have equal bytes. The columns of blocks are the business of `block_codec`.

Invariant: a decoder returns a whole record, or a whole head, or raises CodecError, whatever the bytes are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import cache
from io import BytesIO
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar, cast

from fastavro import parse_schema, schemaless_reader, schemaless_writer
from fastavro.schema import SchemaParseException

from tailrace.domain.blocks import ScoredBlock, TrainingBlock
from tailrace.domain.errors import CodecError, ContractError
from tailrace.domain.records import (
    Admit,
    Claim,
    Command,
    CommandKind,
    Forward,
    Label,
    LearnerRecord,
    Mark,
    Owner,
    Request,
    RequestKind,
    Skip,
)
from tailrace.domain.snapshots import Sealed
from tailrace.domain.status import MemberStatus, from_plain, to_plain
from tailrace.wire import block_codec
from tailrace.wire.schemas import FINGERPRINT_BYTES, Schema, record_schema

FORMAT_VERSION: Final = 1
"""Rises when the meaning of a field changes while the schema does not."""

TrainingRecord: TypeAlias = TrainingBlock | Claim | LearnerRecord
RelabelledRecord: TypeAlias = Forward | Mark

_MARK: Final = b"\xc3\x01"
_HEADER_BYTES: Final = len(_MARK) + FINGERPRINT_BYTES
_NOTICES: Final[dict[type, str]] = {Claim: "claim", Skip: "skip", Admit: "admit", Command: "command"}
_TRAINING: Final = ("training_block", *_NOTICES.values())
_RELABELLED: Final = ("forward", "mark")

_UNREADABLE: Final = (EOFError, ValueError, TypeError, LookupError, OverflowError, MemoryError, SchemaParseException)
"""What fastavro raises on bytes that are cut or flipped, found by flipping and cutting."""


@dataclass(frozen=True, slots=True)
class ModelEvent:
    """Something that happened to a model, for others to react to.

    Attributes:
        kind: E.g. "snapshot", "drift", "skip", "restored".
        model: Its name, e.g. "champion".
        version: Lineage of its branch.
        position: Of the training log, exclusive.
        detail: In words.
    """

    loop: str
    kind: str
    at_ms: int
    model: str
    version: str
    position: int
    detail: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)


def encode_scored(block: ScoredBlock) -> bytes:
    """Encode one value of `<loop>.scored`."""
    return _encode("scored_block", block_codec.scored_fields(block))


def decode_scored(value: bytes) -> ScoredBlock:
    """Decode one value of `<loop>.scored`.

    Raises:
        CodecError: It is none.
    """
    return block_codec.scored_block(_decode(value, ("scored_block",)).fields)


def encode_training(record: TrainingRecord) -> bytes:
    """Encode one value of `<loop>.training`."""
    if isinstance(record, TrainingBlock):
        return _encode("training_block", block_codec.training_fields(record))
    return _encode(_NOTICES[type(record)], asdict(record))


def decode_training(value: bytes) -> TrainingRecord:
    """Decode one value of `<loop>.training`.

    Raises:
        CodecError: It is none.
    """
    name, fields = _decode(value, _TRAINING)
    if name == "training_block":
        return block_codec.training_block(fields)
    if name == "claim":
        return Claim(**fields)
    if name == "skip":
        return Skip(**fields)
    if name == "admit":
        return Admit(**_tuples(fields))
    return Command(**(fields | {"kind": _one_of(CommandKind, fields["kind"])}))


def is_training_block(value: bytes) -> bool:
    """Tell whether a value of `<loop>.training` is a block, by the form that it names alone."""
    return value[:_HEADER_BYTES] in _heads()


class BlockHead(NamedTuple):
    """Whose a training block is, and which; as in `blocks.TrainingBlock`."""

    log_id: str
    partition: int
    owner: Owner
    number: int


def block_head(value: bytes) -> BlockHead | None:
    """Read no more of a value of `<loop>.training` than the head of a block; None: it is no block.

    Raises:
        CodecError: The head is cut, or of a newer format.
    """
    writer = _heads().get(value[:_HEADER_BYTES])
    if writer is None:
        return None
    body = BytesIO(value)
    body.seek(_HEADER_BYTES)
    try:
        fields = cast(dict[str, Any], schemaless_reader(body, writer, None))
    except _UNREADABLE as cause:
        raise CodecError(f"the head of a training_block is cut or damaged at byte {body.tell()}") from cause
    _check_version("training_block", fields["format_version"])
    return BlockHead(*(fields[name] for name in BlockHead._fields))


def encode_relabelled(record: RelabelledRecord) -> bytes:
    """Encode one value of `<loop>.relabelled`."""
    if isinstance(record, Mark):
        return _encode("mark", asdict(record))
    return _encode("forward", record.label._asdict() | {"watermark_ms": record.watermark_ms})


def decode_relabelled(value: bytes) -> RelabelledRecord:
    """Decode one value of `<loop>.relabelled`.

    Raises:
        CodecError: It is none.
    """
    name, fields = _decode(value, _RELABELLED)
    if name == "mark":
        return Mark(**fields)
    watermark_ms = fields.pop("watermark_ms")
    return Forward(Label(**fields), watermark_ms)


class Signed(NamedTuple):
    """An encoded request, and who signed it.

    Attributes:
        payload: For `decode_request`, once the signature is verified.
    """

    payload: bytes
    key_id: str
    signature: bytes


def encode_request(request: Request) -> bytes:
    """Encode what is signed and travels in one value of `<loop>.commands`."""
    return _encode("request", asdict(request))


def decode_request(payload: bytes) -> Request:
    """Decode what was signed.

    Raises:
        CodecError: It is no request.
    """
    fields = _tuples(_decode(payload, ("request",)).fields)
    return Request(**(fields | {"kind": _one_of(RequestKind, fields["kind"])}))


def encode_signed(signed: Signed) -> bytes:
    """Encode one value of `<loop>.commands`."""
    return _encode("signed_request", signed._asdict())


def decode_signed(value: bytes) -> Signed:
    """Decode one value of `<loop>.commands`; what is in it is not looked at.

    Raises:
        CodecError: It is none.
    """
    return Signed(**_decode(value, ("signed_request",)).fields)


def encode_manifest(sealed: Sealed) -> bytes:
    """Encode one value of `<loop>.snapshots`, inline parts included."""
    inline = [{"name": name, "stored": stored} for name, stored in sealed.inline.items()]
    fields = {"key_id": sealed.key_id, "manifest": sealed.content, "signature": sealed.signature, "inline": inline}
    return _encode("manifest", fields)


def decode_manifest(value: bytes) -> Sealed:
    """Decode one value of `<loop>.snapshots`; what is sealed in it stays unread.

    Raises:
        CodecError: It is none.
    """
    fields = _decode(value, ("manifest",)).fields
    inline = {part["name"]: part["stored"] for part in fields["inline"]}
    return Sealed(fields["key_id"], fields["manifest"], fields["signature"], inline)


def encode_status(status: MemberStatus) -> bytes:
    """Encode one value of `<loop>.status`."""
    return _encode("status", to_plain(status))


def decode_status(value: bytes) -> MemberStatus:
    """Decode one value of `<loop>.status`.

    Raises:
        CodecError: It is none.
    """
    return from_plain(_decode(value, ("status",)).fields)


def encode_model_event(event: ModelEvent) -> bytes:
    """Encode one value of `<loop>.model-events`."""
    fields = asdict(event) | {"numbers": _in_order(event.numbers), "texts": _in_order(event.texts)}
    return _encode("model_event", fields)


def decode_model_event(value: bytes) -> ModelEvent:
    """Decode one value of `<loop>.model-events`.

    Raises:
        CodecError: It is none.
    """
    return ModelEvent(**_decode(value, ("model_event",)).fields)


class _Form(NamedTuple):
    name: str
    writer: Schema
    reader: Schema | None


class _Decoded(NamedTuple):
    name: str
    fields: dict[str, Any]


@cache
def _forms(names: tuple[str, ...]) -> Mapping[bytes, _Form]:
    found = {}
    for name in names:
        schema = record_schema(name)
        for fingerprint, written in schema.written.items():
            found[fingerprint] = _Form(name, written, None if fingerprint == schema.fingerprint else schema.present)
    return found


@cache
def _heads() -> Mapping[bytes, Schema]:
    """Return, by the mark and fingerprint that a value begins with, a schema of its first fields.

    Avro writes the fields of a record one after the other, so whoever stops early needs no more of the schema.
    """
    found = {}
    for fingerprint, form in _forms(("training_block",)).items():
        names = [each["name"] for each in form.writer["fields"]]
        count = 1 + max(names.index(name) for name in ("format_version", *BlockHead._fields))
        head = {"type": "record", "name": "BlockHead", "fields": form.writer["fields"][:count]}
        found[_MARK + fingerprint] = parse_schema(head)
    return found


def _encode(name: str, fields: Mapping[str, Any]) -> bytes:
    schema = record_schema(name)
    out = BytesIO()
    out.write(_MARK + schema.fingerprint)
    try:
        schemaless_writer(out, schema.present, {"format_version": FORMAT_VERSION, **fields})
    except (ValueError, TypeError, AttributeError, OverflowError) as cause:
        message = f"a record does not fit schemas/{name}.avsc ({type(cause).__name__}); its builder must keep to it"
        raise ContractError(message) from cause
    return out.getvalue()


def _decode(value: bytes, names: tuple[str, ...]) -> _Decoded:
    form = _form_of(value, names)
    body = BytesIO(value)
    body.seek(_HEADER_BYTES)
    try:
        fields = cast(dict[str, Any], schemaless_reader(body, form.writer, form.reader))
    except _UNREADABLE as cause:
        message = f"a {form.name} is cut or damaged at byte {body.tell()} of {len(value)} ({type(cause).__name__})"
        raise CodecError(message) from cause
    if body.tell() != len(value):
        message = f"a {form.name} has {len(value) - body.tell()} bytes after its end"
        raise CodecError(message)
    _check_version(form.name, fields.pop("format_version"))
    return _Decoded(form.name, fields)


def _check_version(name: str, version: int) -> None:
    if version != FORMAT_VERSION:
        raise CodecError(f"a {name} has format version {version}, this Tailrace reads {FORMAT_VERSION}; upgrade it")


def _form_of(value: bytes, names: tuple[str, ...]) -> _Form:
    if value[: len(_MARK)] != _MARK or len(value) < _HEADER_BYTES:
        message = f"found {len(value)} bytes that are no Avro single-object encoding; is this topic another program's?"
        raise CodecError(message)
    fingerprint = value[len(_MARK) : _HEADER_BYTES]
    form = _forms(names).get(fingerprint)
    if form is None:
        message = (
            f"a record has the schema fingerprint {fingerprint.hex()}, known are those of {', '.join(names)}; "
            "it is of another record or of a newer Tailrace"
        )
        raise CodecError(message)
    return form


_Kind = TypeVar("_Kind", bound=StrEnum)


def _one_of(kinds: type[_Kind], text: str) -> _Kind:
    try:
        return kinds(text)
    except ValueError as cause:
        message = f"a record asks for {text[:40]!r}, known are {', '.join(kinds)}; it is of a newer Tailrace"
        raise CodecError(message) from cause


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


def _in_order(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return dict(sorted(mapping.items()))
