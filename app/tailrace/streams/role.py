"""What one role of one process tells about itself: its state and why, for status, probes and instruments."""

from __future__ import annotations

from dataclasses import dataclass

from tailrace.domain.status import Role, RoleState
from tailrace.telemetry.recorder import Recorder


@dataclass(slots=True)
class RoleReport:
    """The present state of a role."""

    role: Role
    recorder: Recorder
    state: RoleState = RoleState.STARTING
    reason: str = ""

    def set(self, state: RoleState, reason: str = "") -> None:
        """Change the state; `reason` is a sentence for people."""
        self.state, self.reason = state, reason
        self.recorder.role(self.role, state)
