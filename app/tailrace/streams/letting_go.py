"""Lets a service go that another one has begun while it ran, however little time there is for that."""

from __future__ import annotations

from mode import Service


async def let_go(parent: Service, child: Service) -> None:
    """Stop what `parent.add_runtime_dependency` was given, and keep nothing of it, also where the stop is cut short.

    mode forgets a child only after a stop that ends. A revocation has no time for each: those that are cut short would
    be kept, with all that they hold, for as long as the process lives.
    """
    try:
        await parent.remove_dependency(child)
    finally:
        if child in parent._children:  # noqa: SLF001 - mode has no other way
            parent._children.remove(child)  # noqa: SLF001
            child.beacon.detach(parent.beacon)
            for task in child._futures:  # noqa: SLF001
                task.cancel()
