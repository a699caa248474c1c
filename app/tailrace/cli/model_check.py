"""Asks the domain whether a configured model can run, for `tailrace check` and `tailrace init`.

River takes two seconds to load, so it is imported where it is needed: help and version answer at once.
"""

from __future__ import annotations

from pathlib import Path

from tailrace.domain.contract import FeatureContract, FeatureSpec, TargetContract
from tailrace.domain.errors import SettingsError
from tailrace.domain.records import Task, Value
from tailrace.settings import LoopSettings, ModelCheck, Settings, importer


def model_check(folder: Path) -> ModelCheck:
    """Return what `settings.load` asks about every champion.

    Args:
        folder: Of the configuration file, where the module of a `module:function` may lie.
    """
    build_function = importer(folder)

    def check_model(expression: str, experimental: bool, task: Task) -> None:  # noqa: FBT001 - the shape of ModelCheck
        from tailrace.domain.models.spec import ModelSpec  # noqa: PLC0415 - see above

        ModelSpec.load(task.value, expression, build_function, experimental=experimental)

    return check_model


def canonical_model(loop: LoopSettings, folder: Path) -> str:
    """Return the text that is equal for equal models: modules named, arguments by name, our bounds written out."""
    from tailrace.domain.models.spec import ModelSpec  # noqa: PLC0415 - see above

    champion = loop.champion
    spec = ModelSpec.load(loop.task.value, champion.model, importer(folder), experimental=champion.experimental)
    return spec.model


def check_texts(settings: Settings) -> None:
    """Return if no model grows with every new text that strangers send.

    Raises:
        SettingsError: With one problem per loop.
    """
    problems = [
        f"loops.{name}.features.{texts[0]}: found text, of which the model keeps every value for ever; allowed is a "
        'bounded one: { type = "category", max = 200 }, or FeatureHasher(seed=1) before the model'
        for name, loop in settings.loops.items()
        if (texts := [spec.name for spec in loop.contract.features if spec.type == "text"])
        and _keeps_texts(loop, settings.folder, texts)
    ]
    if problems:
        raise SettingsError(problems)


def _keeps_texts(loop: LoopSettings, folder: Path, texts: list[str]) -> bool:
    from tailrace.domain.models.growth import grows_with_texts  # noqa: PLC0415 - see above
    from tailrace.domain.models.spec import ModelSpec  # noqa: PLC0415 - see above

    champion = loop.champion
    spec = ModelSpec.load(loop.task.value, champion.model, importer(folder), experimental=champion.experimental)
    return grows_with_texts(spec.build, spec.codec(), _row(loop.contract), texts, _targets(loop.target))


def _row(contract: FeatureContract) -> dict[str, Value]:
    return {spec.name: _value(spec) for spec in contract.features}


def _value(spec: FeatureSpec) -> Value:
    if spec.type in {"category", "text"}:
        return spec.values[0] if spec.values else "a"
    if spec.type == "boolean":
        return True
    low, high = spec.minimum, spec.maximum
    number = low if low is not None else high if high is not None else 1
    return int(number) if spec.type == "integer" else float(number)


def _targets(target: TargetContract) -> list[object]:
    count = {Task.BINARY: 2, Task.MULTICLASS: len(target.classes), Task.REGRESSION: 10}[target.task]
    return [target.river(float(number)) for number in range(count)]
