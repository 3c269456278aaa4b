"""Three users, six items, and what they bought: small enough to compute every figure by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from towers.evaluation import EvaluationSet


@pytest.fixture
def asked() -> EvaluationSet:
    """User 0 buys items 0 and 3, user 1 item 1, user 2 items 2 and 4; user 0 had item 0 before, user 2 item 5."""
    relevant = csr_array((np.ones(5), ([0, 0, 1, 2, 2], [0, 3, 1, 2, 4])), shape=(3, 6))
    bought = csr_array((np.ones(2), ([0, 2], [0, 5])), shape=(3, 6))
    return EvaluationSet(
        item_count=6,
        candidate_rows=np.arange(5, dtype=np.int32),
        user_rows=np.array([0, 2, 3], np.int32),
        relevant=relevant,
        bought=bought,
        asked_at_s=1_000_000,
    )
