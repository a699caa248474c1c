"""What the probe is asked to send."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Load:
    """What is sent.

    Attributes:
        rate: Events a second.
        seconds: Measured, after `warm_s` at the same rate.
        label_after_s: How long after its event a label is sent.
        linger_ms: How long the client gathers records for one request.
        values: A file of lines, each an event without its first two fields, a tab, and its target as JSON.
        out: Where the rows are written.
    """

    bootstrap: str
    events: str
    labels: str
    predictions: str
    rate: float
    seconds: float
    warm_s: float
    values: str
    out: str
    label_after_s: float = 0.2
    linger_ms: float = 0.0

    def text(self) -> str:
        """Return it as the argument."""
        return json.dumps(asdict(self))
