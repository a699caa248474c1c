"""Every task through the whole loop, and the implicit label."""

from prometheus_client import generate_latest
from tests.scenarios.harness import now_ms, until


def events_of(count, at_ms):
    return [
        {"id": f"e{i}", "at": at_ms + i, "a": (i * 37 % 100) / 50 - 1, "b": (i * 61 % 100) / 50 - 1}
        for i in range(count)
    ]


async def run(scenario, target, count=150):
    """Feed one event after another with its label at once; return predictions by event id."""
    process = await scenario.start()
    events = events_of(count, now_ms())
    for start in range(0, count, 30):
        some = events[start : start + 30]
        await scenario.user.events(*some)
        await scenario.user.labels(*({"id": each["id"], "at": each["at"], "y": target(each)} for each in some))
        await until(lambda: scenario.learned(process) == min(count, start + 30), "the labels are learned")  # noqa: B023
    return process, {each["event_id"]: each for each in await scenario.user.predictions()}


async def test_a_multiclass_loop_answers_with_classes_and_learns_them(made):
    labels = {"target": "y", "classes": ["low", "mid", "high"]}
    scenario = await made(
        partitions=2,
        task="multiclass",
        labels={"topic": made.form.topic("labels"), "id": "id", "time": "at", **labels},
        champion={"model": "StandardScaler() | SoftmaxRegression()"},
    )

    def target(event):
        return "low" if event["a"] < -0.3 else "high" if event["a"] > 0.3 else "mid"

    process, predictions = await run(scenario, target)

    last = [predictions[f"e{i}"] for i in range(120, 150)]
    assert {each["y_pred"] for each in last} <= {"low", "mid", "high"}
    assert all(abs(sum(each["proba"].values()) - 1) < 1e-9 for each in last)
    figures = {(each.metric, each.window): each for each in scenario.loop_of(process).models.live.quality.figures()}
    assert figures["accuracy", "all"].samples > 0
    assert figures["accuracy", "all"].value > max(figures["accuracy", "all"].baselines.values())


async def test_a_regression_loop_answers_with_numbers_and_comes_closer(made):
    scenario = await made(partitions=2, task="regression", champion={"model": "StandardScaler() | LinearRegression()"})

    process, predictions = await run(scenario, lambda event: 3 * event["a"] - event["b"])

    assert all(isinstance(each["y_pred"], float) and "proba" not in each for each in predictions.values())
    figures = {(each.metric, each.window): each for each in scenario.loop_of(process).models.live.quality.figures()}
    assert figures["mae", "all"].value < min(figures["mae", "all"].baselines.values())


async def test_an_anomaly_loop_answers_with_scores_and_is_judged_by_its_labels(made):
    model = "MinMaxScaler() | HalfSpaceTrees(n_trees=20, height=6, window_size=40, seed=1)"
    scenario = await made(partitions=2, task="anomaly", champion={"model": model})

    def target(event):
        return event["a"] > 0.9

    process, predictions = await run(scenario, target)

    assert all(isinstance(each["y_pred"], float) and "proba" not in each for each in predictions.values())
    assert all(0.0 <= each["y_pred"] <= 1.0 for each in predictions.values())
    state = scenario.loop_of(process).models.live
    figures = {(each.metric, each.window): each for each in state.quality.figures()}
    assert (150, 0.5) == (figures["roc_auc", "all"].samples, figures["roc_auc", "all"].baselines["constant"])
    assert (150, 0) == (state.champion.learned, state.drift.signals)


async def test_while_all_labels_of_an_anomaly_loop_are_alike_its_scores_have_no_value(made):
    """Defence: `ScoreAuc` and its NaN. A value of 0 would read as the worst model, and so be warned of."""
    scenario = await made(task="anomaly", champion={"model": "StandardScaler() | OneClassSVM()"})

    process, _ = await run(scenario, lambda _: False, count=30)

    def exported():
        lines = generate_latest(process.instruments.registry).decode().splitlines()
        return {line.split()[-1] for line in lines if line.startswith("tailrace_model_metric{")}

    await until(lambda: exported() == {"NaN"}, "the heartbeat says so")
    assert {None} == {each.value for each in scenario.loop_of(process).models.live.quality.figures()}


async def test_an_event_that_gets_no_label_is_learned_with_the_implicit_one(made):
    scenario = await made(partitions=2, missing=False, horizon="1s", disorder="1s", skew="0s", idle_after="1s")
    process = await scenario.start()
    at_ms = now_ms() - 60_000

    await scenario.user.events(*events_of(20, at_ms))
    await until(lambda: scenario.loop_of(process).recorder.counts["events_scored"] == 20, "all are scored")
    later = [{"id": f"later{i}", "at": at_ms + 30_000, "a": 0.1, "b": 0.1} for i in range(40)]
    await scenario.user.events(*later)
    await until(lambda: scenario.learned(process) >= 20, "those whose horizon has passed are learned")

    counts = scenario.loop_of(process).models.live.counts
    assert (20, 0) == (counts.implicit, counts.joined)
