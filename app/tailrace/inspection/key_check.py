"""Whether the keys of this machine are in order: who signs here, and does its signature count."""

from __future__ import annotations

from tailrace.domain.errors import SettingsError
from tailrace.domain.status import Verdict
from tailrace.inspection.doctor import Check
from tailrace.stores.key_folder import KEY_FILES, KeyFolder
from tailrace.stores.signing import Purpose, TrustList

_NEW_KEY = "`tailrace keys generate --replace`; every other machine then needs `tailrace keys trust`"


def keys_check(keys: KeyFolder, at_ms: int) -> Check:
    """Look at the private keys that are there, and at the list of those that are trusted.

    Args:
        at_ms: Now; a key must be valid then.
    """
    trust = keys.trusted.current()
    if trust.problem:
        return Check("keys", Verdict.FAIL, trust.problem, "repair it, or remove it and trust your keys again")
    found = []
    for purpose in KEY_FILES:
        if keys.exists(purpose):
            try:
                key_id = keys.private(purpose).key_id
            except SettingsError as problem:
                return Check("keys", Verdict.FAIL, str(problem), "do as it says, then run this again")
            refusal = trust.may_sign(purpose, key_id, at_ms)
            if refusal is not None:
                step = f"`tailrace keys trust {keys.path(purpose).with_suffix('.pub')}`, or {_NEW_KEY}"
                said = f"{keys.path(purpose).name} signs {purpose}, and that counts for nothing: {refusal.message}"
                return Check("keys", Verdict.FAIL, said, _NEW_KEY if refusal.reason == "revoked_key" else step)
            found.append(f"{keys.path(purpose).name} ({key_id}) signs {purpose} and is trusted")
    return _without_or_with(keys, trust, found)


def _without_or_with(keys: KeyFolder, trust: TrustList, found: list[str]) -> Check:
    trusted = len(trust.of(Purpose.SNAPSHOTS))
    if not trusted:
        step = "carry learner.pub over from where it learns: `tailrace keys trust learner.pub`; a learner makes its own"
        return Check("keys", Verdict.WARN, f"{keys.trusted.path} trusts no key that signs snapshots", step)
    signers = "; ".join(found) or "no private key here, as it should be where nothing learns"
    return Check("keys", Verdict.OK, f"{signers}; {trusted} key{'s' * (trusted != 1)} trusted for snapshots")
