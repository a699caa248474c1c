"""Keys and signatures: what counts, and every reason for which something does not."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from tests.keys import make_key, trusting

from tailrace.stores.signing import (
    Purpose,
    SigningKey,
    TrustedKey,
    TrustList,
    public_of_pem,
    sign_command,
    verify_command,
)

CONTENT = b'{"promote":"tree"}'


def test_a_key_comes_back_from_its_file_and_signs_alike():
    key = SigningKey.generate(Purpose.SNAPSHOTS)

    again = SigningKey.from_pem(Purpose.SNAPSHOTS, key.to_pem())

    assert key.sign(CONTENT) == again.sign(CONTENT)
    assert key.public == public_of_pem(key.public_pem())
    assert 16 == len(key.key_id)


def test_what_is_no_ed25519_key_is_refused():
    other = Ed448PrivateKey.generate()
    private = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    for pem, problem in ((b"no key", "no private key"), (private, "another algorithm")):
        with pytest.raises(ValueError, match=problem):
            SigningKey.from_pem(Purpose.SNAPSHOTS, pem)
    for pem, problem in ((b"no key", "no public key"), (public, "another algorithm")):
        with pytest.raises(ValueError, match=problem):
            public_of_pem(pem)


def test_a_command_that_a_trusted_operator_signed_counts():
    key = make_key(purpose=Purpose.COMMANDS)

    assert verify_command(trusting([key]), CONTENT, sign_command(key, CONTENT), key.key_id, 0) is None


def test_a_signature_of_one_purpose_is_none_of_another():
    """The same key under both purposes: without the prefixes the manifest's signature would promote a model."""
    learner = make_key(purpose=Purpose.SNAPSHOTS)
    operator = make_key(purpose=Purpose.COMMANDS)
    trust = trusting([operator])

    refusal = verify_command(trust, CONTENT, learner.sign(CONTENT), learner.key_id, 0)

    assert refusal is not None
    assert "signature" == refusal.reason
    with pytest.raises(ValueError, match="not commands"):
        sign_command(learner, CONTENT)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"content": CONTENT + b" "}, "signature"),
        ({"signature": b""}, "signature"),
        ({"signature": bytes(64)}, "signature"),
        ({"key_id": ""}, "unsigned"),
        ({"key_id": "0" * 16}, "unknown_key"),
        ({"key_id": make_key(2).key_id}, "key_purpose"),
        ({"key_id": make_key(3).key_id}, "revoked_key"),
        ({"at_ms": 9}, "key_not_valid"),
        ({"at_ms": 21}, "key_not_valid"),
    ],
)
def test_each_reason_has_its_name(changes: dict, reason: str):
    key = make_key(1, Purpose.COMMANDS)
    trust = TrustList(
        (
            TrustedKey(key.public, Purpose.COMMANDS, 10, 20),
            TrustedKey(make_key(2).public, Purpose.SNAPSHOTS),
            TrustedKey(make_key(3).public, Purpose.COMMANDS, is_revoked=True),
        )
    )
    good = {"content": CONTENT, "signature": key.sign(CONTENT), "key_id": key.key_id, "at_ms": 10}
    assert trust.verify(Purpose.COMMANDS, **good) is None

    refusal = trust.verify(Purpose.COMMANDS, **(good | changes))

    assert refusal is not None
    assert reason == refusal.reason


def test_revoked_keys_are_not_among_those_of_a_purpose():
    trust = TrustList((TrustedKey(make_key(1).public, Purpose.SNAPSHOTS, is_revoked=True),))

    assert [] == trust.of(Purpose.SNAPSHOTS)
    assert [make_key(2).key_id] == [key.key_id for key in trusting([make_key(2)]).of(Purpose.SNAPSHOTS)]
