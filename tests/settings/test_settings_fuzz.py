"""Whatever stands in the file or the environment: settings, or lines that say what is wrong; nothing else is raised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.settings.toml_builders import make_loop, make_toml

from tailrace.cli import toml_text
from tailrace.domain.errors import SettingsError
from tailrace.domain.records import Task
from tailrace.settings import Settings, field_table, load_text

FEATURES = "\n".join(
    [f'f{n} = "number"' for n in range(60)]
    + [f'g{n} = {{ type = "category", values = ["a", "b"], other = true }}' for n in range(30)]
    + [f'h{n} = {{ type = "integer", min = 0, max = {n + 1}, missing = 0 }}' for n in range(30)]
)
LONG = make_toml(
    make_loop(features=FEATURES, more='disorder = "10m"\nskew = "1s"\nmissing = "fine"\njoin = { max_waiting = 5000 }'),
    make_loop(name="second", task="regression", labels='{ topic = "prices", id = "i", target = "t" }'),
    log="kafka://a:1,b:2",
    top='http = "127.0.0.1:1"',
    below='[kafka]\nsecurity_protocol = "SSL"\nca_file = "ca.pem"\n[snapshots]\npublish = "2s"\nstore = "file:s"\n',
)

KEYS = sorted(
    {part for row in field_table() for part in row.key.split(".")} | {"challengers", "a.b", "", "ä b", "[key]"}
)
VALUES = [
    *(
        '"1h"',
        '"0s"',
        '"number"',
        '"category"',
        '"multiclass"',
        '"drop"',
        '"kafka://u:p@h"',
        '"embedded:x"',
        '""',
        '"a\\nb"',
    ),
    *("0", "-1", "1.5", "nan", "inf", "1e400", "true", "[]", "[1, 'a', [2]]", "{}", '{ type = "text" }', "2026-01-01"),
    *(
        "99999999999999999999999",
        "0x10",
        "'''x'''",
        "12:00:00",
        "{ a = { b = { c = 1 } } }",
        "[[1]]",
        '["a", "b", "a"]',
    ),
]
VARIABLES = ["TAILRACE_" + row.key.upper().replace(".", "__").replace("NAME", "PHISHING", 1) for row in field_table()]

names = st.sampled_from(KEYS) | st.text(max_size=6)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9)
)
trees = st.dictionaries(
    names,
    st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=5), max_leaves=20
    ),
    max_size=6,
)


def expect_settings_or_problems(text: str, environ: dict[str, str] | None = None) -> None:
    """Read a configuration; whatever is wrong with it must be told in lines."""
    try:
        read = load_text(text, folder=Path("/etc/tailrace"), environ=environ, check_model=refuse_some)
    except SettingsError as error:
        assert error.problems
        for problem in error.problems:
            first, *rest = problem.split("\n")
            assert first.isprintable(), problem
            assert all(line.startswith("    ") for line in rest), problem
    else:
        assert isinstance(read, Settings)
        for loop in read.loops.values():
            assert loop.contract.names
            assert loop.target.task is loop.task
            assert (loop.implicit_y is None) == (loop.missing == "drop")


def refuse_some(expression: str, experimental: bool, task: Task) -> None:
    """Refuse by length, so that both answers are met."""
    if len(expression) % 2 and not experimental:
        raise SettingsError([f"the model is refused for task {task}"])


def to_toml(tree: dict[str, Any]) -> str:
    """Write a tree as top-level keys with inline tables."""
    return "\n".join(f"{toml_text.key(k)} = {toml_text.value(v)}" for k, v in tree.items() if v is not None)


def test_the_long_configuration_is_sound_to_begin_with():
    assert 100 < LONG.count("\n")
    expect_settings_or_problems(LONG)
    assert 120 == len(load_text(LONG).loops["phishing"].contract.features)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_long_configuration_with_damaged_lines(data: st.DataObject):
    lines = LONG.split("\n")
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(lines) - 1))
        key, _, value = lines[place].partition("=")
        change = data.draw(st.sampled_from(["value", "key", "drop", "twice", "swap", "text"]))
        if change == "value":
            lines[place] = f"{key}= {data.draw(st.sampled_from(VALUES))}"
        elif change == "key":
            lines[place] = f"{toml_text.key(data.draw(names))} ={value}"
        elif change == "drop":
            lines[place] = ""
        elif change == "twice":
            lines.insert(place, lines[place])
        elif change == "swap":
            other = data.draw(st.integers(0, len(lines) - 1))
            lines[place], lines[other] = lines[other], lines[place]
        else:
            lines[place] = data.draw(st.text(max_size=20))

    expect_settings_or_problems("\n".join(lines))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(trees, trees)
def test_any_tree_of_toml(top: dict[str, Any], loop: dict[str, Any]):
    expect_settings_or_problems(to_toml({**top, "loops": {"phishing": loop}}))


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=200))
def test_any_text(text: str):
    expect_settings_or_problems(text)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(VARIABLES) | st.from_regex(r"TAILRACE_[A-Za-z_]{0,30}", fullmatch=True),
        st.sampled_from(VALUES) | st.text(max_size=10),
        max_size=4,
    )
)
def test_any_environment(environ: dict[str, str]):
    expect_settings_or_problems(make_toml(), environ)
