"""`tailrace branches`, `upgrade`, `repair` on a loop that ran and left its log; what needs a learner is in scenarios."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.cli.command_builders import Ran, Run
from tests.cli.loop_builders import RanLoop, write_config

from tailrace.cli import deciding
from tailrace.cli.exits import UsageError
from tailrace.domain.pointers import Decision
from tailrace.inspection.asking import Answer


def lines(ran: Ran) -> list[dict]:
    assert (0, "") == (ran.code, ran.err)
    return [json.loads(line) for line in ran.out.splitlines()]


def configure_a_tree(folder: Path) -> None:
    file = folder / "tailrace.toml"
    text = file.read_text()
    changed = text.replace("StandardScaler() | LogisticRegression()", "HoeffdingTreeClassifier()")
    assert text != changed
    file.write_text(changed)


def test_the_branch_of_a_loop_that_ran_is_listed_and_its_story_told(run: Run, ran_loop: RanLoop):
    (row,) = lines(run("branches", "list", "-o", "json"))
    (story,) = lines(run("branches", "history", "-o", "json"))

    assert (True, ran_loop.learned, True, None) == (row["serves"], row["learned"], row["folds_here"], row["note"])
    assert row["lineage"].startswith(row["branch"])
    assert (row["lineage"], "tailrace", "admit") == (story["branch"], story["by"], story["kind"])
    assert story["time"].endswith("Z")


def test_a_table_names_the_branch_and_says_why_another_environment_cannot_fold_it(run: Run, ran_loop: RanLoop):
    file = ran_loop.folder / "tailrace.toml"
    file.write_text(file.read_text().replace('"number"', '{ type = "number", min = -1e9 }'))

    ran = run("branches", "list", "-o", "table")

    assert 0 == ran.code
    assert "cannot be folded here: other features or targets" in ran.out


def test_a_row_without_a_sentence_has_no_line_for_it(run: Run, ran_loop: RanLoop):
    ran = run("branches", "list", "-o", "table")

    assert 2 == len(ran.out.splitlines()), "the heading and the branch that serves"


def test_a_model_that_is_refused_is_named_by_its_key(run: Run, ran_loop: RanLoop):
    file = ran_loop.folder / "tailrace.toml"
    file.write_text(file.read_text().replace("LogisticRegression", "LogisticRegressio"))

    ran = run("upgrade", "--dry-run")

    assert 3 == ran.code
    assert "error: loops.phishing.champion.model: LogisticRegressio is no class of River" in ran.err


def test_an_upgrade_can_be_tried_where_nothing_runs_and_without_any_key(run: Run, ran_loop: RanLoop):
    configure_a_tree(ran_loop.folder)
    (ran_loop.folder / "keys" / "learner.key").unlink()

    ran = run("upgrade", "--dry-run", "-o", "json")

    found = json.loads(ran.out)
    assert (0, "nothing was changed", ran_loop.learned) == (ran.code, found["said"], found["learned"])
    assert ran_loop.learned == found["compared"]
    assert found["quality_served"].keys() == found["quality"].keys()


def test_what_serves_already_is_not_built_again(run: Run, ran_loop: RanLoop):
    found = lines(run("upgrade", "-o", "json"))

    assert [False] == [each["built"] for each in found]
    assert "serves already" in found[0]["said"]


def test_compare_says_how_many_examples_are_asked_about(run: Run, ran_loop: RanLoop):
    configure_a_tree(ran_loop.folder)

    few, none = (run("upgrade", "--dry-run", "--compare", count, "-o", "json") for count in (7, 0))

    assert (7, 0) == (json.loads(few.out)["compared"], json.loads(none.out)["compared"])
    assert "no example of the log could be compared" in none.err


def test_a_later_start_learns_less(run: Run, ran_loop: RanLoop):
    configure_a_tree(ran_loop.folder)

    rows = [json.loads(line) for line in run("log", "cat", "-o", "json").out.splitlines()]
    examples = [row["position"] for row in rows if row["kind"] == "joined"]

    found = json.loads(run("upgrade", "--dry-run", "--start", examples[30], "-o", "json").out)

    assert (ran_loop.learned - 30, 30) == (found["learned"], found["left_out"])


def test_a_command_that_no_learner_takes_in_time_says_where_it_lies(run: Run, ran_loop: RanLoop):
    configure_a_tree(ran_loop.folder)

    ran = run("upgrade", "--wait", 0, "-o", "json")

    assert 4 == ran.code
    assert "lies at offset 0 of the commands" in json.loads(ran.out)["said"]
    assert "made and trusted" in ran.err, "a key to sign commands with, at the first command"
    assert "made and trusted" not in run("upgrade", "--wait", 0, "-o", "json").err, "and at no other"


def test_a_repair_can_be_tried_where_nothing_runs(run: Run, ran_loop: RanLoop, tmp_path: Path):
    (tmp_path / "ids").write_text("page-1\npage-2\n\nnobody\n")

    ran = run("repair", "--drop-ids", "ids", "--dry-run", "-o", "json")

    found = json.loads(ran.out)
    assert "examples: 2 left out, 0 corrected, 0 withdrawn" in ran.err
    assert (2, ran_loop.learned - 2) == (found["left_out"], found["learned"])
    assert ran_loop.learned - 2 == found["compared"]


def test_a_repair_that_changes_nothing_says_so_before_anybody_relies_on_it(run: Run, ran_loop: RanLoop):
    ran = run("repair", "--drop-source", "nobody", "--dry-run")

    assert 0 == ran.code
    assert "the log holds nothing that this leaves out or corrects; look at the source, ids or positions" in ran.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("repair",), "found nothing to repair; allowed: --apply-corrections"),
        (("repair", "--from", "x"), "--from: found 'x'; allowed: OFFSET or OFFSET:ROW, such as 120 or 120:3"),
        (("repair", "--from=-4"), "--from: found '-4'; allowed: OFFSET or OFFSET:ROW"),
        (("repair", "--from", "5:1048576"), "--from: found '5:1048576'; allowed: OFFSET or OFFSET:ROW"),
        (("repair", "--from", "8796093022208"), "--from: found '8796093022208'; allowed: OFFSET or OFFSET:ROW"),
        (("repair", "--from", "99999"), "--from: found 99999:0; allowed: a position before the log's end"),
        (("repair", "--drop-source", ""), "--drop-source: found nothing; allowed: a source that labels name"),
        (("repair", "--from", "5", "--to", "5"), "--to: found a position that is not after --from"),
        (("repair", "--drop-ids", "none"), "none: found no file to read"),
        (("repair", "--drop-ids", "empty"), "--drop-ids: found no id"),
        (("repair", "--drop-ids", "many"), "--drop-ids: found 10001 ids; allowed: 10000"),
        (("repair", "--drop-ids", "one", "--to", "5"), "--drop-ids: ids are left out wherever they are"),
        (("repair", "--drop-source", "a", "--by", " "), "--by: found nothing; allowed: a name"),
        (("upgrade", "--start", "9999"), "--start: found 9999:0; allowed: a position before the log's end, "),
        (("upgrade", "--start", "x"), "--start: found 'x'; allowed: OFFSET or OFFSET:ROW"),
        (("branches", "promote", "zz"), "found 0 admitted branches that begin with 'zz'; there are: "),
        (("branches", "retire", ""), "found 1 admitted branches that begin with ''; there are: "),
    ],
)
def test_words_that_cannot_be_meant_end_with_2(run: Run, ran_loop: RanLoop, words: tuple[str, ...], said: str):
    (ran_loop.folder / "empty").write_text("\n")
    (ran_loop.folder / "one").write_text("a\n")
    (ran_loop.folder / "many").write_text("".join(f"{number}\n" for number in range(10_001)))

    ran = run(*words)

    assert (2, "") == (ran.code, ran.out)
    assert said in ran.err


def test_a_count_below_nothing_ends_with_2(run: Run, ran_loop: RanLoop):
    configure_a_tree(ran_loop.folder)

    ran = run("upgrade", "--compare=-1")

    assert (2, "") == (ran.code, ran.out)
    assert "--compare: found -1; allowed: a whole number of at least 0" in ran.err


def test_where_no_learner_keeps_its_keys_none_is_made_and_the_error_says_which_command_does(
    run: Run, ran_loop: RanLoop
):
    """A key that no learner trusts would sign for nothing."""
    (row,) = lines(run("branches", "list", "-o", "json"))
    shutil.rmtree(ran_loop.folder / "keys")

    ran = run("branches", "promote", row["branch"])

    assert 3 == ran.code
    assert "`tailrace keys generate --purpose commands` makes one" in ran.err
    assert "`tailrace keys trust operator.pub --purpose commands` where it learns" in ran.err
    assert not (ran_loop.folder / "keys" / "operator.key").exists()


def test_a_loop_without_topics_is_told_what_makes_them(run: Run, tmp_path: Path):
    write_config(tmp_path)
    run("topics", "plan")

    assert 4 == run("branches", "list").code


@pytest.mark.parametrize(
    ("answer", "said", "code"),
    [
        (Answer(3, is_waiting=True), "no learner has taken it yet: to promote branch aaaaaaaaaaaa lies at offset 3", 4),
        (Answer(3, refusal="it serves already"), "refused: to promote branch aaaaaaaaaaaa: it serves already", 5),
        (Answer(3, Decision(0, "promote", "a" * 64, "", "", "", 1)), "done: branch aaaaaaaaaaaa is promoted", 0),
    ],
)
def test_what_became_of_a_request_is_one_sentence_and_one_exit_code(answer: Answer, said: str, code: int):
    assert said in deciding.answer_in_words("promote", "a" * 64, answer)
    assert code == deciding.exit_of_answer(answer)


def test_who_asks_is_the_user_unless_another_name_is_given(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LOGNAME", "ada")

    assert ("ada", "ben") == (deciding.who(None), deciding.who("ben"))


def test_a_user_without_a_name_must_give_one(monkeypatch: pytest.MonkeyPatch):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])

    with pytest.raises(UsageError, match="--by: this user has no name"):
        deciding.who(None)


def test_a_reason_that_nobody_gives_is_what_is_known():
    assert ("because", "known") == (deciding.reason("because", "known"), deciding.reason(None, "known"))
