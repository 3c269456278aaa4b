"""The attribution token, there and back."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.attribution import AttributionToken, TokenError

TEXT = st.text(max_size=60)


@given(TEXT, TEXT, TEXT, st.integers(min_value=0, max_value=2**53))
def test_a_token_says_what_it_was_made_of(request_id: str, generation_id: str, placement: str, time_ms: int) -> None:
    token = AttributionToken(request_id, generation_id, placement, time_ms / 1000)
    decoded = AttributionToken.decode(token.encode())
    assert (decoded.request_id, decoded.generation_id, decoded.placement) == (request_id, generation_id, placement)
    assert abs(decoded.request_time_s - token.request_time_s) <= 0.001 * 1.001


@given(st.text(max_size=100) | st.binary(max_size=80).map(lambda data: data.hex()))
def test_anything_else_is_a_token_error_or_a_token(text: str) -> None:
    with suppress(TokenError):
        AttributionToken.decode(text)


def test_a_cut_token_is_refused() -> None:
    text = AttributionToken("request", "generation", "home", 1.0).encode()
    for length in range(len(text) - 1):
        with pytest.raises(TokenError):
            AttributionToken.decode(text[:length])
