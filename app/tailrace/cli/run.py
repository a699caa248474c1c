"""`tailrace run`: the worker."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Final, Literal

from cyclopts import App, Parameter

from tailrace.cli.check import groups_of, topics_of
from tailrace.cli.exits import Exit, UsageError
from tailrace.cli.model_check import canonical_model, check_texts, model_check
from tailrace.cli.options import ConfigFile
from tailrace.cli.output import talk
from tailrace.cli.schema_check import check_schemas
from tailrace.domain.errors import SettingsError
from tailrace.domain.status import Role
from tailrace.settings import LoopSettings, Settings, find_file, free_port, load

RunRole = Literal["score", "join", "learn", "follow", "api"]

GUARANTEE: Final = "at least once; each example is learned at most once, which the training log decides"

_MAX_INSTANCE_CHARS: Final = 128


def register(app: App) -> None:
    """Add the command."""
    app.command(run)


def run(
    *,
    role: Annotated[
        list[RunRole] | None,
        Parameter(
            negative="",
            help="Do only this; may be given more than once. Without it: score, join and learn. follow: fold the log "
            "beside the learner, compare, and be ready to take over. api: serve the HTTP API alone, with the newest "
            "published state.",
        ),
    ] = None,
    instance_id: Annotated[
        str | None,
        Parameter(help="A name that no other process ever has, for static membership in Kafka's groups."),
    ] = None,
    http: Annotated[str | None, Parameter(help="HOST:PORT of /livez, /readyz and /metrics; empty: none.")] = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Parameter(help="What is logged at least.")
    ] = "info",
    log_format: Annotated[
        Literal["auto", "console", "json"], Parameter(help="auto: lines for people on a terminal, else JSON.")
    ] = "auto",
    config: ConfigFile = None,
) -> int:
    """Score events, join labels, learn and take snapshots, until SIGTERM or Ctrl-C.

    Waits while the log does not answer or topics are missing, and says so. Ends
    with 0 after an orderly stop; with 75 in a state that only a new process
    gets out of: let systemd or Kubernetes start it again.

    tailrace run
    tailrace run --role score --http 127.0.0.1:0
    tailrace run --role follow --role learn
    """
    _check_instance(instance_id)
    roles = tuple(dict.fromkeys(Role(each) for each in role)) if role else None
    settings = _settings(config, http)
    if roles and Role.API in roles and not (settings.http and settings.api.enabled):
        raise UsageError("--role api: found no API to serve; allowed: an address in http, and api.enabled = true")
    for line in banner(settings, roles or _ALL, config):
        talk(line)
    from tailrace import main  # noqa: PLC0415 - loads River, Faust and the client of Kafka

    code = main.run(
        settings, roles or main.ALL_ROLES, instance_id=instance_id, log_level=log_level, log_format=log_format
    )
    if code == Exit.OK:
        talk("stopped")
    return code


def banner(settings: Settings, roles: Iterable[Role], config: Path | None = None) -> Iterator[str]:
    """Yield what a person wants to know of a worker that starts."""
    names = {role.value for role in roles}
    yield f"tailrace worker, process {os.getpid()}, Python {platform.python_version()}"
    yield _line("config", str(find_file(config)))
    yield _line("log", settings.log)
    yield _line("roles", ", ".join(name for name in _ROLE_NAMES if name in names))
    for name, loop in settings.loops.items():
        yield from _of_loop(name, loop, settings, names)
    yield _line("snapshots", settings.snapshots.store)
    yield _line("keys", str(settings.keys.folder))
    yield _line("guarantee", GUARANTEE)
    if settings.http:
        scheme = "http" if settings.api.tls_cert_file is None else "https"
        paths = ("/livez", "/readyz", "/metrics", *(["/v1"] if settings.api.enabled else []))
        yield _line("http", "  ".join(f"{scheme}://{settings.http}{path}" for path in paths))
    else:
        yield _line("http", "off")


def _of_loop(name: str, loop: LoopSettings, settings: Settings, roles: set[str]) -> Iterator[str]:
    yield _line("loop", f"{name} ({loop.task.value})")
    yield _line("  reads", f"{loop.events.topic}, {loop.labels.topic}")
    yield _line("  writes", ", ".join(topics_of(name, loop)))
    yield _line("  groups", ", ".join(group for group in groups_of(name) if group.rsplit(".", 1)[1] in roles))
    yield _line("  model", canonical_model(loop, settings.folder))


def _settings(config: Path | None, http: str | None) -> Settings:
    """Read the settings, with a port that is free now; a taken one is refused where one sentence can say it.

    --http goes in as its variable would, so that it is checked and refused like that.
    """
    environ = dict(os.environ) if http is None else {**os.environ, "TAILRACE_HTTP": http}
    settings = load(config, environ=environ, check_model=model_check(find_file(config).parent))
    check_schemas(settings)
    check_texts(settings)
    if settings.http_address is None:
        return settings
    host, port = settings.http_address
    free = free_port(host, port)
    if free is None:
        problem = f"http: {settings.http} cannot be listened on; another worker or another program has it"
        raise SettingsError([f'{problem}. Stop that one, or name a free --http HOST:PORT, or none: --http ""'])
    shown = f"[{host}]" if ":" in host else host
    return settings.model_copy(update={"http": f"{shown}:{free}"})


def _check_instance(instance_id: str | None) -> None:
    if instance_id is None:
        return
    allowed = instance_id.isascii() and all(char.isalnum() or char in "._-" for char in instance_id)
    if not allowed or not 0 < len(instance_id) <= _MAX_INSTANCE_CHARS:
        raise UsageError(
            f"--instance-id: found {instance_id!r}; allowed: up to {_MAX_INSTANCE_CHARS} letters, digits, '.', '_', '-'"
        )


def _line(head: str, text: str) -> str:
    return f"{head:<11}{text}"


_ALL: Final = (Role.SCORE, Role.JOIN, Role.LEARN)
_ROLE_NAMES: Final = (*(role.value for role in _ALL), Role.FOLLOW.value, Role.API.value)
