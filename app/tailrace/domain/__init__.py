"""What Tailrace decides: pure and deterministic, without clock, environment, I/O or asyncio.

Functions return outcomes; the agents carry them out. Whatever must be asked for (records to replay, a snapshot) is
passed in. The arrows inside, bottom to top; a module may import those above its line here and nothing else of ours:

    access, errors, positions, times
    records, drift, snapshots, proof, sizing
    categories, status
    branches
    blocks, models, ownership, pointers, verdicts
    layout, join, evaluation, books, notices, headlines
    state
    features, erasure
    contract
    scoring, learning, compiling
    explanation, rehearsal

`LEVELS` says the same to a test.
"""

from __future__ import annotations

from typing import Final

LEVELS: Final = (
    frozenset({"access", "errors", "positions", "times"}),
    frozenset({"records", "drift", "snapshots", "proof", "sizing"}),
    frozenset({"categories", "status"}),
    frozenset({"branches"}),
    frozenset({"blocks", "models", "ownership", "pointers", "verdicts"}),
    frozenset({"layout", "join", "evaluation", "books", "notices", "headlines"}),
    frozenset({"state"}),
    frozenset({"features", "erasure"}),
    frozenset({"contract"}),
    frozenset({"scoring", "learning", "compiling"}),
    frozenset({"explanation", "rehearsal"}),
)
"""Modules and folders of the domain by level; arrows point from a later to an earlier one."""
