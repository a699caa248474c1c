"""Vowpal Wabbit in River's place: logistic loss, one line of text an example."""

from __future__ import annotations

from typing import Any

from benchmarks.peer import PeerLoop

ARGUMENTS = "--loss_function logistic --link logistic --quiet"


def text_of(x: dict[str, float]) -> str:
    """Return the features as Vowpal Wabbit reads them."""
    return " ".join([f"{name}:{value}" for name, value in x.items()])


class VwLoop(PeerLoop):
    """The same loop; what waits is the text."""

    def build(self) -> Any:
        from vowpalwabbit import Workspace  # noqa: PLC0415 - lies in the peer's environment

        return _Vw(Workspace(ARGUMENTS))

    def event(self, event_id: str, x: Any) -> float:
        return super().event(event_id, text_of(x))


class _Vw:
    """Speaks River's words."""

    def __init__(self, workspace: Any) -> None:
        self._predict, self._learn = workspace.predict, workspace.learn

    def predict_proba_one(self, text: str) -> dict[bool, float]:
        return {True: self._predict(f"| {text}")}

    def learn_one(self, text: str, y: bool) -> None:  # noqa: FBT001 - River's signature
        self._learn(f"{'1' if y else '-1'} | {text}")
