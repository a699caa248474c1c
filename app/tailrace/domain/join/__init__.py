"""The join: scored events and labels become examples, dead letters and forwards, one partition at a time.

`machine` decides, `memory` keeps, `state` says where it stands, `batch` is what goes out, `recovery` makes a join
again from what was written, `room` says what a place for identities must offer. Pure: the caller reads, sends and
commits.
"""

from tailrace.domain.join.batch import Batch, JoinLimits, JoinSpec, PausedInputs
from tailrace.domain.join.machine import LabelJoin
from tailrace.domain.join.recovery import Kept, recover, starts
from tailrace.domain.join.room import WaitingRoom

__all__ = [
    "Batch",
    "JoinLimits",
    "JoinSpec",
    "Kept",
    "LabelJoin",
    "PausedInputs",
    "WaitingRoom",
    "recover",
    "starts",
]
