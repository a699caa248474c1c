"""The key that a learner signs with, made on its first start, and what is said about it."""

from __future__ import annotations

import structlog

from tailrace.main.loops import now_ms
from tailrace.stores.key_folder import KeyFolder, show_time
from tailrace.stores.signing import Purpose

log = structlog.get_logger(__name__)


def make_key_if_none(keys: KeyFolder) -> None:
    """Let a learner have a key to sign with: the one that is there, else a new one, which is told.

    Raises:
        SettingsError: The key cannot be used, or none can be made.
    """
    comment = f"made when a learner first started, {show_time(now_ms())}"
    made = keys.generate(Purpose.SNAPSHOTS, comment=comment, is_new=True)
    path = keys.path(Purpose.SNAPSHOTS)
    if made is not None:
        carry = f"on every other machine that serves or learns: `tailrace keys trust` {path.with_suffix('.pub').name}"
        log.warning("no key to sign snapshots with: made and trusted one", key=made.key_id, file=str(path), next=carry)
        return
    key = keys.private(Purpose.SNAPSHOTS)
    refusal = keys.trusted.current().may_sign(Purpose.SNAPSHOTS, key.key_id, now_ms())
    if refusal is not None:
        step = f"`tailrace keys trust {path.with_suffix('.pub')}`, or `tailrace keys generate --replace`"
        log.error("no snapshot will be written", key=key.key_id, why=refusal.message, next=step)
