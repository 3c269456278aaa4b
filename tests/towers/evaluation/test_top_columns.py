import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from towers.evaluation.top_columns import NOT_RECOMMENDED, top_columns


def test_ties_go_to_the_lower_column() -> None:
    scores = np.array([[1, 3, 3, 2, 3, 1], [0, 0, 0, 0, 0, 0]], dtype=np.float32)
    assert top_columns(scores, 4).tolist() == [[1, 2, 4, 3], [0, 1, 2, 3]]


def test_what_is_not_recommended_leaves_its_place_empty() -> None:
    scores = np.array([[NOT_RECOMMENDED, -2, NOT_RECOMMENDED]], dtype=np.float32)
    assert top_columns(scores, 2).tolist() == [[1, -1]]


def test_more_places_than_columns_are_padded() -> None:
    assert top_columns(np.array([[1, 2]], dtype=np.float32), 4).tolist() == [[1, 0, -1, -1]]


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        top_columns(np.array([[np.nan, 1]], dtype=np.float32), 1)


@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.integers(1, 25), st.integers(1, 50))
def test_the_result_is_that_of_a_stable_sort(seed: int, column_count: int, k: int, level_count: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(-level_count, level_count, (4, column_count)).astype(np.float32)  # many ties
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    assert np.array_equal(top_columns(scores, k)[:, : expected.shape[1]], expected)
