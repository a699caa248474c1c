"""`tailrace tokens`: who may use the HTTP API of this machine's processes, and for what."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from cyclopts import App, Parameter

from tailrace.cli import output
from tailrace.cli.exits import UsageError
from tailrace.cli.files import write_new
from tailrace.cli.options import ConfigFile, OutputFormat
from tailrace.cli.session import now_ms
from tailrace.domain.access import SCOPE_MEANINGS, Scope, Token
from tailrace.domain.errors import SettingsError
from tailrace.settings import load, parse_duration

if TYPE_CHECKING:
    from tailrace.stores.token_file import TokenFile

COLUMNS: Final = ("id", "ends_with", "scopes", "state", "created", "expires", "comment")

ScopeName = Literal["read", "predict", "event", "label", "snapshot"]


def register(app: App) -> None:
    """Add the commands."""
    group = App(name="tokens", help="Tokens of the HTTP API: make them, list them, revoke them.")
    group.command(create)
    group.command(show, name="list")
    group.command(revoke)
    app.command(group)


def create(
    *,
    scope: Annotated[
        list[ScopeName],
        Parameter(
            negative="",
            help="What it is for; may be given more than once. "
            + "; ".join(f"{name}: {meaning}" for name, meaning in SCOPE_MEANINGS.items())
            + ".",
        ),
    ],
    expires: Annotated[
        str | None,
        Parameter(
            help="When it counts no more: a span such as 90d, or a date or time as in RFC 3339. Without it: never."
        ),
    ] = None,
    comment: Annotated[str, Parameter(help="For people: who has it.")] = "",
    out: Annotated[
        Path | None,
        Parameter(help="Do not print the token: write it, alone, into this new file, which its owner alone can read."),
    ] = None,
    config: ConfigFile = None,
    output_format: OutputFormat = None,
) -> None:
    """Make a token and print it, this once: only its SHA-256 is kept.

    Processes that run take it at once. Send it as `Authorization: Bearer TOKEN`.

    tailrace tokens create --scope read --scope predict --comment "shop"
    tailrace tokens create --scope label --expires 90d --out token
    """
    at_ms = now_ms()
    expires_ms = None if expires is None else _moment(expires, at_ms)
    tokens = _opened(config)
    text, token = tokens.create(map(Scope, scope), at_ms, expires_ms=expires_ms, comment=comment)
    if out is not None:
        try:
            write_new(out, text.encode())
        except UsageError:
            tokens.revoke(token.id)
            raise
        output.record(_described(token, at_ms), output_format)
        return
    output.record({"token": text, **_described(token, at_ms)}, output_format)
    output.talk(f"this is the only time that it is shown; `tailrace tokens revoke {token.id}` takes it back")


def show(*, config: ConfigFile = None, output_format: OutputFormat = None) -> None:
    """Print what is known of the tokens; never a token.

    tailrace tokens list
    tailrace tokens list -o json
    """
    file, at_ms = _opened(config), now_ms()
    found = file.current()
    if found.problem:
        raise SettingsError([found.problem])
    output.rows([_described(token, at_ms) for token in found.tokens.values()], COLUMNS, output_format)


def revoke(
    token_id: Annotated[str, Parameter(help="As `tokens list` shows it.")],
    *,
    config: ConfigFile = None,
    output_format: OutputFormat = None,
) -> None:
    """Let a token count no more, from the next request on; nothing takes this back.

    tailrace tokens revoke 5e1f0c9b
    """
    output.record(_described(_opened(config).revoke(token_id), now_ms()), output_format)


def _opened(config: Path | None) -> TokenFile:
    from tailrace.stores.token_file import TokenFile  # noqa: PLC0415 - loads cryptography

    return TokenFile(load(config).keys.folder)


def _moment(text: str, at_ms: int) -> int:
    from tailrace.stores.key_folder import parse_time  # noqa: PLC0415 - loads cryptography

    try:
        moment_ms = at_ms + parse_duration(text)
    except ValueError:
        try:
            moment_ms = parse_time(text)
        except (ValueError, OverflowError) as error:
            allowed = "a span such as 90d, or a date or time such as 2027-01-31T12:00:00Z"
            raise UsageError(f"--expires: found {text!r}; allowed: {allowed}") from error
    if moment_ms <= at_ms:
        raise UsageError(f"--expires: found {text!r}, which has passed; allowed: a moment to come")
    return moment_ms


def _described(token: Token, at_ms: int) -> dict[str, Any]:
    from tailrace.stores.key_folder import show_time  # noqa: PLC0415 - loads cryptography

    return {
        "id": token.id,
        "ends_with": token.last_four,
        "scopes": ", ".join(sorted(token.scopes)),
        "state": token.denial(at_ms) or "counts",
        "created": show_time(token.created_ms),
        "expires": show_time(token.expires_ms),
        "comment": token.comment,
    }
