"""Which event loop a process runs on."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec


def new_loop(*, serves_tls: bool = False) -> asyncio.AbstractEventLoop:
    """Return a loop of uvloop, where it is installed (the extra `fast`), else one of asyncio.

    Args:
        serves_tls: By HTTP. Then asyncio's in any case: uvloop accepts connections itself, and nobody could bound how
            many wait for their handshake.
    """
    if serves_tls or find_spec("uvloop") is None:
        return asyncio.new_event_loop()
    import uvloop  # noqa: PLC0415 - an extra

    return uvloop.new_event_loop()
