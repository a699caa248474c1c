"""A process that serves the API on loopback, and clients that ask it from threads of their own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.log_forms import LogForm
from tests.scenarios.harness import Scenario

from tailrace.client import Client
from tailrace.domain.access import Scope
from tailrace.main import Process
from tailrace.stores.token_file import TokenFile

T = TypeVar("T")


def free_address() -> str:
    """Return an address of this machine that nobody listens to now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"127.0.0.1:{probe.getsockname()[1]}"


@dataclass
class Served:
    """A loop whose process serves the API.

    Attributes:
        token: With every scope.
    """

    scenario: Scenario
    process: Process
    address: str
    token: str

    @property
    def name(self) -> str:
        """The loop."""
        return self.scenario.domain.name

    def client(self, *, token: str | None = None, **options: Any) -> Client:
        """Return a client."""
        return Client(f"http://{self.address}", token=token or self.token, **options)

    async def ask(self, question: Callable[[Client], T], **options: Any) -> T:
        """Ask from a thread, while the process runs on in this one."""

        def answer() -> T:
            with self.client(**options) as client:
                return question(client)

        return await asyncio.to_thread(answer)


def make_token(folder: Path, scopes: Iterable[Scope] = Scope, **options: Any) -> str:
    """Make a token for the configuration of a folder; return its text."""
    return TokenFile(folder / "keys").create(scopes, 0, **options)[0]


@asynccontextmanager
async def served(form: LogForm, folder: Path, *, partitions: int = 2, **changes: Any) -> AsyncIterator[Served]:
    """Run a process that serves the API."""
    address = free_address()
    scenario = await Scenario.make(form, folder, partitions=partitions, http=address, **changes)
    try:
        token = make_token(folder)
        process = await scenario.start()
        yield Served(scenario, process, address, token)
    finally:
        await scenario.close()
