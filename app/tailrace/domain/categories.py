"""Categories without a list: which values a model has come to know, in the order of the log.

A contract bounds what *one* record may say; how many values there are in all is known only after reading them. So
the set is kept in the fold: the first `most` values of learned examples are known, in log order, every later one is
"other", for ever. Scored records and the log carry the value as it came; it is mapped where a model learns or
answers, by the set of the state that the model belongs to.

Invariant: a set only grows, at the position of the example that brings the value. So how examples are sliced leaves
no trace, and no model holds more than `most` values and "other" of one feature, whatever is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tailrace.domain.records import Features

OTHER: Final = "other"
"""The category that stands for every value that is not listed, or not known."""


@dataclass(slots=True)
class CategoriesState:
    """What one model knows of the open categories of its contract.

    Attributes:
        most: Feature → how many values of it are known at most, besides "other".
    """

    most: Mapping[str, int] = field(default_factory=dict)
    _known: dict[str, dict[str, None]] = field(init=False)

    def __post_init__(self) -> None:
        self.most = dict(sorted(self.most.items()))
        self._known = {name: {} for name in self.most}

    def __bool__(self) -> bool:
        """Whether the contract has any open category."""
        return bool(self.most)

    def known(self, feature: str) -> tuple[str, ...]:
        """Return the known values of a feature, oldest first."""
        return tuple(self._known[feature])

    def learn(self, x: Features) -> Features:
        """Note what one example brings; return it as the model is to learn it.

        Called once per learned example, in log order, and for nothing else.
        """
        for name, known in self._known.items():
            value = x.get(name)
            if isinstance(value, str) and value != OTHER and len(known) < self.most[name]:
                known[value] = None
        return self.view(x)

    def view(self, x: Features) -> Features:
        """Return a row as the model knows it: "other" for what can never become known, everything else as it is.

        A value that is new while there is room is shown as it is: the example that brings it will be learned so.
        """
        for name, known in self._known.items():
            value = x.get(name)
            if value is not None and value not in known and len(known) >= self.most[name]:
                x = x | {name: OTHER}
        return x

    def view_rows(self, rows: Sequence[Features]) -> Sequence[Features]:
        """Return `view` each."""
        return [self.view(x) for x in rows] if self.most else rows

    def dump(self) -> dict[str, Any]:
        """Return the plain form, for the codec."""
        return {name: {"most": most, "values": list(self._known[name])} for name, most in self.most.items()}

    @classmethod
    def load(cls, plain: Mapping[str, Any]) -> CategoriesState:
        """Make the state from its plain form.

        Raises:
            ValueError: It holds what `dump` never writes.
        """
        state = cls({name: each["most"] for name, each in plain.items()})
        for name, each in plain.items():
            state._known[name] = _ordered_set(each["values"], each["most"])
        return state


def _ordered_set(values: Iterable[object], most: int) -> dict[str, None]:
    found = {value: None for value in values if isinstance(value, str) and value != OTHER}
    if len(found) != len(list(values)) or len(found) > most:
        raise ValueError(f"known categories are not up to {most} different texts")
    return found
