"""Rows by hash: the first row that has it, whatever the hashes are spread like."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from index.hashed_rows import rows_of_hashes

_HASHES = st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 20), st.integers(2**64 - 20, 2**64 - 1))


@given(kept=st.lists(_HASHES, max_size=200), wanted=st.lists(_HASHES, max_size=30), data=st.data())
def test_the_first_row_of_an_equal_hash_is_found_and_nothing_else(
    kept: list[int], wanted: list[int], data: st.DataObject
) -> None:
    asked = wanted + (data.draw(st.lists(st.sampled_from(kept), max_size=10)) if kept else [])
    hashes = np.array(sorted(kept), np.uint64)
    rows = np.arange(len(kept), dtype=np.int32)[::-1].copy()
    first = {value: len(kept) - 1 - place for place, value in reversed(list(enumerate(sorted(kept))))}
    found = rows_of_hashes(hashes, rows, np.array(asked, np.uint64))
    assert found.tolist() == [first.get(value, -1) for value in asked]
