from dataclasses import replace

from tests.demo.demo_builders import make_books, make_course, make_member, make_summary

from tailrace.demo.summary import Recovery, best_baseline, recovery_of
from tailrace.domain.books import Twice


def test_the_json_has_exactly_these_keys():
    plain = make_summary().to_plain()

    assert {
        "events": 10,
        "predictions": 9,
        "labels": 8,
        "learned": 6,
        "duplicates": 2,
        "waiting": 3,
        "balanced": True,
        "accuracy": 0.8333,
        "baseline": 0.5,
        "label_to_influence_ms": {"p50": 40.0, "p99": 90.0},
        "snapshots": 2,
        "first_prediction_s": 0.654,
    } == plain


def test_what_was_never_measured_is_null():
    plain = make_summary(accuracy=None, baseline=None, label_to_influence=None, first_prediction_s=None).to_plain()

    assert [None, None, None] == [plain[key] for key in ("accuracy", "baseline", "first_prediction_s")]
    assert {"p50": None, "p99": None} == plain["label_to_influence_ms"]


def test_a_line_that_does_not_hold_is_not_balanced():
    assert not make_summary(books=make_books(labels={"total": 9, "joined": 6, "duplicate": 2})).is_balanced


def test_events_that_the_books_do_not_know_are_not_balanced():
    assert not make_summary(events=11).is_balanced


def test_books_without_the_line_of_the_examples_are_not_balanced():
    books = make_books()

    assert not make_summary(books=replace(books, balances=books.balances[:3])).is_balanced


def test_what_was_learned_twice_is_not_balanced_and_is_told():
    summary = make_summary(books=replace(make_books(), learned_twice=(Twice("page-1", 0, (1, 2)),)))

    assert not summary.is_balanced
    assert "1 events were learned twice" in summary.in_words()
    assert "NOT everything is accounted for" in summary.in_words()


def test_the_words_tell_what_was_served_and_where_everything_went():
    words = make_summary(recovery=Recovery(0.9, 0.5, 0.88, 7), stays=("It stays.",)).in_words()

    assert "10 events came in, 9 predictions went out" in words
    assert "83% was right; the best trivial guess would have been right in 50%" in words
    assert "fell from 90% to 50%, and was back 7 s after the change" in words
    assert "10 events = 9 scored + 1 rejected" in words
    assert words.endswith("It stays.")


def test_words_need_nothing_that_was_never_measured():
    words = make_summary(accuracy=None, label_to_influence=None, snapshots=0, first_prediction_s=None).in_words()

    assert "9 predictions went out." in words
    assert "right" not in words


def test_the_best_baseline_is_the_one_that_is_hardest_to_beat():
    assert 0.55 == best_baseline(make_member())
    assert None is best_baseline(make_member(quality=()))


def test_a_recovery_is_back_when_it_is_about_as_good_as_before():
    course = make_course(0.9, 0.9, 0.9, 0.9, 0.9, 0.4, 0.5, 0.9, 0.9, 0.9, 0.9, 0.9)

    assert Recovery(0.9, 0.45, 0.9, 4) == recovery_of(course, drift_at_s=5.0, end_s=12.0)


def test_a_drift_that_was_not_overcome_is_told_so():
    recovery = recovery_of(make_course(*[0.9] * 5, *[0.4] * 6), drift_at_s=5.0, end_s=11.0)

    assert recovery is not None
    assert None is recovery.back_after_s
    assert "it was at 40% in the end" in make_summary(recovery=recovery).in_words()


def test_an_end_soon_after_the_drift_shows_no_recovery():
    assert None is recovery_of(make_course(*[0.9] * 7), drift_at_s=5.0, end_s=7.0)
    assert None is recovery_of(make_course(*[0.9] * 7), drift_at_s=60.0, end_s=7.0)
