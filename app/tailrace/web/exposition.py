"""What /metrics answers: made once for all who ask within a second, one text at a time, in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from tailrace.web.sharing import Shared

KEPT_FOR_S: Final = 1.0
"""A text serves everyone who asks for its format within so long."""

_OPENMETRICS: Final = "application/openmetrics-text"
_ESCAPINGS: Final = ("underscores", "allow-utf-8", "dots", "values")
_ACCEPTED: Final = (
    "",
    _OPENMETRICS,
    *(f"{_OPENMETRICS};version=1.0.0;escaping={each}" for each in _ESCAPINGS),
    *(f"text/plain;version=1.0.0;escaping={each}" for each in _ESCAPINGS),
)


class Exposition:
    """The texts of one registry.

    The thread is of its own, so that a store that hangs in those of the event loop hides no metric.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._thread = ThreadPoolExecutor(1, "tailrace-metrics")
        self._texts: dict[str, Shared[bytes]] = {}
        for accepted in _ACCEPTED:
            encode, content_type = choose_encoder(accepted)
            self._texts.setdefault(content_type, Shared(self._look(encode), KEPT_FOR_S))

    async def text(self, accept: str) -> tuple[bytes, str]:
        """Return the text in the format that an Accept header asks for, and its media type."""
        wanted = _media_type(accept)
        if wanted not in self._texts:  # a version that whoever asks has made up: it would be a text of its own
            wanted = _media_type(_OPENMETRICS if wanted.startswith(_OPENMETRICS) else "")
        return await self._texts[wanted].get(), wanted

    def _look(self, encode: Callable[[CollectorRegistry], bytes]) -> Callable[[], Awaitable[bytes]]:
        async def look() -> bytes:
            # Some milliseconds, in which scoring goes on.
            return await asyncio.get_running_loop().run_in_executor(self._thread, encode, self._registry)

        return look


def _media_type(accept: str) -> str:
    try:
        return choose_encoder(accept)[1]
    except (TypeError, ValueError):  # a version that is no number
        return choose_encoder("")[1]
