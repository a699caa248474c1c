"""The keys of a simulated loop: which are trusted, and for what."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.keys import make_key

from tailrace.stores.key_folder import KeyFolder, Signer, TrustFile
from tailrace.stores.signing import Purpose, SigningKey, TrustedKey, TrustList

LEARNER_KEY: Final = make_key(1)
REVOKED_KEY: Final = make_key(2)
UNKNOWN_KEY: Final = make_key(3)
OPERATOR_KEY: Final = make_key(4, Purpose.COMMANDS)
UNKNOWN_OPERATOR_KEY: Final = make_key(5, Purpose.COMMANDS)

TRUSTED: Final = TrustList(
    (
        TrustedKey(LEARNER_KEY.public, Purpose.SNAPSHOTS),
        TrustedKey(REVOKED_KEY.public, Purpose.SNAPSHOTS, is_revoked=True),
        TrustedKey(OPERATOR_KEY.public, Purpose.COMMANDS),
    )
)


class SimTrustFile(TrustFile):
    """The trust list of every process."""

    def __init__(self) -> None:
        super().__init__(Path("memory"))

    def current(self) -> TrustList:
        """Return the list."""
        return TRUSTED


class SimSigner(Signer):
    """The learner's key."""

    def __init__(self) -> None:
        super().__init__(KeyFolder(Path("memory")))

    def key(self) -> SigningKey:
        """Return the key."""
        return LEARNER_KEY
