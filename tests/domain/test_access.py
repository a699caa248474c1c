"""Tokens and scopes: what counts, and what does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tailrace.domain.access import (
    SCOPE_MEANINGS,
    Denial,
    Scope,
    Token,
    admit,
    digest_of,
    id_in,
    is_this_machine,
    token_text,
)

TEXT = token_text("0a1b2c3d", "ab" * 32)
TOKEN = Token.of(TEXT, [Scope.READ], 1_000, expires_ms=5_000, comment="shop")


def test_nothing_of_a_token_is_kept_but_its_digest_and_four_characters():
    assert ("0a1b2c3d", digest_of(TEXT), "abab") == (TOKEN.id, TOKEN.digest, TOKEN.last_four)
    assert "ab" * 32 not in repr(TOKEN)


def test_a_token_that_is_known_counts_until_it_expires():
    assert TOKEN == admit({TOKEN.id: TOKEN}, TEXT, 4_999)
    assert Denial.EXPIRED is admit({TOKEN.id: TOKEN}, TEXT, 5_000)


def test_a_token_without_an_end_counts_for_ever():
    endless = replace(TOKEN, expires_ms=None)

    assert endless == admit({TOKEN.id: endless}, TEXT, 1 << 60)


def test_a_token_that_was_revoked_counts_no_more():
    assert Denial.REVOKED is admit({TOKEN.id: replace(TOKEN, is_revoked=True)}, TEXT, 2_000)


@pytest.mark.parametrize(
    "presented",
    [token_text("0a1b2c3d", "ac" * 32), token_text("ffffffff", "ab" * 32)],
    ids=["wrong secret", "unknown id"],
)
def test_a_token_that_was_never_made_is_unknown(presented: str):
    assert Denial.UNKNOWN is admit({TOKEN.id: TOKEN}, presented, 2_000)


@pytest.mark.parametrize("presented", ["", "Bearer", TEXT.upper(), TEXT + "\n", TEXT[:-1], "tailrace__" + "ab" * 32])
def test_what_is_no_token_is_malformed(presented: str):
    assert Denial.MALFORMED is admit({TOKEN.id: TOKEN}, presented, 2_000)


def test_the_id_is_read_out_of_the_form_of_a_token_alone():
    assert "0a1b2c3d" == id_in(token_text("0a1b2c3d", "0" * 64))
    assert "" == id_in("0a1b2c3d")


def test_an_id_that_nobody_has_is_not_let_in_by_the_digest_of_nothing():
    assert Denial.UNKNOWN is admit({}, TEXT, 2_000)


def test_every_scope_says_what_it_is_for():
    assert set(Scope) == set(SCOPE_MEANINGS)


def test_this_machine_is_known_by_name_and_by_every_loopback_address():
    assert all(map(is_this_machine, ["localhost", "LocalHost", "127.0.0.1", "127.0.0.2", "::1", "[::1]"]))
    assert not any(map(is_this_machine, ["", "example", "0.0.0.0", "10.0.0.1", "::2", "[::1", "localhost.example"]))
