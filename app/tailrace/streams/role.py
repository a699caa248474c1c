"""What one role of one process tells about itself: its state and why, for status, probes and instruments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tailrace.domain.status import Role, RoleState
from tailrace.telemetry.recorder import Recorder


@dataclass(slots=True)
class RoleReport:
    """The present state of a role.

    Attributes:
        on_change: Called whenever the state is another one.
    """

    role: Role
    recorder: Recorder
    state: RoleState = RoleState.STARTING
    reason: str = ""
    on_change: Callable[[], None] | None = None

    def set(self, state: RoleState, reason: str = "") -> None:
        """Change the state; `reason` is a sentence for people."""
        is_other = state != self.state
        self.state, self.reason = state, reason
        self.recorder.role(self.role, state)
        if is_other and self.on_change is not None:
            self.on_change()
