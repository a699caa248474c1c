"""`tailrace labels send`: close the loop by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import App, Parameter

from tailrace.cli.events import print_sent
from tailrace.cli.exits import UsageError
from tailrace.cli.files import lines_of
from tailrace.cli.options import ConfigFile, OutputFormat
from tailrace.cli.schema_check import json_only
from tailrace.cli.session import LoopName, ask, loop_of, now_ms
from tailrace.domain.contract import TargetContract
from tailrace.domain.records import Rejection, Task
from tailrace.domain.times import TimeUnit, rfc3339
from tailrace.settings import LabelsSettings, LoopSettings, load

if TYPE_CHECKING:
    from tailrace.inspection.reading import Reading
    from tailrace.inspection.sending import Sent

_PER_MS: Final[dict[TimeUnit, int]] = {"ms": 1, "us": 1_000, "ns": 1_000_000}


def register(app: App) -> None:
    """Add the commands."""
    group = App(name="labels", help="Send labels by hand.")
    group.command(send)
    app.command(group)


def send(
    *,
    id_: Annotated[str | None, Parameter(name="--id", help="Id of the event.")] = None,
    value: Annotated[
        str | None, Parameter(help="The outcome, as your labels write it.", allow_leading_hyphen=True)
    ] = None,
    file: Annotated[
        str | None,
        Parameter(help="Instead of both: JSON lines file, one label per line; - is stdin.", allow_leading_hyphen=True),
    ] = None,
    withdraw: Annotated[
        bool, Parameter(negative=(), help="Instead of --value: take back what lower revisions said.")
    ] = False,
    revision: Annotated[int | None, Parameter(help="Revision of the label: of one event the highest counts.")] = None,
    source: Annotated[str | None, Parameter(help="Who says so.")] = None,
    loop: LoopName = None,
    config: ConfigFile = None,
    output_format: OutputFormat = None,
) -> None:
    """Send a label, keyed by the event's id and partitioned as Kafka's own clients do; a time field says now.

    tailrace labels send --id page-17 --value phishing
    tailrace labels send --id page-17 --value fine --revision 2
    tailrace labels send --id page-17 --withdraw --revision 3
    tailrace labels send --file labels.jsonl
    """
    is_by_hand = id_ is not None or value is not None or withdraw
    is_label = id_ is not None and (value is None) == withdraw
    if is_by_hand != is_label or is_by_hand == (file is not None):
        raise UsageError("give either --id and --value, --id and --withdraw, or --file")
    settings = load(config)
    _, chosen = loop_of(settings, loop)
    if withdraw and not chosen.takes_withdrawals:
        raise UsageError("--withdraw: this loop takes none; it needs labels.revision and corrections_within above 0s")
    words = words_of(chosen.labels, revision, source)
    json_only(chosen.labels, "`labels send`")

    async def act(reading: Reading) -> Sent:
        from tailrace.inspection import sending  # noqa: PLC0415 - loads the client of Kafka

        def values() -> Iterator[bytes]:
            if file is not None:
                yield from lines_of(file)
            else:
                yield sending.nested(label_fields(chosen, str(id_), target, now_ms()) | words)

        return await sending.send(reading, chosen.labels.topic, chosen.labels.id, values())

    target = None if value is None else target_of(value, chosen.target)
    print_sent(ask(settings, act), output_format)


def label_fields(loop: LoopSettings, event_id: str, target: object, at_ms: int) -> dict[str, object]:
    """Return the fields of a label: path → value."""
    labels = loop.labels
    fields: dict[str, object] = {labels.id: event_id, labels.target: target}
    if labels.time is not None:
        fields[labels.time] = _time(labels, at_ms)
    return fields


def words_of(labels: LabelsSettings, revision: int | None, source: str | None) -> dict[str, object]:
    """Return the fields of a label that say which revision it is and who gives it: path → value.

    Raises:
        UsageError: The loop's labels have no such field.
    """
    fields: dict[str, object] = {}
    for option, path, word in (("revision", labels.revision, revision), ("source", labels.source, source)):
        if word is None:
            continue
        if path is None:
            raise UsageError(f"--{option}: the labels of this loop have no such field; name it with labels.{option}")
        fields[path] = word
    return fields


def target_of(text: str, contract: TargetContract) -> Any:
    """Return the outcome that a person typed as the loop's labels would write it.

    Raises:
        UsageError: The loop takes no such outcome.
    """
    for candidate in (text, *_as_json(text)):
        if not isinstance(contract.read(candidate), Rejection):
            return candidate
    raise UsageError(f"--value: found {text!r}; allowed: {_allowed(contract)}")


def _allowed(contract: TargetContract) -> str:
    if contract.task is Task.MULTICLASS:
        return ", ".join(map(_shown, contract.classes))
    if contract.task is Task.REGRESSION:
        return "a finite number"
    return f"{_shown(contract.positive)} or {_other(contract)}"


def _other(contract: TargetContract) -> str:
    if contract.negative is not None:
        return _shown(contract.negative)
    if isinstance(contract.positive, bool):
        return _shown(not contract.positive)
    return "any other of its type"


def _shown(target: object) -> str:
    return target if isinstance(target, str) else json.dumps(target)


def _as_json(text: str) -> list[object]:
    try:
        return [json.loads(text)]
    except ValueError:
        return []


def _time(labels: LabelsSettings, at_ms: int) -> object:
    # Text says its own unit; a number would have to be cut where the unit is seconds.
    if labels.time_unit in _PER_MS:
        return at_ms * _PER_MS[labels.time_unit]
    return rfc3339(at_ms)
