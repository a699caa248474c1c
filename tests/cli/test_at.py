"""`tailrace at` and `tailrace why`: a loop as it was, from its topics alone."""

from __future__ import annotations

import json

import pytest
from tests.cli.command_builders import Run
from tests.cli.loop_builders import RanLoop, run_a_loop
from tests.settings.toml_builders import make_loop


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> RanLoop:
    return run_a_loop(tmp_path_factory.mktemp("past"))


@pytest.fixture
def at(run: Run, ran: RanLoop, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TAILRACE_CONFIG", str(ran.folder / "tailrace.toml"))

    def asked(*words: str):
        done = run(*words, "-o", "json")
        assert 0 == done.code, done.err
        return json.loads(done.out)

    return asked


def positions(run: Run) -> list[str]:
    rows = [json.loads(line) for line in run("log", "cat", "-o", "json").out.splitlines()]
    return [row["position"] for row in rows if row["kind"] == "joined"]


def test_the_state_at_every_position_holds_exactly_the_examples_before_it(at, run: Run):
    for index, position in enumerate(positions(run)):
        assert index == at("at", "--position", position, "show")["learned"]


def test_without_a_moment_the_present_is_shown(at, ran: RanLoop):
    found = at("at", "show")

    assert ran.learned == found["learned"]
    assert ["admit"] == [decision["kind"] for decision in found["decisions"]]


def test_a_time_is_the_position_behind_what_the_broker_had_then(at, run: Run):
    rows = [json.loads(line) for line in run("log", "cat", "-o", "json").out.splitlines()]
    last = rows[-1]["logged_at"]

    found = at("at", "--time", last, "show")

    assert int(rows[-1]["position"].partition(":")[0]) + 1 == int(found["position"].partition(":")[0])


def test_a_model_answers_as_it_would_have_then(at, run: Run):
    """At the position of the state that served an event, the model gives the very answer that was served."""
    scored = [
        json.loads(line) for line in run("log", "cat", "--topic", "scored", "--values", "-o", "json").out.splitlines()
    ]
    late = max(scored, key=lambda row: int(row["state"].partition(":")[0]))

    found = at("at", "--position", late["state"], "predict", "--event", late["id"])

    assert (late["y_pred"], late["proba"][0]) == (found["y_pred"], found["proba"])


def test_an_answer_is_explained_in_terms_of_the_features(at):
    found = at("at", "explain", "--features", '{"age": 4.0}')

    assert "adds to the raw score" == found["method"]
    assert ["age"] == list(found["reasons"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--position", "1", "--time", "2026-01-01"), "allowed: one of them"),
        (("predict",), "needs --features JSON or --event ID"),
        (("predict", "--features", "{", "--event", "x"), "needs --features JSON or --event ID"),
        (("--position", "x"), "allowed: OFFSET or OFFSET:ROW"),
        (("--time", "yesterday"), "allowed: RFC 3339"),
        (("predict", "--features", "{"), "found no JSON"),
        (("predict", "--features", "[1]"), "found JSON that is no object"),
        (("predict", "--features", '{"age": "old"}'), "age"),
        (("predict", "--event", "nobody"), "found no scored event"),
    ],
)
def test_what_cannot_be_asked_is_told(run: Run, at, words: tuple[str, ...], said: str):
    done = run("at", *words)

    assert (2, True) == (done.code, said in done.err), done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [(("--position", "999999"), "is not written yet"), (("--time", "2001-01-01"), "nothing stood in")],
)
def test_a_moment_that_the_log_does_not_hold_is_refused(run: Run, at, words: tuple[str, ...], said: str):
    done = run("at", *words)

    assert (5, True) == (done.code, said in done.err), done.err


def test_the_story_of_an_event_goes_from_its_answer_to_the_snapshot_that_contains_it(run: Run, at):
    found = at("why", "page-3")

    (scored,) = found["scored"]
    (logged,) = found["log"]
    assert (scored["event"], "joined", True) == (logged["event"], logged["kind"], logged["counts"])
    learned, contained = (
        int(place.partition(":")[0]) for place in (logged["position"], found["first_snapshot"]["position"])
    )
    assert learned < contained
    assert {"position", "branch", "filter", "y_pred", "proba"} == found["now"].keys()

    told = run("why", "page-3", "-o", "table").out
    for part in (
        "was answered at",
        "Its features",
        "it was learned at",
        "is the first still kept that contains it",
        "Asked now",
    ):
        assert part in told


def test_the_story_of_an_event_without_a_label_says_so(run: Run, at):
    told = run("why", "page-55", "-o", "table").out

    assert "The training log holds nothing of it" in told


def test_an_event_that_was_not_scored_has_no_story(run: Run, at):
    done = run("why", "page-7", "-o", "table")

    assert (1, True) == (done.code, "No event page-7 was scored: it was rejected" in done.out)


@pytest.mark.parametrize(
    ("words", "code"),
    [(("at", "show"), 0), (("why", "page-3"), 0), (("verify",), 0), (("log", "rewrite"), 5)],  # 5: nothing to erase
)
def test_a_loop_is_looked_at_whatever_the_model_of_another_one(
    run: Run, ran_loop: RanLoop, words: tuple[str, ...], code: int
):
    file = ran_loop.folder / "tailrace.toml"
    file.write_text(file.read_text() + make_loop(name="other", champion='model = "nowhere:build"'))

    done = run(*words, "--loop", "phishing", "-o", "json")

    assert (code, False) == (done.code, "nowhere" in done.err), done.err
