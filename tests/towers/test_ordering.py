"""Keys ordered by digits: as a stable sort of what their higher bits say."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from towers.ordering import BIN_COUNT, by_digits


@given(st.lists(st.integers(0, 2**62), max_size=300) | st.lists(st.integers(0, 600), max_size=300), st.integers(0, 40))
def test_ordered_by_the_higher_bits_equal_ones_as_they_stood(keys: list[int], first_bit: int) -> None:
    given_keys = np.array([*keys, 7, 7], np.int64)  # two that `count` leaves out
    expected = np.array(sorted(keys, key=lambda key: key >> first_bit), np.int64)
    found = by_digits(
        given_keys, np.empty_like(given_keys), np.empty(BIN_COUNT, np.int32), np.int64(len(keys)), np.int64(first_bit)
    )
    assert found[: len(keys)].tolist() == expected.tolist()
