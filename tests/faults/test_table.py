from tests.faults.catalog import load_cases
from tests.faults.table import p99, percentile, write_table


def result(number="F01", **changes):
    plain = {
        "number": number,
        "title": "kill | restart",
        "failure": "",
        "seconds": 12.3,
        "times": 20,
        "events": 1_234,
        "lost": 0,
        "twice": 0,
        "skipped": "",
        "recoveries_s": {"2s": [1.0, 2.0, 3.0]},
        "predictions": [7, 5],
        "notes": ["memory grew by 1 MB"],
    }
    return plain | changes


def test_a_percentile_is_one_of_the_values_and_at_least_its_share_lies_below():
    values = [5.0, 1.0, 4.0, 2.0, 3.0]

    assert [percentile(values, share) for share in (0.01, 0.2, 0.5, 0.99)] == [1.0, 1.0, 3.0, 5.0]
    assert percentile([], 0.5) is None


def test_recoveries_of_all_faults_count_together_by_kind():
    found = [result(), result(recoveries_s={"2s": [9.0], "heal": [50.0]}), result(failure="lost", recoveries_s={})]

    assert p99(found, "2s") == 9.0
    assert p99(found, "10s") is None


def test_the_table_tells_what_each_fault_came_to_and_what_failed(tmp_path):
    path = tmp_path / "faults.md"

    write_table(path, [result(), result("F02", failure="2 events were lost")], "ci", 7, 90.0)
    text = path.read_text()

    assert "| F01 | kill \\| restart | 20 | 1,234 | 0 | 0 | 2.0 / 3.0 (2s) | 5 | 12 | passed |" in text
    assert "**failed**: 2 events were lost" in text
    assert "Recovery over all 6 kills that were timed, with a session timeout of 2s: p50 2.0 s, p99 3.0 s" in text
    assert "- F01: memory grew by 1 MB" in text
    assert "seed 7, 2 minutes, " in text

    write_table(path, [result(), result("F02", mended="the proxy raised")], "ci", 7, 90.0, kept=1)
    assert "passed, anew after a mend; before it: the proxy raised |" in path.read_text()
    assert "2 minutes for 1 of them, the others before" in path.read_text()


def test_the_table_tells_both_numbers_of_what_was_tried_again_since_it_was_too_slow(tmp_path):
    path = tmp_path / "faults.md"
    again = result(before="a recovery (2s) took 4.1 s, at most 4 s", recoveries_before_s={"2s": [4.1]})

    write_table(path, [again], "ci", 7, 90.0)
    text = path.read_text()

    assert (
        "passed at the second try, alone; before: a recovery (2s) took 4.1 s, at most 4 s; then at most 3.0 s (2s)"
        in text
    )
    assert "p99 3.0 s (at most 4 s); with the 1 of attempts that were made again 4.1 s." in text


def test_what_nobody_counted_is_no_zero_and_what_was_skipped_has_not_passed(tmp_path):
    path = tmp_path / "faults.md"

    write_table(path, [result(lost=None, twice=None, skipped="no tmpfs can be mounted")], "ci", 7, 90.0)

    assert "| 20 | 1,234 |  |  | 2.0 / 3.0 (2s) | 5 | 12 | **skipped**: no tmpfs can be mounted |" in path.read_text()


def test_every_fault_happens_at_least_once_and_more_often_in_the_large_size():
    faults = load_cases()

    assert all(1 <= each.ci <= each.full for each in faults.values())


def test_the_sizes_that_were_promised():
    faults = load_cases()

    numbers = {f"F{number:02}" for number in (*range(1, 22), *range(23, 31), 37, 39)}
    assert numbers | {"IDLE-1", "IDLE-2", "IDLE-3", "IDLE-4"} == faults.keys()
    promised = {
        "F01": (20, 200),
        "F02": (3, 20),
        "F03": (3, 20),
        "F04": (5, 20),
        "F05": (3, 20),
        "F06": (60, 600),
        "F07": (3, 20),
        "F25": (20, 100),
        "F26": (9, 100),
        "F39": (20, 20),
    }
    assert promised == {number: (faults[number].ci, faults[number].full) for number in promised}
    assert faults["F24"].full == 1_000_000
