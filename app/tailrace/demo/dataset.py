"""River's bundled Phishing data as an endless stream, and the drift that the demo injects into it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from river import datasets

FEATURES: Final = {
    "age_of_domain": "integer",
    "anchor_from_other_domain": "number",
    "empty_server_form_handler": "number",
    "https": "number",
    "ip_in_url": "integer",
    "is_popular": "number",
    "long_url": "number",
    "popup_window": "number",
    "request_from_other_domain": "number",
}
"""Feature → its type; every value lies in 0..1."""

TURNED: Final = ("empty_server_form_handler", "https", "request_from_other_domain")
"""Features that mean the opposite after the drift: phishers imitate what gave honest pages away."""


class Page(NamedTuple):
    """One row: features, and what the page turned out to be."""

    x: Mapping[str, float]
    is_phishing: bool


def pages(seed: int) -> Iterator[Page]:
    """Yield the 1,250 rows for ever, each pass in an order of its own."""
    rng = random.Random(seed)  # noqa: S311 - a shuffle, no secret
    rows = [Page(dict(x), bool(y)) for x, y in datasets.Phishing()]
    while True:
        rng.shuffle(rows)
        yield from rows


def turned(page: Page) -> Page:
    """Return the page as it looks after the drift."""
    return page._replace(x={name: 1.0 - value if name in TURNED else value for name, value in page.x.items()})
