from itertools import islice

from tailrace.demo.dataset import FEATURES, TURNED, Page, pages, turned
from tailrace.demo.script import DELAY_S, Scene, Script

HORIZON_S = 10.0


def make_scenes(count: int = 3_000, seed: int = 1, *, has_drifted: bool = False, first: int = 0) -> list[Scene]:
    script = Script(seed, first=first, horizon_s=HORIZON_S)
    return [script.next(has_drifted=has_drifted) for _ in range(count)]


def test_the_same_seed_tells_the_same_story():
    assert make_scenes(50) == make_scenes(50)
    assert make_scenes(50) != make_scenes(50, seed=2)


def test_rows_repeat_without_end_under_new_ids():
    scenes = make_scenes()

    assert len(scenes) == len({scene.page_id for scene in scenes})
    assert "page-000000" == scenes[0].page_id
    assert "page-000007" == make_scenes(1, first=7)[0].page_id


def test_every_pass_shows_every_row_once():
    stream = pages(seed=1)

    first, second = ([str(row) for row in islice(stream, 1_250)] for _ in range(2))

    assert sorted(first) == sorted(second)
    assert first != second


def test_most_pages_get_one_verdict_that_is_late_by_seconds():
    usual = [scene for scene in make_scenes() if len(scene.verdicts) == 1 and scene.verdicts[0].delay_s < HORIZON_S]

    assert len(usual) > 2_700
    assert all(DELAY_S[0] <= scene.verdicts[0].delay_s <= DELAY_S[1] for scene in usual)
    assert all(scene.is_phishing == scene.verdicts[0].is_phishing for scene in usual)


def test_a_few_pages_show_everything_else_that_happens():
    scenes = make_scenes()
    judged = [scene for scene in scenes if scene.x["https"] != "maybe"]
    pairs = [scene.verdicts for scene in judged if len(scene.verdicts) == 2]

    never = sum(not scene.verdicts for scene in judged)
    late = sum(verdict.delay_s > HORIZON_S for scene in judged for verdict in scene.verdicts)
    twice = sum(first.is_phishing == second.is_phishing for first, second in pairs)
    contradicted = sum(first.is_phishing != second.is_phishing for first, second in pairs)
    broken = len(scenes) - len(judged)
    again = sum(scene.times == 2 for scene in scenes)

    assert all(0 < count < 150 for count in (never, late, twice, contradicted, broken, again))


def test_what_the_contract_rejects_gets_no_verdict():
    broken = [scene for scene in make_scenes() if scene.x["https"] == "maybe"]

    assert all(scene.verdicts == () for scene in broken)


def test_the_drift_turns_a_few_features_round_and_leaves_the_rest():
    page = Page({**dict.fromkeys(FEATURES, 0.25), "https": 1.0}, is_phishing=True)

    after = turned(page)

    assert {**page.x, **dict.fromkeys(TURNED, 0.75), "https": 0.0} == after.x
    assert page.is_phishing == after.is_phishing
