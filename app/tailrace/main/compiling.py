"""Which models of a loop are compiled in this process."""

from __future__ import annotations

from importlib.util import find_spec

from tailrace.domain.compiling import plan_over
from tailrace.domain.models import kernels
from tailrace.domain.models.spec import ModelSpec
from tailrace.settings import LoopSettings


def why_not_compiled(spec: ModelSpec, settings: LoopSettings) -> str:
    """Return in one sentence why River's own code runs the configured model; "" where it is compiled."""
    if settings.champion.compiled == "never":
        return 'the setting compiled is "never"'
    plan = plan_over(spec, settings.contract, settings.target)
    if isinstance(plan, str):
        return plan
    if has_compiler():
        return ""
    if find_spec("numba"):
        return 'the package numba is installed and cannot be loaded; `python -c "import numba"` says why'
    return "the package numba is not installed; install Tailrace with its extra `fast`"


def has_compiler() -> bool:
    """Tell whether kernels are compiled in this process."""
    return kernels.HAS_COMPILER
