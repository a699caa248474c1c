"""What happens in the demo: which page is seen, what is said of it, and how late. Pure: a seed decides it all.

Most verdicts come once, 0.2 to 3 s after their page. A few pages show what else happens in real streams.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tailrace.demo.dataset import Page, pages, turned

DELAY_S: Final = (0.2, 3.0)
"""Between a page and its verdict: least and most, all equally likely."""

AFTERTHOUGHT_S: Final = 0.3
"""Between a verdict and the same or another one about the same page."""

NEVER_JUDGED: Final = 0.03
"""Share of pages that get no verdict: dropped when the horizon has passed."""

JUDGED_LATE: Final = 0.004
"""Share of pages whose verdict comes when the horizon has passed: dead-lettered."""

JUDGED_TWICE: Final = 0.03
"""Share of pages whose verdict comes twice: a duplicate."""

CONTRADICTED: Final = 0.005
"""Share of pages whose verdict is contradicted: the first counts, the other is dead-lettered."""

SEEN_AGAIN: Final = 0.003
"""Share of pages whose event is sent twice: repeated, learned once."""

BROKEN: Final = 0.003
"""Share of events that the contract rejects: dead-lettered."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One label.

    Attributes:
        delay_s: After its page was seen.
    """

    delay_s: float
    is_phishing: bool


@dataclass(frozen=True, slots=True)
class Scene:
    """One page and everything that comes of it.

    Attributes:
        x: As it is sent; one value of a broken event is no number.
        times: How often the event is sent.
    """

    page_id: str
    x: Mapping[str, float | str]
    is_phishing: bool
    verdicts: tuple[Verdict, ...]
    times: int = 1


class Script:
    """Yields the scenes.

    Args:
        first: Number of the first page; ids are made of it.
        horizon_s: How long a page waits for its verdict.
    """

    def __init__(self, seed: int, *, first: int = 0, horizon_s: float) -> None:
        self._rng = random.Random(seed)  # noqa: S311 - a script, no secret
        self._pages = pages(seed)
        self._number = first
        self._horizon_s = horizon_s

    def next(self, *, has_drifted: bool) -> Scene:
        """Return the next scene; after the drift pages look different."""
        page = next(self._pages)
        page = turned(page) if has_drifted else page
        page_id = f"page-{self._number:06d}"
        self._number += 1
        if self._rng.random() < BROKEN:
            return Scene(page_id, {**page.x, "https": "maybe"}, page.is_phishing, ())
        times = 2 if self._rng.random() < SEEN_AGAIN else 1
        return Scene(page_id, page.x, page.is_phishing, self._verdicts(page), times)

    def _verdicts(self, page: Page) -> tuple[Verdict, ...]:
        delay_s, fate = self._rng.uniform(*DELAY_S), self._rng.random()
        if fate < (below := NEVER_JUDGED):
            return ()
        if fate < (below := below + JUDGED_LATE):
            return (Verdict(self._horizon_s + delay_s, page.is_phishing),)
        first = Verdict(delay_s, page.is_phishing)
        if fate < (below := below + JUDGED_TWICE):
            return first, Verdict(delay_s + AFTERTHOUGHT_S, page.is_phishing)
        if fate < below + CONTRADICTED:
            return first, Verdict(delay_s + AFTERTHOUGHT_S, not page.is_phishing)
        return (first,)
