"""`tailrace init`: from a sample to a configuration that passes the check."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.cli.command_builders import Run

from tailrace.cli import init as init_module
from tailrace.cli.init import Inputs, RefusedError, loop_name_of, propose, topic_of
from tailrace.cli.proposal import text_of
from tailrace.domain.records import Task
from tailrace.settings import LoopSettings, Settings, load, load_text


def make_events(count: int = 40, **more: Sequence[Any]) -> list[dict[str, Any]]:
    """Return events with an id, a time and one number; `more` gives further fields, repeated as needed."""
    rng = random.Random(1)
    return [
        {
            "page_id": f"p{n}",
            "seen_at": f"2026-01-01T00:{n // 60:02d}:{n % 60:02d}Z",
            "score": rng.random(),
            **{name: values[n % len(values)] for name, values in more.items()},
        }
        for n in range(count)
    ]


def make_labels(targets: Sequence[Any], count: int = 40, **more: Sequence[Any]) -> list[dict[str, Any]]:
    """Return labels of the events of `make_events`."""
    return [
        {"page": f"p{n}", "verdict": targets[n % len(targets)], **{name: v[n % len(v)] for name, v in more.items()}}
        for n in range(count)
    ]


def write(file: Path, records: Iterable[object]) -> Path:
    """Write JSON lines."""
    file.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return file


def written(folder: Path) -> tuple[Settings, str]:
    """Return the configuration that was written, read and as text."""
    file = folder / "tailrace.toml"
    return load(file, environ={}), file.read_text()


def proposed(
    events: Sequence[object], labels: Sequence[object] | None = None, events_name: str = "pages"
) -> tuple[LoopSettings, str]:
    """Return the loop that would be written for these topics, and the text."""
    topics = {events_name: events, "verdicts": labels}
    inputs = Inputs(events_name, None if labels is None else "verdicts", "kafka://a:1")
    text = text_of(
        propose(inputs, None, lambda _, topic, __: [json.dumps(record).encode() for record in topics[topic] or ()])
    )
    return next(iter(load_text(text).loops.values())), text


def test_a_file_becomes_a_configuration_that_passes_the_check(run: Run, tmp_path: Path):
    write(tmp_path / "pages.jsonl", make_events(https=[True, False], country=["de", "fr", "us"]))
    write(tmp_path / "verdicts.jsonl", make_labels(["fine", "fine", "phishing"]))

    ran = run("init", "--from-file", "pages.jsonl", "--labels", "verdicts.jsonl")
    checked = run("check")

    assert (0, 0) == (ran.code, checked.code)
    settings, _ = written(tmp_path)
    assert f"embedded:{tmp_path}/data" == settings.log
    loop = settings.loops["pages"]
    assert ("pages", "page_id", "seen_at") == (loop.events.topic, loop.events.id, loop.events.time)
    assert ("verdicts", "page", "verdict", "phishing") == (
        loop.labels.topic,
        loop.labels.id,
        loop.labels.target,
        loop.labels.positive,
    )
    assert {"score": "number", "https": "boolean", "country": "category"} == {
        name: feature.type for name, feature in loop.features.items()
    }
    assert ("de", "fr", "us") == loop.features["country"].values
    assert loop.features["country"].other is True


def test_it_says_what_it_guessed_and_what_to_do_next(run: Run, tmp_path: Path):
    write(tmp_path / "pages.jsonl", make_events())

    ran = run("init", "--from-file", "pages.jsonl")

    assert "" == ran.out
    assert [
        "wrote tailrace.toml: loop pages, 1 feature, 0 left out",
        "guessed: page_id is the id of an event, seen_at its time",
        "guessed: binary, label is the outcome of a label (no labels were looked at)",
        "next: read tailrace.toml, then `tailrace check --config tailrace.toml`",
    ] == ran.err.splitlines()


def test_every_guess_is_marked_in_the_file():
    _, text = proposed(make_events(), make_labels([True, False]))

    guesses = [line for line in text.splitlines() if "GUESS" in line]
    assert ["task", "page_id", "outcome", "horizon", "plain start"] == [
        next(word for word in ("task", "page_id", "outcome", "horizon", "plain start") if word in line)
        for line in guesses[1:]
    ]


def test_ranges_values_and_missing_shares_stand_beside_the_features():
    country = ["de", "fr", None, "us"]

    _, text = proposed(make_events(n=[3, 9, 4, 5], f=[0.5, 2.5], c=country, b=[True]))

    lines = {line.partition(" = ")[0]: line for line in text.splitlines()}
    assert lines["n"].endswith("# seen 3 to 9, only whole numbers; never missing")
    assert lines["f"].endswith("# seen 0.5 to 2.5; never missing")
    assert lines["c"].endswith('other = true, missing = "absent" }  # 3 values seen; missing in 25.0%')
    assert lines["b"].endswith("# always true; never missing")


def test_a_feature_that_is_sometimes_missing_may_be_absent():
    loop, _ = proposed(make_events(age=[1, None]))

    assert "absent" == loop.features["age"].missing
    assert "reject" == loop.features["score"].missing


def test_nested_fields_become_dotted_paths():
    loop, text = proposed(make_events(user=[{"age": 30, "address": {"zip": 5}}, {"age": 31, "address": {"zip": 6}}]))

    assert {"score", "user.age", "user.address.zip"} == set(loop.features)
    assert '\n"user.age" = "number"' in text


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("url", [f"http://{n}" for n in range(40)], "40 different texts; needs a model that reads text"),
        ("tags", [["a"]], "lists are no features"),
        ("gone", [None], "always null"),
        ("mixed", [1, "a"], "values of several kinds: number, text"),
        ("created", ["2026-01-01T00:00:00Z"], "a time; say what matters about it"),
        ("session_id", ["a", "b"], "named like an id"),
        ("label", [True, False], "named like the outcome"),
        ("verdict", [True, False], "named like the outcome"),
        ("big", [1e308 * 10], "values that no type can hold"),
        ("a..b", [1], "its name has an empty part"),
    ],
)
def test_what_is_no_feature_is_left_out_with_the_reason(name: str, values: list[object], reason: str):
    events = [json.loads(json.dumps(event).replace("Infinity", "1e999")) for event in make_events(**{name: values})]

    loop, text = proposed(events) if name != "big" else propose_raw(events)

    assert {"score"} == set(loop.features)
    (line,) = (line for line in text.splitlines() if line.startswith("# ") and f"# {reason}" in line)
    assert name in line


def propose_raw(events: list[dict[str, Any]]) -> tuple[LoopSettings, str]:
    """Like `proposed`, for numbers that JSON can write and Python cannot hold."""
    raws = [json.dumps(event).replace("Infinity", "1e999").encode() for event in events]
    text = text_of(propose(Inputs("pages", None, "kafka://a:1"), None, lambda *_: raws))
    return load_text(text).loops["pages"], text


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        ([1_767_225_600, 1_767_225_601], "s"),
        ([1_767_225_600.5], "s"),
        ([1_767_225_600_000], "ms"),
        ([1_767_225_600_000_000], "us"),
        ([1_767_225_600_000_000_000], "ns"),
    ],
)
def test_a_time_that_is_a_number_shows_its_unit_by_its_size(values: list[float], unit: str):
    events = [{k: v for k, v in event.items() if k != "seen_at"} for event in make_events(createdAt=values)]

    loop, _ = proposed(events)

    assert ("createdAt", unit) == (loop.events.time, loop.events.time_unit)


def test_a_number_that_is_only_large_is_no_time():
    events = [{k: v for k, v in event.items() if k != "seen_at"} for event in make_events(salary=[1_767_225_600])]

    loop, text = proposed(events)

    assert loop.events.time is None
    assert "salary" in loop.features
    assert "the Kafka timestamp counts" in text


def test_an_id_may_be_a_number():
    loop, _ = proposed([{"id": n, "score": n / 7} for n in range(30)])

    assert "id" == loop.events.id


def test_a_field_that_labels_know_is_the_better_id():
    events = [{"trace_id": f"t{n}", "page": f"p{n}", "score": n / 7} for n in range(30)]

    alone, _ = proposed(events)
    with_labels, _ = proposed(events, make_labels([True, False], 30))

    assert ("trace_id", "page") == (alone.events.id, with_labels.events.id)


@pytest.mark.parametrize(
    ("targets", "task", "positive", "classes"),
    [
        ([True, False], Task.BINARY, None, None),
        ([0, 1], Task.BINARY, 1, None),
        (["no", "no", "yes"], Task.BINARY, "yes", None),
        (["b", "b", "a"], Task.BINARY, "a", None),
        (["red", "green", "blue"], Task.MULTICLASS, None, ("blue", "green", "red")),
        ([3, 1, 2], Task.MULTICLASS, None, (1, 2, 3)),
        ([0.5, 1.5], Task.REGRESSION, None, None),
        (list(range(40)), Task.REGRESSION, None, None),
    ],
)
def test_the_task_is_guessed_from_the_targets(targets: list[Any], task: Task, positive: object, classes: object):
    loop, _ = proposed(make_events(country=["de", "fr"], https=[True, False]), make_labels(targets))

    assert (task, positive, classes) == (loop.task, loop.labels.positive, loop.labels.classes)


@pytest.mark.parametrize(
    ("features", "model"),
    [
        ({}, "MinMaxScaler() | HalfSpaceTrees(seed=1)"),
        (
            {"country": ["de", "fr"], "https": [True, False]},
            "SelectType(float, bool) | MinMaxScaler() | HalfSpaceTrees(seed=1)",
        ),
    ],
)
def test_labels_that_speak_of_anomalies_make_an_anomaly_loop(features: dict[str, Any], model: str):
    labels = [{"page": f"p{n}", "isAnomaly": n % 9 == 0} for n in range(40)]

    loop, text = proposed(make_events(**features), labels)

    assert (Task.ANOMALY, "isAnomaly", model) == (loop.task, loop.labels.target, loop.champion.model)
    assert "binary, multiclass, regression or anomaly" in text


def test_an_anomaly_loop_of_categories_alone_gets_a_model_too():
    events = [{"page": f"p{n}", "country": "de" if n % 3 else "fr"} for n in range(40)]
    labels = [{"page": f"p{n}", "outlier": "yes" if n % 9 == 0 else "no"} for n in range(40)]

    loop, _ = proposed(events, labels)

    assert (Task.ANOMALY, "yes") == (loop.task, loop.labels.positive)
    assert "OneHotEncoder() | OneClassSVM()" == loop.champion.model


def test_the_time_of_a_label_is_guessed_too():
    loop, _ = proposed(make_events(), make_labels([True, False], at=[1_767_225_600]))

    assert ("at", "s", "verdict") == (loop.labels.time, loop.labels.time_unit, loop.labels.target)


def test_only_the_first_thousand_lines_are_looked_at(run: Run, tmp_path: Path):
    events = make_events(1200)
    events[1100]["late"] = 1
    write(tmp_path / "pages.jsonl", events)

    run("init", "--from-file", "pages.jsonl")

    settings, text = written(tmp_path)
    assert text.startswith('# Written by `tailrace init` from 1000 records of "pages.jsonl".\n')
    assert {"score"} == set(settings.loops["pages"].features)


def test_lines_that_are_no_objects_are_passed_over_and_counted(run: Run, tmp_path: Path):
    file = write(tmp_path / "pages.jsonl", make_events())
    file.write_text(file.read_text() + '\n\nnonsense\n[1]\n{"a": NaN}\n"x"\n')

    ran = run("init", "--from-file", "pages.jsonl")

    assert 0 == ran.code
    assert "pages.jsonl: 4 of the records are no JSON objects and were passed over" in ran.err


def test_a_topic_is_sampled_through_the_log(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []

    def sample_topic(log: str, topic: str, count: int) -> list[bytes]:
        asked.append((log, topic, count))
        return [json.dumps(event).encode() for event in make_events()]

    monkeypatch.setattr(init_module, "sample_topic", sample_topic)

    ran = run("init", "--from-topic", "shop.Pages-2", "--log", "kafka://b:9092")

    assert (0, [("kafka://b:9092", "shop.Pages-2", 1000)]) == (ran.code, asked)
    settings, _ = written(tmp_path)
    assert "kafka://b:9092" == settings.log
    assert "shop.Pages-2" == settings.loops["shop_pages_2"].events.topic


def test_a_file_that_is_there_is_not_replaced_without_being_told(run: Run, tmp_path: Path):
    write(tmp_path / "pages.jsonl", make_events())
    (tmp_path / "tailrace.toml").write_text("mine")

    refused = run("init", "--from-file", "pages.jsonl")
    kept = (tmp_path / "tailrace.toml").read_text()
    forced = run("init", "--from-file", "pages.jsonl", "--force")

    assert (5, "mine") == (refused.code, kept)
    assert "error: tailrace.toml is there already; --force replaces it, --out FILE writes elsewhere\n" == refused.err
    assert 0 == forced.code
    assert "pages" in written(tmp_path)[0].loops


def test_an_embedded_log_keeps_its_place_when_the_file_lies_elsewhere(run: Run, tmp_path: Path):
    write(tmp_path / "pages.jsonl", make_events())
    (tmp_path / "there").mkdir()

    run("init", "--from-file", "pages.jsonl", "--log", "embedded:mine", "--out", "there/tailrace.toml")

    assert tmp_path / "mine" == written(tmp_path / "there")[0].log_folder


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((), 2, "found none or both of --from-file and --from-topic"),
        (("--from-file", "x.jsonl", "--from-topic", "x"), 2, "found none or both of --from-file and --from-topic"),
        (("--from-file", "none.jsonl"), 5, "none.jsonl: found no file to read"),
        (("--from-file", "empty.jsonl"), 5, "empty.jsonl: found no record"),
        (("--from-file", "text.jsonl"), 5, "text.jsonl: found 1 records, none of them a JSON object"),
        (("--from-file", "no-id.jsonl"), 5, "no-id.jsonl: found no field that can be an id"),
        (("--from-file", "bare.jsonl"), 5, "bare.jsonl: found no field that can be a feature"),
        (("--from-file", "pages.jsonl", "--labels", "none.jsonl"), 5, "none.jsonl: found no file to read"),
        (
            ("--from-file", "pages.jsonl", "--labels", "bare.jsonl"),
            5,
            "bare.jsonl: found no field that can be the outcome",
        ),
        (("--from-file", "pages.jsonl", "--loop", "Bad Name"), 3, 'found the name "Bad Name"'),
        (("--from-file", "pages.jsonl", "--log", "redis://x"), 3, 'log: found "redis://x"'),
        (("--from-file", "pages.jsonl", "--out", "none/t.toml"), 5, "t.toml: cannot be written"),
    ],
)
def test_what_cannot_be_made_into_a_configuration(
    run: Run, tmp_path: Path, words: Sequence[str], code: int, message: str
):
    write(tmp_path / "pages.jsonl", make_events())
    write(tmp_path / "empty.jsonl", [])
    write(tmp_path / "text.jsonl", ["text"])
    write(tmp_path / "no-id.jsonl", [{"a": True}] * 9)
    write(tmp_path / "bare.jsonl", [{"id": f"x{n}"} for n in range(9)])

    ran = run("init", *words)

    assert code == ran.code
    assert message in ran.err
    assert ran.err.startswith("error: ")
    assert not (tmp_path / "tailrace.toml").exists()


@pytest.mark.parametrize(
    ("topic", "name"),
    [("pages", "pages"), ("Shop.Page-Views_v2", "shop_page_views_v2"), ("2026.x", "x"), ("__", "loop")],
)
def test_a_loop_is_named_after_its_topic(topic: str, name: str):
    assert name == loop_name_of(topic)


def test_a_topic_is_named_after_its_file():
    assert ["pages", "my-pages-1", "events"] == [
        topic_of(Path(name)) for name in ("pages.jsonl", "my pages 1.x", "ä.x")
    ]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
field_names = st.sampled_from(["id", "page_id", "time", "label", "y", "a", "b", "c d", "other", "ä"]) | st.text(
    max_size=6
)
samples = st.lists(st.dictionaries(field_names, json_values, max_size=8), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(samples, st.none() | samples)
def test_any_sample_becomes_a_sound_configuration_or_is_refused(
    events: list[dict[str, Any]], labels: list[dict[str, Any]] | None
):
    for number, event in enumerate(events):
        event.setdefault("key", number)
        event.setdefault("amount", number / 3)

    try:
        loop, text = proposed(events, labels)
    except RefusedError:
        return

    assert loop.contract.names
    assert text.encode()
