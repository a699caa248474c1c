"""Who owns which part of the training log, decided by the log alone.

Invariant: every reader that applies the same records in order accepts the same blocks. A former owner that
still appends after a valid claim, and a block that is sent twice, are refused by every reader alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tailrace.domain.records import Claim, Owner


@dataclass(slots=True)
class OwnershipState:
    """Owner and last accepted number of every part, as of a position of the log.

    Attributes:
        log_id: Name of the log, given by its first claim; "" before it.
        owners: Partition → owner. `records.LEARNER` is the learner's part.
        numbers: Partition → number of the last accepted block or record under the present claim.
    """

    log_id: str = ""
    owners: dict[int, Owner] = field(default_factory=dict)
    numbers: dict[int, int] = field(default_factory=dict)

    def claim(self, claim: Claim) -> bool:
        """Take a claim into account; return whether it counts.

        It counts if it names the present owner and this log. The first claim of a log names the log.
        """
        if self.owners.get(claim.partition) != claim.after:
            return False
        if self.log_id and claim.log_id != self.log_id:
            return False
        self.log_id = claim.log_id
        self.owners[claim.partition] = claim.owner
        self.numbers[claim.partition] = 0
        return True

    def accept(self, partition: int, owner: Owner, number: int) -> bool:
        """Accept a block or record of the owner whose number is the next one; refuse any other."""
        if self.owners.get(partition) != owner or self.numbers[partition] + 1 != number:
            return False
        self.numbers[partition] = number
        return True
