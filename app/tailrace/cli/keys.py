"""`tailrace keys`: who may sign snapshots and commands, on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias

from cyclopts import App, Parameter

from tailrace.cli import output
from tailrace.cli.exits import UsageError
from tailrace.cli.options import ConfigFile, OutputFormat
from tailrace.cli.session import now_ms
from tailrace.settings import load

if TYPE_CHECKING:
    from tailrace.stores.key_folder import KeyFolder
    from tailrace.stores.signing import TrustedKey

# cryptography is loaded where a command needs it: `tailrace --help` does without.

COLUMNS: Final = ("key", "purpose", "state", "signs_here", "valid_from", "valid_to", "comment")

PurposeName: TypeAlias = Annotated[
    Literal["snapshots", "commands"],
    Parameter(help="snapshots: the learner signs them; commands: a person does."),
]
Moment: TypeAlias = Annotated[
    str | None, Parameter(help="A date, or a time as in RFC 3339; UTC where no zone is given.")
]


def register(app: App) -> None:
    """Add the commands."""
    group = App(name="keys", help="Keys that sign snapshots and commands: make them, trust them, revoke them.")
    group.command(generate)
    group.command(show, name="list")
    group.command(trust)
    group.command(revoke)
    app.command(group)


def generate(
    *,
    purpose: PurposeName = "snapshots",
    replace: Annotated[
        bool, Parameter(negative="", help="Where there is a key: make a new one, which signs from now on.")
    ] = False,
    comment: Annotated[str, Parameter(help="For people.")] = "",
    config: ConfigFile = None,
    output_format: OutputFormat = None,
) -> None:
    """Make a private key on this machine and trust it here; its public half is for `keys trust` elsewhere.

    A learner that finds no key makes one by itself. With --replace the key is
    rotated: a learner that runs signs its next snapshot with the new one; what
    the old one signed counts until it is revoked.

    tailrace keys generate
    tailrace keys generate --purpose commands --comment "Ada"
    """
    from tailrace.stores.signing import Purpose  # noqa: PLC0415

    keys, chosen = _opened(config), Purpose(purpose)
    path = keys.path(chosen)
    made = keys.generate(chosen, comment=comment, is_new=not replace)
    if made is None:
        raise UsageError(f"found {path}; --replace makes another key, which signs from then on")
    found = {"key": made.key_id, "purpose": chosen.value, "file": str(path), "public": str(path.with_suffix(".pub"))}
    output.record(found, output_format)
    output.talk(f"carry {path.with_suffix('.pub').name} to the other machines and run `tailrace keys trust` there")


def show(*, config: ConfigFile = None, output_format: OutputFormat = None) -> None:
    """Print the keys whose signatures count here, and which of them sign here.

    tailrace keys list
    tailrace keys list -o json
    """
    from tailrace.domain.errors import SettingsError  # noqa: PLC0415

    keys = _opened(config)
    found = keys.trusted.current()
    if found.problem:
        raise SettingsError([found.problem])
    output.rows([_described(keys, key) for key in found.keys], COLUMNS, output_format)


def trust(
    file: Annotated[Path, Parameter(help="The .pub file that `keys generate` wrote on the other machine.")],
    *,
    purpose: PurposeName = "snapshots",
    valid_from: Annotated[Moment, Parameter(name="--from")] = None,
    valid_to: Annotated[Moment, Parameter(name="--to")] = None,
    comment: Annotated[str, Parameter(help="For people.")] = "",
    config: ConfigFile = None,
    output_format: OutputFormat = None,
) -> None:
    """Let signatures of another machine's key count here; again for the same key: with these times.

    A process that runs reads the list again by itself. Times are compared with
    the broker's time of a record, never with what the signer says.

    tailrace keys trust learner.pub
    tailrace keys trust ada.pub --purpose commands --to 2027-01-01
    """
    from tailrace.stores.key_folder import read_public  # noqa: PLC0415
    from tailrace.stores.signing import Purpose, TrustedKey  # noqa: PLC0415

    keys = _opened(config)
    from_ms, to_ms = _moment("--from", valid_from), _moment("--to", valid_to)
    if from_ms is not None and to_ms is not None and to_ms < from_ms:
        raise UsageError(f"--to: found {valid_to}, which is before --from; allowed: a later time")
    key = TrustedKey(read_public(file), Purpose(purpose), from_ms, to_ms, comment=comment)
    keys.trusted.trust(key)
    output.record(_described(keys, key), output_format)


def revoke(
    key_id: Annotated[str, Parameter(help="As `keys list` shows it.")],
    *,
    config: ConfigFile = None,
    output_format: OutputFormat = None,
) -> None:
    """Let nothing count any more that a key has signed; nothing takes this back.

    Its snapshots are refused: a learner that starts takes the newest of another
    key, else folds the log again. Do it on every machine.

    tailrace keys revoke 5e1f0c9b8a7d6e54
    """
    keys = _opened(config)
    key = keys.trusted.revoke(key_id)
    described = _described(keys, key)
    output.record(described, output_format)
    if described["signs_here"]:
        output.talk("this key signs here: `tailrace keys generate --replace` makes another one")


def _opened(config: Path | None) -> KeyFolder:
    from tailrace.stores.key_folder import KeyFolder  # noqa: PLC0415

    return KeyFolder(load(config).keys.folder)


def _moment(option: str, text: str | None) -> int | None:
    from tailrace.stores.key_folder import parse_time  # noqa: PLC0415

    try:
        return None if text is None else parse_time(text)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{option}: found {text!r}; allowed: a date, or a time such as 2027-01-31T12:00:00Z"
        ) from error


def _described(keys: KeyFolder, key: TrustedKey) -> dict[str, Any]:
    from tailrace.stores.key_folder import show_time  # noqa: PLC0415

    return {
        "key": key.key_id,
        "purpose": key.purpose.value,
        "state": _state(key),
        "signs_here": _signs_here(keys, key),
        "valid_from": show_time(key.valid_from_ms),
        "valid_to": show_time(key.valid_to_ms),
        "comment": key.comment,
        "public": key.public.hex(),
    }


def _state(key: TrustedKey) -> str:
    at_ms = now_ms()
    if key.is_revoked:
        return "revoked"
    if key.valid_from_ms is not None and at_ms < key.valid_from_ms:
        return "not yet valid"
    return "expired" if key.valid_to_ms is not None and at_ms > key.valid_to_ms else "trusted"


def _signs_here(keys: KeyFolder, key: TrustedKey) -> bool:
    """Tell by the public half beside it whether this is the private key of this machine, without reading that one."""
    from tailrace.domain.errors import SettingsError  # noqa: PLC0415
    from tailrace.stores.key_folder import read_public  # noqa: PLC0415

    path = keys.path(key.purpose)
    try:
        return path.exists() and read_public(path.with_suffix(".pub")) == key.public
    except SettingsError:
        return False
