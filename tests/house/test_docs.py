"""What users type is documented, and the documents are what the code says."""

import re
from pathlib import Path

import pytest
from tests.house.generate_docs import DOCS, FILES
from tests.house.readme_example import example

from tailrace.cli import GROUPS
from tailrace.domain.records import Code
from tailrace.wire.topics import topics_of

README = (DOCS.parent / "README.md").read_text()


@pytest.mark.parametrize("name", FILES)
def test_a_generated_document_is_what_the_code_says(name):
    assert FILES[name]() == (DOCS / name).read_text(), "run: python tests/house/generate_docs.py"


@pytest.mark.parametrize("group", GROUPS)
def test_every_command_is_in_the_readme(group):
    assert f"`tailrace {group.replace('_', '-')}" in README


@pytest.mark.parametrize("spec", topics_of("phishing", "pages", "verdicts", horizon_ms=1), ids=lambda spec: spec.name)
def test_every_topic_is_in_the_readme(spec):
    own = (
        spec.name.replace("phishing.", "<loop>.")
        .replace("pages.dlq", "<input>.dlq")
        .replace("verdicts.dlq", "<input>.dlq")
    )
    assert f"`{own}`" in README or spec.is_users


@pytest.mark.parametrize("code", Code)
def test_every_dead_letter_code_is_documented(code):
    assert f"`{code.value}`" in (DOCS / "producers.md").read_text()


def test_every_document_is_linked_from_the_readme():
    for path in DOCS.glob("*.md"):
        assert f"docs/{path.name}" in README, path


def test_links_inside_the_repository_lead_somewhere():
    for document in [DOCS.parent / "README.md", *DOCS.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text()):
            if not target.startswith(("http://", "https://", "mailto:")):
                assert (document.parent / target).exists(), f"{document.name} → {target}"


def test_every_guarantee_is_linked_to_a_test_that_is_there():
    section = README.partition("## Guarantees")[2].partition("\n## ")[0]
    _heading, _rule, *promises = [line for line in section.splitlines() if line.startswith("|")]

    assert promises
    for promise in promises:
        linked = re.findall(r"\]\((tests/[^)#\s]+)\)", promise)
        assert linked, f"no link to a test: {promise}"
        for path in linked:
            assert "def test_" in (DOCS.parent / path).read_text(), f"{path} holds no test"


def test_the_readme_shows_a_configuration_that_check_accepts(tmp_path: Path):
    from tailrace.settings import load_text

    settings = load_text(example(README), folder=tmp_path, environ={})

    assert ["phishing"] == list(settings.loops)
