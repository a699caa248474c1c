"""A change of the loss becomes a signal, once, and the detector survives a restore."""

from __future__ import annotations

import random

from river import drift

from tailrace.domain.drift import LossDrift


def errors(count: int, share: float, seed: int = 1) -> list[float]:
    rng = random.Random(seed)
    return [float(rng.random() < share) for _ in range(count)]


def test_a_rising_loss_is_signalled_as_worse_where_rivers_adwin_sees_it() -> None:
    losses = errors(600, 0.1) + errors(600, 0.6)
    river, expected = drift.ADWIN(), []
    for position, loss in enumerate(losses):
        river.update(loss)
        if river.drift_detected:
            expected.append(position)

    found = LossDrift().update_many(range(len(losses)), losses)

    assert expected == [signal.position for signal in found]
    assert found[0].is_worse
    assert found[0].before < 0.2 < found[0].after


def test_a_falling_loss_is_signalled_as_no_worse() -> None:
    losses = errors(600, 0.6) + errors(600, 0.1)

    found = LossDrift().update_many(range(len(losses)), losses)

    assert [False] == [signal.is_worse for signal in found]


def test_a_steady_loss_is_no_drift() -> None:
    detector = LossDrift()

    assert [] == detector.update_many(range(2_000), errors(2_000, 0.3))
    assert (0, -1, 2_000) == (detector.signals, detector.last, detector.width)


def test_slices_and_restores_leave_no_trace() -> None:
    losses = errors(600, 0.1) + errors(600, 0.7) + errors(600, 0.1)
    at_once, sliced = LossDrift(), LossDrift()
    expected = at_once.update_many(range(len(losses)), losses)

    found = []
    for start in range(0, len(losses), 7):
        part = losses[start : start + 7]
        found += sliced.update_many(range(start, start + len(part)), part)
        sliced = LossDrift.load(sliced.dump())

    assert expected == found
    assert 2 <= len(found)
    assert (at_once.signals, at_once.last) == (sliced.signals, sliced.last)
