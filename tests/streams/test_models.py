"""Which state serves while branches come and go in the learner of this process."""

from __future__ import annotations

from tests.log_builders import BRANCH, begun, make_branch, make_fold

from tailrace.streams.followers import Models

FOREIGN = make_branch(versions={"river": "2"})


def test_what_served_goes_on_where_the_log_promotes_what_cannot_be_folded_here() -> None:
    """
    Without it a learner would answer nothing from the moment on at which a branch of newer libraries is promoted.
    """
    state = begun(make_fold())
    models = Models(live=state)
    before = models.current()
    state.pointers.admitted[FOREIGN.lineage] = FOREIGN.text
    state.pointers.champion = FOREIGN.lineage
    state.position += 7

    found = models.current()

    assert before is not None
    assert found is not None
    assert (BRANCH.lineage, 7) == (found.version, found.position)


def test_nothing_serves_where_nothing_that_can_be_folded_here_ever_did() -> None:
    state = begun(make_fold())
    state.pointers.champion = FOREIGN.lineage

    assert Models(live=state).current() is None
