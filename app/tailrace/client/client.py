"""The client: one method per operation."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from tailrace.client.connection import ApiError, Connection, Plain, Unreachable, listed, not_ours, object_of, token_in
from tailrace.client.tables import Predictions, Quality
from tailrace.domain.errors import SettingsError, SnapshotRefused

DEFAULT_URL: Final = "http://127.0.0.1:8321"

_PAGE: Final = 500
_RECORDS: Final = 500
_INSTANCES: Final = 256
_EXPLAINED: Final = 16
_BYTES: Final = 1_000_000  # of a part of many records
_MARKS: Final = 49_000  # of `[`, `{` and `,` in it: of more values the API refuses a body
_AHEAD: Final = timedelta(hours=1)
_BACK_AFTER_S: Final = 1.0
_LINEAGE: Final = re.compile("[0-9a-f]{1,64}")
_ADDRESS: Final = re.compile(r"(?P<name>[a-z][a-z0-9_]*)(@champion|/(?P<number>[0-9]{1,15}))?")


class Event(NamedTuple):
    """One event of a stream.

    Attributes:
        id: Where to go on behind it.
        type: `prediction`, `model-event` or `gap`.
    """

    id: str
    type: str
    data: Plain


class Client:
    """Asks one API.

    Every method that asks raises ApiError where the answer is a problem or too large, Unreachable where there is none,
    and SettingsError where the name of a loop is none.

    Args:
        url: `https://HOST[:PORT]`, or `http://` on this machine.
        token, token_file: The token, or the file that holds it; white space around it does not count.
        ca_file: PEM file of the authority of the server's certificate; the system's without it.
        timeout_s: For one try, and for the pause before another one.
        trusted: `.pub` files, or folders with a `trusted.json`: whose snapshots `model` rebuilds.

    Raises:
        SettingsError: What is given cannot be used.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        token: str | None = None,
        token_file: str | Path | None = None,
        ca_file: str | Path | None = None,
        timeout_s: float = 10.0,
        trusted: Iterable[str | Path] = (),
    ) -> None:
        if token_file is not None:
            token = token_in(Path(token_file))
        self._connection = Connection(url, token, None if ca_file is None else Path(ca_file), timeout_s)
        self._trusted = [Path(each) for each in trusted]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_cause: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of connections."""
        self._connection.close()

    def status(self) -> Plain:
        """Return what runs; `["sentence"]` says it to a person."""
        return self._connection.get("/v1/status")

    def models(self) -> list[Plain]:
        """Return the models, each with the contract of its features."""
        return listed(self._connection.get("/v1/models"), "models")

    def describe(self, name: str) -> Plain:
        """Return one of the models."""
        return self._connection.get(f"/v1/models/{_name(name)}")

    def versions(self, name: str) -> list[Plain]:
        """Return the snapshots of a model, the newest first; at most 500."""
        return listed(self._connection.get(f"/v1/models/{_name(name)}/versions", limit=_PAGE), "versions")

    def predict(self, name: str, instances: Iterable[Mapping[str, Any]], *, explain: bool = False) -> list[Plain]:
        """Ask the model about events; nothing is written, nothing is learned.

        Returns:
            An answer for each, in order: `outcome`, and `y_pred`, `proba` or, where it is "rejected", `code`.

        Raises:
            ValueError: A value is none of JSON, e.g. NaN.
        """
        answers: list[Plain] = []
        for part in _parts(instances, _EXPLAINED if explain else _INSTANCES):
            body = f'{{"instances":{part}}}'
            answer = self._connection.post(f"/v1/models/{_name(name)}:predict", body, explain=explain)
            answers += listed(answer, "predictions")
        return answers

    def write_events(self, events: Iterable[Mapping[str, Any]], *, loop: str | None = None) -> list[Plain]:
        """Write events to the log; return id, partition and offset of each.

        Raises:
            ValueError: A value is none of JSON, e.g. NaN.
        """
        return self._write("events", events, loop)

    def write_labels(self, labels: Iterable[Mapping[str, Any]], *, loop: str | None = None) -> list[Plain]:
        """Write labels to the log; return id, partition and offset of each; raises like `write_events`."""
        return self._write("labels", labels, loop)

    def predictions(self, loop: str | None = None, *, limit: int = 1_000, since: datetime | None = None) -> Predictions:
        """Return published predictions, the newest first by the broker's time.

        Args:
            limit: At most so many.
            since: Of events of this time or later; has an offset from UTC. Events come in any order, so everything is
                looked at that was published since then, or up to an hour before: an event may be dated ahead.
        """
        rows: list[Plain] = []
        cursor = None
        while len(rows) < limit:
            page = self._connection.get(
                "/v1/predictions", loop=loop, limit=min(_PAGE, limit - len(rows)), cursor=cursor
            )
            rows += [row for row in listed(page, "predictions") if since is None or _time(row, "event_time") >= since]
            cursor = page.get("next")
            if cursor is None or (since is not None and page.get("oldest") and _time(page, "oldest") < since - _AHEAD):
                break
        return Predictions(rows)

    def quality(self, name: str, *, step_s: int = 10) -> Quality:
        """Return the quality of served predictions over time, a point every `step_s` seconds at most."""
        answer = self._connection.get(f"/v1/models/{_name(name)}/metrics", step=step_s)
        return Quality(name, listed(answer, "points"))

    def events(
        self, loop: str | None = None, *, types: Sequence[str] | None = None, last_id: str | None = None
    ) -> Iterator[Event]:
        """Yield predictions and what happens to models as they come, for ever; come back by itself where it broke off.

        Args:
            types: Of `prediction` and `model-event`; None: both.
            last_id: Go on behind the event of this id.

        Raises:
            ApiError: The stream is refused; what may succeed later is tried again.
        """
        asked = None if types is None else ",".join(types)
        while True:
            headers = {} if last_id is None else {"last-event-id": last_id}
            try:
                with self._connection.lines("/v1/events", headers, loop=loop, types=asked) as lines:
                    for seen, event in _events(lines, last_id):
                        last_id = seen
                        if event is not None:
                            yield event
            except Unreachable:
                pass
            except ApiError as problem:
                if problem.status < 500 and problem.status != 429:
                    raise
            time.sleep(_BACK_AFTER_S)

    def model(
        self,
        address: str,
        *,
        lineage: str | None = None,
        functions: Mapping[str, Callable[[], Any]] | None = None,
    ) -> Any:
        """Return the model as a River object of this process, rebuilt from a snapshot that a trusted key has signed.

        Args:
            address: `NAME@champion`, the newest snapshot; or `NAME/NUMBER` of a snapshot.
            lineage: That the snapshot must be of, or how it begins, as `versions` lists it: every lineage counts from
                1. Where several have the number, the API asks for it.
            functions: Where the model is a `module:function`: that text → the function. Nothing is imported by name.

        Raises:
            SnapshotRefused: The snapshot does not verify, is not the one that was asked for, cannot be read, or is of
                other versions than are installed here.
            SettingsError: No key is trusted, or the address or the lineage is none.
        """
        from tailrace.client import rebuilding  # noqa: PLC0415 - loads River
        from tailrace.stores.snapshot_file import MAX_FILE_BYTES  # noqa: PLC0415 - loads cryptography

        match = _ADDRESS.fullmatch(address)
        if match is None:
            raise SettingsError([f"found {address!r}; allowed: NAME@champion or NAME/NUMBER"])
        if lineage is not None and _LINEAGE.fullmatch(lineage) is None:
            raise SettingsError([f"lineage: found {lineage!r}; allowed: up to 64 hex digits, as versions() lists them"])
        trust = rebuilding.trust_of(self._trusted)
        path = f"/v1/models/{match['name']}/snapshot"
        content, headers = self._connection.get_bytes(
            path, most=MAX_FILE_BYTES, number=match["number"], lineage=lineage
        )
        told = headers.get("x-tailrace-lineage", "")
        if not told.startswith(lineage or ""):
            raise SnapshotRefused("lineage", f"found a snapshot of lineage {told[:16]}; asked for is {lineage}")
        now_ms = time.time_ns() // 1_000_000
        number = None if match["number"] is None else int(match["number"])
        return rebuilding.rebuild(
            content,
            match["name"],
            number,
            told,
            trust,
            now_ms,
            functions or {},
            lambda: self.describe(match["name"]),
        )

    def _write(self, side: str, records: Iterable[Mapping[str, Any]], loop: str | None) -> list[Plain]:
        written: list[Plain] = []
        named = "" if loop is None else f',"loop":{json.dumps(loop)}'
        for part in _parts(records, _RECORDS):
            written += listed(self._connection.post(f"/v1/{side}", f'{{"{side}":{part}{named}}}'), "written")
        return written


def _name(name: str) -> str:
    if re.fullmatch("[a-z][a-z0-9_]{0,63}", name) is None:
        raise SettingsError([f"found {name!r}; allowed: the name of a loop"])
    return name


def _parts(records: Iterable[Mapping[str, Any]], most: int) -> Iterator[str]:
    """Yield JSON arrays of records, each small enough for one request; a record that is too large goes alone.

    Raises:
        ValueError: A value is none of JSON.
    """
    part: list[str] = []
    size = marks = 0
    for record in records:
        text = json.dumps(record, allow_nan=False, separators=(",", ":"))
        its_marks = 1 + sum(map(text.count, "[{,"))
        if part and (len(part) == most or size + len(text) >= _BYTES or marks + its_marks > _MARKS):
            yield f"[{','.join(part)}]"
            part, size, marks = [], 0, 0
        part.append(text)
        size += len(text) + 1
        marks += its_marks
    if part:
        yield f"[{','.join(part)}]"


def _time(row: Plain, name: str) -> datetime:
    try:
        return datetime.fromisoformat(row[name])
    except (KeyError, TypeError, ValueError) as cause:
        raise not_ours(200) from cause


def _events(lines: Iterable[str], last_id: str | None) -> Iterator[tuple[str | None, Event | None]]:
    """Yield the last id and the event of each block of lines; None where the block has no data."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        else:
            last_id = fields.get("id", last_id)
            data = fields.get("data")
            event = None if data is None else Event(last_id or "", fields.get("event", ""), object_of(data))
            yield last_id, event
            fields = {}
