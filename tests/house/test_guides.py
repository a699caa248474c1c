"""The first-day guides: what they tell readers to type runs, and comes to what they show."""

from __future__ import annotations

import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest
from tests.house.commands import check_command, commands_in
from tests.house.guides import GUIDES, ROOT, Step, Worked, lines_missing, steps_of, work_through

LIMIT_S = 300.0
"""For one guide, on a machine that has other work; on a quiet one all of them take less than two minutes."""

SIDE_BY_SIDE = 2


@cache
def text_of(guide: Path) -> str:
    return guide.read_text()


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Worked]:
    if not os.environ.get("WORK_THROUGH_GUIDES"):
        pytest.skip("takes minutes; `make guides` works them through")
    missing = [tool for tool in ("bash", "curl") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"the guides are typed into a shell and need {' and '.join(missing)}")

    folders = [tmp_path_factory.mktemp(guide.stem) for guide in GUIDES]

    def work(guide: Path, folder: Path) -> Worked:
        return work_through(steps_of(text_of(guide)), folder, {"PYTHONPATH": str(ROOT / "app")}, LIMIT_S)

    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        return dict(zip(GUIDES, pool.map(work, GUIDES, folders), strict=True))


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_every_command_of_a_guide_ends_as_it_says_and_shows_what_it_shows(guide: Path, worked: dict[Path, Worked]):
    steps, found = steps_of(text_of(guide)), worked[guide]

    assert 0 == found.code, f"step {len(found.said)} of {len(steps)}:\n{found.said[-1]}"
    for step, said in zip(steps, found.said, strict=False):
        assert not lines_missing(step.shown, said), f"{step.commands}\nsaid:\n{said}"


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_every_command_of_a_guide_is_there_also_where_it_needs_kafka(guide: Path):
    for command in commands_in(text_of(guide)):
        check_command(re.sub(r"\$\(.*\)|\$\w+", "x", command))


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_a_guide_is_short_and_its_links_lead_somewhere(guide: Path):
    text = text_of(guide)

    assert len(text.splitlines()) <= 200
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", text):
        page = guide if not target else guide.parent / target
        assert page.exists(), target
        if anchor:
            assert anchor in anchors_of(page.read_text()), f"{target}#{anchor}"


def anchors_of(markdown: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", markdown, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_there_are_four_guides_and_the_readme_leads_to_each():
    readme = (ROOT / "README.md").read_text()

    assert {"producer", "consumer", "operator", "data-scientist"} == {guide.stem for guide in GUIDES}
    assert all(f"(docs/first-day/{guide.name})" in readme for guide in GUIDES)


def test_a_command_that_ends_otherwise_stops_the_guide(tmp_path: Path):
    steps = steps_of(
        "```sh\necho one\nfalse    # ends with 1\n```\n\n```text\none\n```\n\n```sh\ntrue    # ends with 1\necho on\n```\n"
    )
    found = work_through(steps, tmp_path, {}, 20.0)

    assert 0 != found.code
    assert 2 == len(found.said)
    assert [] == lines_missing(steps[0].shown, found.said[0])


def test_what_does_not_come_is_noticed():
    said = "sent  12\nok   log: answers after 3 ms\nsecond\nfirst\n"

    assert [] == lines_missing("sent 4\nok   log: … after 71 ms\n…", said)
    assert ["lost #"] == lines_missing("lost 4", said)
    assert ["second"] == lines_missing("first\nsecond", said)


def test_what_needs_a_network_or_a_broker_is_not_typed():
    assert [Step("b\n", "")] == steps_of("```sh install\na\n```\n```sh\nb\n```\n```sh kafka\nc\n```\n")
