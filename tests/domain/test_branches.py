"""A branch is what its definition says; its state refuses a body of another."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.log_builders import BRANCH, make_branch

from tailrace.domain.branches import (
    Branch,
    BranchState,
    Filter,
    differences,
    digest_of_ids,
    has_same_learner,
    hash_of_id,
    part_name,
    renewed,
)
from tailrace.domain.errors import CodecError, SnapshotRefused
from tailrace.domain.snapshots import PART_NAME


def test_a_branch_comes_back_from_its_text() -> None:
    branch = make_branch(start=7, filter=Filter(3, ("crowd",), digest_of_ids(["ab"]), 1, 9))

    assert branch == Branch.read(branch.text)
    assert branch.lineage == Branch.read(branch.text).lineage


@pytest.mark.parametrize(
    "change",
    [
        {"task": "regression"},
        {"model": "other"},
        {"experimental": True},
        {"contract_id": "other"},
        {"versions": {"river": "2"}},
        {"start": 1},
        {"filter": Filter(corrected_to=1)},
        {"filter": Filter(sources=("crowd",))},
        {"filter": Filter(ids="digest")},
        {"filter": Filter(ids_to=1)},
        {"filter": Filter(start=1)},
        {"filter": Filter(end=1)},
    ],
)
def test_whatever_stands_in_a_definition_changes_its_lineage_and_is_named(change: dict[str, Any]) -> None:
    other = make_branch(**change)

    assert BRANCH.lineage != other.lineage
    assert 1 == len(differences(BRANCH, other))
    assert [] == differences(BRANCH, make_branch())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[1]",
        BRANCH.text + " ",
        BRANCH.text.replace("false", "0"),
        BRANCH.text.replace('"start":0', '"start":-1'),
        BRANCH.text.replace("task", "tusk"),
    ],
)
def test_what_is_no_definition_is_refused(text: str) -> None:
    """
    Guards that a definition has one text, so that one lineage is never two branches: without the comparison with the
    canonical text the spaces and numbers here would be read.
    """
    with pytest.raises(CodecError, match=r"a branch has a definition that (cannot be read|is not in canonical form)"):
        Branch.read(text)


def test_a_definition_is_plain_json_that_people_can_read() -> None:
    assert {"task", "model", "experimental", "contract_id", "versions", "start", "filter"} == json.loads(
        BRANCH.text
    ).keys()


def test_a_state_comes_back_from_its_plain_form() -> None:
    branch = BranchState(object(), "lineage", position=3, learned=7, skipped=1, left_out=2, foreign=4)

    assert branch == BranchState.load(branch.dump(), "lineage")


def test_a_body_of_another_lineage_is_refused() -> None:
    plain = BranchState(object(), "older").dump()

    with pytest.raises(SnapshotRefused, match="is of lineage older, expected was lineage") as caught:
        BranchState.load(plain, "lineage")
    assert "lineage" == caught.value.reason


@pytest.mark.parametrize(
    ("drop", "left_out"),
    [
        (Filter(), []),
        (Filter(corrected_to=9), []),
        (Filter(sources=("crowd",)), [0, 4, 5, 9]),
        (Filter(sources=("crowd",), end=5), [0, 4]),
        (Filter(sources=("expert",), end=5), []),
        (Filter(ids="digest", ids_to=5), [0, 4]),
        (Filter(ids="digest", ids_to=5, start=9), [0, 4, 9]),
        (Filter(start=4, end=5), [4]),
        (Filter(start=4), [4, 5, 9]),
    ],
)
def test_a_filter_leaves_out_what_lies_between_its_bounds(drop: Filter, left_out: list[int]) -> None:
    assert left_out == [at for at in (0, 4, 5, 9) if drop.leaves_out(at, "crowd", lambda: True)]
    assert drop.drops == bool(left_out or drop.sources)


def test_ids_are_asked_for_only_where_the_answer_counts() -> None:
    assert not Filter(ids="digest", ids_to=5).leaves_out(5, "", lambda: pytest.fail("asked"))
    assert not Filter(ids="digest", ids_to=5).leaves_out(4, "", lambda: False)


CROWD, BOT = Filter(sources=("crowd",)), Filter(sources=("bot",))


@pytest.mark.parametrize(
    ("one", "more", "both"),
    [
        (Filter(), Filter(), Filter()),
        (Filter(corrected_to=9), Filter(corrected_to=5), Filter(corrected_to=9)),
        (CROWD, Filter(corrected_to=5), Filter(5, ("crowd",))),
        (Filter(), CROWD, CROWD),
        (CROWD, BOT, Filter(sources=("bot", "crowd"))),
        (CROWD, Filter(ids="old", ids_to=7), Filter(sources=("crowd",), ids="both", ids_to=7)),
        (Filter(ids="old", ids_to=9), Filter(ids="new", ids_to=7), Filter(ids="both", ids_to=9)),
        (Filter(start=4, end=5), Filter(ids="new", ids_to=7), Filter(ids="both", start=4, end=5, ids_to=7)),
        (Filter(start=4, end=5), Filter(start=4, end=5), Filter(start=4, end=5)),
        (Filter(start=4, end=5), Filter(start=4, end=6), None),
        (Filter(start=4, end=5), CROWD, None),
        (Filter(sources=("bot",), start=4), CROWD, None),
        (Filter(sources=("bot",), start=4), Filter(start=4), None),
    ],
)
def test_two_repairs_become_one_filter_where_a_single_one_says_what_both_say(
    one: Filter, more: Filter, both: Filter | None
) -> None:
    assert both == one.joined(more, "both" if one.ids or more.ids else "")


def test_a_filter_is_told_in_words() -> None:
    assert "" == Filter().in_words()
    assert "without everything from 0:4 to 0:5" == Filter(start=4, end=5).in_words()
    assert "without labels of bot, crowd" == Filter(sources=("bot", "crowd")).in_words()
    told = Filter(9, ("crowd",), "digest", 4, None, 7).in_words()
    expected = "corrections up to 0:9 applied; without labels of crowd from 0:4 on; without named events before 0:7"
    assert expected == told


def test_ids_are_known_by_their_hash_alone_and_in_any_order() -> None:
    hashes = [hash_of_id("a"), hash_of_id("b")]

    assert digest_of_ids(hashes) == digest_of_ids([*reversed(hashes), hashes[0]])
    assert "" == digest_of_ids([])
    assert 16 == len(hash_of_id("\ud800"))


def test_the_part_of_a_branch_has_a_name_that_a_manifest_takes() -> None:
    assert PART_NAME.fullmatch(part_name(BRANCH.lineage))


def test_a_branch_that_takes_over_leaves_out_what_the_one_before_did() -> None:
    """The same model starts where that one did; another one where it is told to."""
    serving = make_branch(start=7, filter=CROWD, versions={"river": "1"})
    configured = make_branch(versions={"river": "2"})

    assert configured == renewed(configured, None)
    assert make_branch(start=7, filter=CROWD, versions={"river": "2"}) == renewed(configured, serving)
    assert make_branch(model="other", filter=CROWD) == renewed(make_branch(model="other"), serving)


def test_one_learner_folds_branches_of_the_same_libraries_and_features_whatever_their_processors() -> None:
    plain, matrices = make_branch(), make_branch(versions={"river": "1", "cpu": "arm"}, model="other")

    assert has_same_learner(plain, matrices)
    assert not has_same_learner(plain, make_branch(versions={"river": "2"}))
    assert not has_same_learner(plain, make_branch(contract_id="other"))
