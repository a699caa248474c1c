"""A compiled branch serves, learns, is verified, and outlives the package that compiles it."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from tests.scenarios.commanding import accepted, bare, learn, tailrace
from tests.scenarios.harness import Scenario, now_ms, pairs, until

from tailrace.domain.branches import COMPILED
from tailrace.domain.learning import Fold
from tailrace.domain.models.fused import FusedModel
from tailrace.main import LoopDomain, compiling
from tailrace.opening import open_trust
from tailrace.streams.snapshot_index import unsealed

AUTO = {"model": "StandardScaler() | LogisticRegression()", "compiled": "auto"}


@pytest.fixture
def numba(monkeypatch):
    """Say whether numba is installed: where it is said without being so, kernels run in plain Python."""

    def be(scenario: Scenario, *, is_there: bool) -> None:
        monkeypatch.setattr(compiling, "has_compiler", lambda: is_there)
        name = scenario.domain.name
        scenario.domain = LoopDomain.of(name, scenario.settings.loops[name], scenario.settings.folder)

    return be


async def begun(scenario: Scenario):
    process = await scenario.start()
    await until(lambda: scenario.loop_of(process).models.live is not None, "it learns")
    return process, scenario.loop_of(process).models.live


async def test_a_compiled_branch_serves_and_a_process_without_numba_goes_on_with_it_and_says_so(made, numba):
    scenario = await made(champion=AUTO)
    numba(scenario, is_there=True)
    compiled = scenario.domain.branch
    process, live = await begun(scenario)
    await learn(scenario, process, 60)
    assert isinstance(live.champion.model, FusedModel)
    assert (compiled.lineage, 60) == (live.pointers.champion, live.champion.learned)
    await scenario.stop(process)

    numba(scenario, is_there=False)
    assert "numba is not installed" in scenario.domain.why_not_compiled
    assert compiled.lineage != scenario.domain.branch.lineage
    process, live = await begun(scenario)
    await learn(scenario, process, 30, first=100)
    assert (compiled.lineage, 90) == (live.pointers.champion, live.champion.learned)
    river, ours = await bare(scenario), live.champion.model.to_river()
    steps = [list(model.steps.values()) for model in (river, ours)]
    assert list(steps[1][1].weights.values()) == pytest.approx(list(steps[0][1].weights.values()), rel=1e-12)
    assert dict(steps[1][0].means) == pytest.approx(dict(steps[0][0].means), rel=1e-12)
    said = {prediction["version"] for prediction in await scenario.user.predictions()}
    assert {compiled.lineage[:12]} == said
    await scenario.stop(process)

    trusted = open_trust(scenario.settings)
    index = [record for record in await scenario.user.read(scenario.domain.topics.snapshots) if record.value]
    assert {compiled.versions[COMPILED]} == {unsealed(record, trusted).versions[COMPILED] for record in index}
    verified = await tailrace(scenario, "verify")
    assert 0 == verified.code, verified.err


async def test_the_configured_form_takes_over_by_an_upgrade_and_not_by_a_restart(made, numba):
    scenario = await made(champion=AUTO)
    numba(scenario, is_there=False)
    rivers = scenario.domain.branch.lineage
    process, live = await begun(scenario)
    await learn(scenario, process, 40)
    assert rivers == live.pointers.champion
    await scenario.stop(process)

    numba(scenario, is_there=True)
    process, live = await begun(scenario)
    assert rivers == live.pointers.champion
    upgraded = await tailrace(scenario, "upgrade", "--promote", "--why", "compiled")
    assert 0 == upgraded.code, upgraded.err
    await until(lambda: live.pointers.champion == scenario.domain.branch.lineage, "the compiled branch serves")
    await learn(scenario, process, 20, first=100)

    assert {60} == {branch.learned for branch in live.branches.values()}
    one, other = (branch.model for branch in live.branches.values())
    ours, theirs = (one, other) if isinstance(one, FusedModel) else (other, one)
    x = {"a": 0.3, "b": -1.0}
    answered = ours.answer_many(ours.matrix_of([x])).proba[0, 0]
    assert np.isclose(answered, theirs.predict_proba_one(x)[True], rtol=1e-12)


async def test_what_a_branch_runs_is_compiled_beside_what_serves(made, numba, monkeypatch):
    compiled, threads = FusedModel.warm, {}

    def warm(fold, *branches):
        threads.setdefault(id(fold), []).append(threading.current_thread())
        warm_really(fold, *branches)

    warm_really = Fold.warm
    monkeypatch.setattr(Fold, "warm", warm)
    scenario = await made(champion=AUTO)
    numba(scenario, is_there=False)
    process, live = await begun(scenario)
    await learn(scenario, process, 40)
    await scenario.stop(process)

    numba(scenario, is_there=True)
    threads.clear()
    process, live = await begun(scenario)
    (own,) = threads  # the worker's fold: it has restored
    warmed = []
    monkeypatch.setattr(FusedModel, "warm", lambda model: (warmed.append(threading.current_thread()), compiled(model)))
    upgraded = await tailrace(scenario, "upgrade", "--promote", "--why", "compiled")
    assert 0 == upgraded.code, upgraded.err
    await until(lambda: live.pointers.champion == scenario.domain.branch.lineage, "the compiled branch serves")
    await learn(scenario, process, 10, first=100)

    assert len(threads[own]) > 1
    assert set(threads[own]) & set(warmed)
    assert threading.main_thread() not in {*threads[own], *warmed}


async def test_categories_with_a_list_are_compiled_as_rivers_columns(made, numba):
    one_hot = "(SelectType(str) | OneHotEncoder()) + (SelectType(float) | StandardScaler()) | LogisticRegression()"
    colour = {"type": "category", "values": ["red", "blue"], "other": True, "missing": "absent"}
    scenario = await made(
        champion={"model": one_hot, "compiled": "auto"}, features={"a": "number", "b": "number", "colour": colour}
    )
    numba(scenario, is_there=True)
    _, live = await begun(scenario)
    events, labels = pairs(60, now_ms())
    told = [{"colour": value} for value in ("red", "blue", "green")] + [{}]
    await scenario.user.events(*(event | told[place % 4] for place, event in enumerate(events)))
    await scenario.user.labels(*labels)
    await until(lambda: live.champion.learned == 60, "all are learned")

    river, contract = scenario.domain.kit_of(river_form(scenario)).build_model(), scenario.domain.contract
    for _, block in await accepted(scenario):
        rows = contract.rows(block.examples.x) if len(block.examples) else []
        for x, y in zip(rows, block.examples.y.tolist(), strict=True):
            river.learn_one(x, bool(y))
    weights = live.champion.model.to_river()["LogisticRegression"].weights
    assert {"a", "b", "colour_red", "colour_blue", "colour_other"} == weights.keys()
    assert weights == pytest.approx(river["LogisticRegression"].weights, rel=1e-12)


def river_form(scenario: Scenario):
    branch = scenario.domain.branch
    return replace(branch, versions={name: each for name, each in branch.versions.items() if name != COMPILED})
