"""Asks the domain whether a configured model can run, for `tailrace check` and `tailrace init`.

River takes two seconds to load, so it is imported where it is needed: help and version answer at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from tailrace.domain.contract import FeatureContract, FeatureSpec, TargetContract
from tailrace.domain.errors import SettingsError
from tailrace.domain.records import Task, Value
from tailrace.settings import LoopSettings, ModelCheck, Settings, importer

if TYPE_CHECKING:
    from tailrace.domain.models.spec import ModelSpec
    from tailrace.inspection.encode_cost import EncodeCost

_LIMIT_S: Final = 1.0
"""Longer than this `tailrace check` teaches no model."""


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


def _spec(loop: LoopSettings, folder: Path) -> ModelSpec:
    from tailrace.domain.models.spec import ModelSpec  # noqa: PLC0415 - see above

    champion = loop.champion
    return ModelSpec.load(loop.task.value, champion.model, importer(folder), experimental=champion.experimental)


def canonical_model(loop: LoopSettings, folder: Path) -> str:
    """Return the text that is equal for equal models: modules named, arguments by name, our bounds written out."""
    return _spec(loop, folder).model


def why_not_compiled(loop: LoopSettings, folder: Path) -> str:
    """Return in one sentence why River's own code runs the champion; "" where it is compiled."""
    from tailrace.main import compiling  # noqa: PLC0415 - see above

    return compiling.why_not_compiled(_spec(loop, folder), loop)


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
    from tailrace.domain.models.vocabulary import grows_with_texts  # noqa: PLC0415 - see above

    spec = _spec(loop, folder)
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
    count = 10 if target.task is Task.REGRESSION else max(2, len(target.classes))
    return [target.river(float(number)) for number in range(count)]


def cost_of_model(loop: LoopSettings, folder: Path) -> EncodeCost:
    """Measure on this machine what one encoding of the champion's state takes."""
    from tailrace.inspection.encode_cost import encode_cost  # noqa: PLC0415 - see above

    return encode_cost(_spec(loop, folder), loop.contract, loop.target, limit_s=_LIMIT_S)


def cost_note(name: str, cost: EncodeCost) -> str | None:
    """Return what to do about a model that costs much, or None."""
    from tailrace.inspection.encode_cost import ADVICE, SLOW_ENCODE_S  # noqa: PLC0415 - see above

    if cost.problem is not None:
        return f"loops.{name}: the model could not be tried: {cost.problem}"
    if not cost.is_slow:
        return None
    took_ms, most_ms = cost.encode_s * 1_000, SLOW_ENCODE_S * 1_000
    return f"loops.{name}: a snapshot of the model takes {took_ms:.0f} ms, more than {most_ms:.0f} ms; {ADVICE}"
