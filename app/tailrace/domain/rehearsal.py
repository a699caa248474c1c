"""Rehearsal: what a branch would have answered if it had served, judged beside what was served.

Every example says at which position the state stood that served it. A branch is asked about the example as of that
same position, while it is folded: it knows no label that the serving model could not know. Both answers are judged
with the same target, in River's arithmetic. An answer made any later would favour models that memorise.

Steps, as the caller takes them:
    1. `note`: the examples to be answered, from the end of the log backwards, until there are enough.
    2. `fold`: every record of the log in order, up to its end or beyond the last example noted.
    3. `comparison`: what it came to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from tailrace.domain.blocks import Examples, Served, TrainingBlock, XColumns
from tailrace.domain.branches import Branch, BranchState
from tailrace.domain.evaluation.prequential import ALL, Quality
from tailrace.domain.learning import Fold
from tailrace.domain.notices import Logged, Notices, lessons_of
from tailrace.domain.positions import Position, offset_of, position_of, row_of
from tailrace.domain.records import Task
from tailrace.domain.scoring import score
from tailrace.domain.state import LoopState

_PERCENT: Final = 100.0
_METRIC: Final = {
    Task.BINARY: "accuracy",
    Task.MULTICLASS: "accuracy",
    Task.REGRESSION: "mae",
    Task.ANOMALY: "roc_auc",
}
"""Task → the metric that is told to people, which rests on every answer."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was served and what a branch would have answered, on the same examples.

    Attributes:
        examples: That were judged. Those that the branch leaves out, and blocks that do not count, are not among them.
        served, branch: Metric → value, over all of them; None: nothing could be judged.
        differing: Examples to which the branch answers another class or number.
        difference: Mean distance of the probabilities of True, or of the numbers, where both answered; of a
            multiclass task that of the probabilities of all classes. None: none to compare.
    """

    task: Task
    examples: int
    served: Mapping[str, float | None]
    branch: Mapping[str, float | None]
    differing: int
    difference: float | None

    def in_words(self) -> str:
        """Return one sentence for people who are no data scientists."""
        if not self.examples:
            return "no example of the log could be compared"
        metric = _METRIC[self.task]
        told = {"branch": self.branch[metric], "what served": self.served[metric]}
        shown = {name: "nothing to judge" if value is None else _shown(metric, value) for name, value in told.items()}
        examples = "1 example" if self.examples == 1 else f"{self.examples:,} examples"
        return (
            f"of {examples} {shown['branch']}, what served {shown['what served']}; "
            f"{self.differing:,} answers would differ"
        )


class Rehearsal:
    """The rehearsal of one branch.

    Attributes:
        noted: Examples that are to be answered.
    """

    def __init__(self, fold: Fold, branch: Branch) -> None:
        self.noted = 0
        self._fold = fold
        self._branch = branch
        self._blocks: dict[int, tuple[int, Examples]] = {}  # offset → its first row that is to be answered
        self._answers: dict[int, Served] = {}
        self._pending: list[tuple[Position, int, int]] = []  # to be answered as of, offset, row; the nearest is last
        self._cuts: dict[int, set[int]] = {}
        self._is_sorted = True
        self._judged: set[int] = set()
        task = fold.target.task
        self._served, self._branchs = Quality(task), Quality(task)
        self._differing = 0
        self._distances: list[float] = []

    def note(self, offset: int, block: TrainingBlock, at_most: int) -> None:
        """Let the last `at_most` examples of a block be answered.

        Whether the block counts is seen when it is folded; examples of another contract cannot be asked about.
        """
        examples = block.examples
        first = max(0, len(examples) - at_most)
        count = len(examples) - first
        if block.contract_id != self._fold.contract.id or count <= 0:
            return
        self._blocks[offset] = first, examples
        width = examples.served.proba.shape[1]
        self._answers[offset] = Served(np.full(len(examples), np.nan), np.full((len(examples), width), np.nan))
        for row, served_at in enumerate(examples.state_positions[first:].tolist(), first):
            at = min(served_at, position_of(offset))
            self._pending.append((at, offset, row))
            if row_of(at):
                self._cuts.setdefault(offset_of(at), set()).add(row_of(at))
        self._is_sorted = False
        self.noted += count

    def fold(self, state: LoopState, record: Logged, notices: Notices) -> None:
        """Fold the next record, and answer and judge what stands there.

        A stretch that is folded again after an error is answered as the first time.

        Raises:
            FoldError: The model raised at an example that the notices do not skip.
        """
        offset = record.offset
        block = self._fold.open(state, offset, record.record, record.digest)
        if block is None:
            return
        rows = len(block.examples)
        start = row_of(state.position)
        for stop in [*(cut for cut in sorted(self._cuts.get(offset, ())) if start < cut < rows), rows]:
            self._answer(state)
            if start == 0:
                self._judge(offset, notices)
            self._fold.learn(state, block, offset, start, stop, notices)
            start = stop
        self._fold.close(state, offset)

    def comparison(self) -> Comparison:
        """Return what the examples that were folded come to."""
        distances = self._distances
        return Comparison(
            self._fold.target.task,
            self._served.abstained + _samples(self._served),
            _values(self._served),
            _values(self._branchs),
            self._differing,
            sum(distances) / len(distances) if distances else None,
        )

    def _answer(self, state: LoopState) -> None:
        """Answer what was served by a state that held no more than this one."""
        if not self._is_sorted:
            self._pending.sort(reverse=True)
            self._is_sorted = True
        while self._pending and self._pending[-1][0] <= state.position:
            _, offset, row = self._pending.pop()
            self._ask(state.branches[self._branch.lineage], offset, row)

    def _ask(self, branch: BranchState, offset: int, row: int) -> None:
        x = _row(self._blocks[offset][1].x, row)
        scores = score(branch.model, self._fold.contract.rows(x), self._fold.target, branch.categories)
        answers = self._answers[offset]
        answers.y_pred[row], answers.proba[row] = scores.served.y_pred[0], scores.served.proba[0]

    def _judge(self, offset: int, notices: Notices) -> None:
        if offset not in self._blocks or offset in self._judged:
            return
        self._judged.add(offset)
        first, examples = self._blocks.pop(offset)
        answers = self._answers.pop(offset)
        lessons = lessons_of(
            examples,
            position_of(offset),
            self._branch.filter,
            notices.of(self._branch.lineage),
            notices.corrections,
        )
        rows = np.array([row for row in range(first, len(examples)) if row not in lessons.left_out], np.intp)
        served = Served(examples.served.y_pred[rows], examples.served.proba[rows])
        answered = Served(answers.y_pred[rows], answers.proba[rows])
        self._served.update_many(lessons.y[rows], served)
        self._branchs.update_many(lessons.y[rows], answered)
        self._compare(served, answered)

    def _compare(self, served: Served, answered: Served) -> None:
        ours, theirs = answered.y_pred, served.y_pred
        is_same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
        self._differing += int(np.count_nonzero(~is_same))
        if self._fold.target.task.answers_numbers:
            apart = np.abs(ours - theirs)
        else:
            apart = np.abs(answered.proba - served.proba).ravel()
        self._distances += apart[~np.isnan(apart)].tolist()


def _shown(metric: str, value: float) -> str:
    if metric == "roc_auc":
        return f"a ROC AUC of {value:.3f}"
    return f"{value * _PERCENT:.1f} % right" if metric == "accuracy" else f"off by {value:.4g} on average"


def _row(x: XColumns, row: int) -> XColumns:
    one = slice(row, row + 1)
    return XColumns(x.numbers[one], x.integers[one], x.strings[one], None if x.absent is None else x.absent[one])


def _samples(quality: Quality) -> int:
    samples: int = quality.metrics[_METRIC[quality.task]].samples
    return samples


def _values(quality: Quality) -> dict[str, float | None]:
    return {figure.metric: figure.value for figure in quality.figures() if figure.window == ALL}
