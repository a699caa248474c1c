import pytest
from tests.demo.demo_builders import make_course, make_glance, make_member

from tailrace.demo.glance import Judged, judged_of
from tailrace.domain.status import Quality


def test_what_waits_is_what_was_scored_and_is_not_settled():
    counters = {
        "events_scored": 100,
        "events_abstained": 2,
        "event_joins_joined": 80,
        "event_joins_dropped": 5,
        "labels_joined": 80,
    }

    glance = make_glance(member=make_member(counters))

    assert 17 == glance.waiting


def test_nothing_is_learned_before_there_is_a_model():
    assert 0 == make_glance(member=make_member(model=None)).learned


def test_the_pages_look_different_from_the_drift_on():
    assert not make_glance(at_s=12.4, drift_at_s=12.5).has_drifted
    assert make_glance(at_s=12.5, drift_at_s=12.5).has_drifted


def test_hits_are_counted_back_from_the_accuracy():
    assert Judged(80, 72) == judged_of(Quality("accuracy", "all", 0.9, 80))
    assert Judged(0, 0) == judged_of(None)
    assert Judged(0, 0) == judged_of(Quality("accuracy", "all", None, 0))


def test_just_now_is_the_last_seconds_alone():
    course = make_course(0.2, 0.2, 0.2, 0.9, 0.9, 0.9)

    assert 0.9 == course.recent().share


def test_the_course_is_told_by_seconds_that_are_over():
    assert [0.5, 0.7] == make_course(0.5, 0.7, 0.9).seconds(10)
    assert [0.7] == make_course(0.5, 0.7, 0.9).seconds(1)


def test_a_second_without_labels_has_no_accuracy():
    course = make_course(0.5)

    course.note(3.5, Judged(200, 150))

    assert [0.5, None, None] == course.seconds(10)


def test_the_course_begins_where_it_was_first_looked_at():
    course = make_course()
    course.note(0.1, Judged(0, 0))
    later = type(course)()

    later.note(0.2, Judged(1_000, 900))
    later.note(1.2, Judged(1_100, 950))
    later.note(2.2, Judged(1_100, 950))

    assert [None, 0.5] == later.seconds(10)


def test_the_lowest_stretch_is_found_after_a_moment():
    course = make_course(0.1, 0.9, 0.9, 0.5, 0.6, 0.9, 0.9)

    assert pytest.approx(0.55) == course.lowest(2)
    assert None is course.lowest(20)
