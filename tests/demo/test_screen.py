import io

import pytest
from rich.console import Console
from tests.demo.demo_builders import make_course, make_glance, make_member

from tailrace.demo.screen import LineScreen, LiveScreen, LogLines, line_of, make_screen, table_of
from tailrace.demo.watch import Seen


def drawn(glance, width: int = 92) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(table_of(glance, width))
    return console.file.getvalue()


def test_a_stream_that_is_no_terminal_gets_lines():
    assert isinstance(make_screen(io.StringIO()), LineScreen)


def test_lines_come_every_five_seconds():
    stream = io.StringIO()
    screen = LineScreen(stream)

    for at_s in (0.2, 4.9, 5.1, 5.3, 9.9, 10.0, 21.0, 21.2):
        screen.show(make_glance(at_s=at_s))

    assert ["00:05", "00:10", "00:21"] == [line[:5] for line in stream.getvalue().splitlines()]


def test_a_line_tells_all_numbers():
    line = line_of(make_glance(at_s=13.0))

    assert "101 events, 100 predictions, 85 labels, 20 waiting, 80 learned" in line
    assert "accuracy 0.90 (just now 0.77) against the last label again 0.50, the commoner label 0.55" in line
    assert "40 ms (p50), 90 ms (p99)" in line
    assert "number 2, 3 s old" in line
    assert "look different since 00:12, not noticed yet" in line


def test_a_line_of_the_first_moment_needs_nothing():
    member = make_member({}, model=None, quality=(), snapshot=None, label_to_influence=None)

    assert "no accuracy yet" in line_of(make_glance(at_s=0.0, member=member))


@pytest.mark.parametrize("width", [40, 80, 92])
def test_the_table_fits_its_terminal(width):
    text = drawn(make_glance(course=make_course(*[0.9] * 200), at_s=200.0, drift_at_s=190.0), width)

    assert all(len(line) <= width for line in text.splitlines())


def test_the_table_tells_what_a_label_and_a_snapshot_did():
    text = drawn(make_glance())

    assert "40 ms (p50), 90 ms (p99)" in text
    assert "number 2, 3 s old" in text
    assert "90%" in text


def test_the_drift_is_marked_where_it_was():
    text = drawn(make_glance(at_s=3.5, drift_at_s=1.0, course=make_course(1.0, 0.0, 1.0, 1.0)))

    assert "█╎▁█" in text
    assert "noticed by the learner" in drawn(make_glance(at_s=13.0, member=make_member({"drifts": 1})))


def test_predictions_are_shown_beside_what_turned_out():
    latest = (
        Seen("page-1", True, 0.9),
        Seen("page-2", False, 0.2),
        Seen("page-3", True, 0.9),
        Seen("page-4", None, None),
    )

    lines = drawn(make_glance(latest=latest, truth={"page-1": True, "page-2": True})).splitlines()

    said = [" ".join(line.strip("│ ").removeprefix("predictions ").split()) for line in lines if "page-" in line]
    assert [
        "page-1 phishing 90% sure right",
        "page-2 fine 80% sure wrong",
        "page-3 phishing 90% sure",
        "page-4 nothing yet",
    ] == said


def test_a_live_table_is_left_standing_with_what_was_said_above_it():
    console = Console(file=io.StringIO(), width=92, force_terminal=True, color_system=None)
    screen = LiveScreen(console)

    screen.show(make_glance())
    LogLines(screen).write("a warning\n")
    screen.close()
    screen.close()

    text = console.file.getvalue()
    assert text.index("a warning") < text.rindex("╭")
