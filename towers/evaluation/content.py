"""The content baseline: items described like those of the user's history come first. It learns from no other user.

An item is a unit vector of its attribute values and title words, each weighted by the logarithm of how few items share
it (TF-IDF; Salton and Buckley 1988); a user is the sum over their items.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from towers.evaluation.baselines import Recommender, RowArray, ScoreArray
from towers.evaluation.metrics import SparseRows
from towers.evaluation.train_log import TrainLog
from towers.schema import Dataset


def item_terms(dataset: Dataset) -> SparseRows:
    """CSR (item_count, terms): unit rows; an item that shares every term with all others has an empty one."""
    terms: dict[str, int] = {}
    rows, columns = [], []
    for name, values in _columns(dataset):
        for row, value in enumerate(values):
            for term in value:
                rows.append(row)
                columns.append(terms.setdefault(f"{name}={term}", len(terms)))
    shape = (dataset.item_count, max(len(terms), 1))
    present = csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)
    present.sum_duplicates()
    present.data[:] = 1.0
    shared_by = np.bincount(present.indices, minlength=shape[1])
    present.data = np.log(dataset.item_count / shared_by[present.indices])
    lengths = np.sqrt(present.multiply(present).sum(axis=1))
    present.data /= np.repeat(np.where(lengths > 0, lengths, 1.0), np.diff(present.indptr))
    return present


def _columns(dataset: Dataset) -> Iterator[tuple[str, list[list[str]]]]:
    """Each attribute's terms, item by item: one value of a category, the words of a text."""
    attributes = dataset.meta.item_attributes
    for name in attributes.categorical:
        yield name, [[value] for value in dataset.items[name].to_list()]
    for name in attributes.text:
        yield name, [value.lower().split() for value in dataset.items[name].to_list()]


@dataclass(frozen=True, eq=False)
class LikeTheHistory:
    """Cosine-like scores: the user's summed terms against each candidate's."""

    counts: SparseRows  # CSR (user_count, item_count)
    terms: SparseRows  # CSR (item_count, T)
    candidate_terms: SparseRows  # CSR (T, C)

    def scores(self, users: RowArray) -> ScoreArray:
        """Scores (B, C)."""
        dense: ScoreArray = (self.counts[users] @ self.terms @ self.candidate_terms).toarray().astype(np.float32)
        return dense


def content(log: TrainLog, counts: SparseRows, terms: SparseRows) -> Recommender:
    """The baseline over the log's candidates; users without anything get the popular ones.

    Args:
        log: whose candidates are ranked, and whose popularity breaks ties.
        counts: CSR (user_count, item_count) what each user's profile is made of.
        terms: `item_terms`.
    """
    return Recommender(log, LikeTheHistory(counts, terms, terms[log.candidate_rows].T.tocsr()))
