"""The key with which a person signs what they ask of a learner."""

from __future__ import annotations

import os
from collections.abc import Callable

from tailrace.domain.errors import SettingsError
from tailrace.stores.key_folder import KeyFolder
from tailrace.stores.signing import Purpose, SigningKey


def operator_key(keys: KeyFolder, tell: Callable[[str], None]) -> SigningKey:
    """Return the operator's key of this machine; where a learner keeps its keys here, make one if there is none.

    On a machine without a learner's trust list a new key would count nowhere, so none is made.

    Args:
        tell: Told in words what was done.

    Raises:
        SettingsError: There is no key and none can be made here that a learner would trust; or it cannot be used.
    """
    if keys.exists(Purpose.COMMANDS) or not _is_trusted_at_once(keys):
        return _present(keys)
    made = keys.generate(Purpose.COMMANDS, comment="made when the first command was given here", is_new=True)
    if made is not None:
        tell(f"no key to sign commands with: made and trusted {keys.path(Purpose.COMMANDS)} ({made.key_id})")
        return made
    return keys.private(Purpose.COMMANDS)


def _present(keys: KeyFolder) -> SigningKey:
    try:
        return keys.private(Purpose.COMMANDS)
    except SettingsError as problem:
        if keys.exists(Purpose.COMMANDS):
            raise
        carry = f"then `tailrace keys trust {keys.path(Purpose.COMMANDS).stem}.pub --purpose commands` where it learns"
        raise SettingsError([f"{problem}; {carry}"]) from problem


def _is_trusted_at_once(keys: KeyFolder) -> bool:
    trusted = keys.trusted
    return bool(trusted.current().keys) and os.access(trusted.path, os.W_OK) and os.access(keys.folder, os.W_OK)
