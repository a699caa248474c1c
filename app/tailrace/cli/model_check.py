"""Asks the domain whether a configured model can run, for `tailrace check` and `tailrace init`.

River takes two seconds to load, so it is imported where it is needed: help and version answer at once.
"""

from __future__ import annotations

from pathlib import Path

from tailrace.domain.records import Task
from tailrace.settings import LoopSettings, ModelCheck, importer


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
