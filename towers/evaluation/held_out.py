"""What the published tables of plain files report: recall and NDCG of items held out, one list a user.

    recall@k   hits in the first k / held-out items of the user, also where these are more than k
    ndcg@k     binary gains, ideal over min(held-out items, k)

Held-out items that the catalogue does not know cannot be found; they count as missed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from towers.evaluation.metrics import IntArray, SparseRows, per_user_metrics
from towers.evaluation.protocol import EvaluationSet
from towers.schema import Dataset


@dataclass(frozen=True, eq=False)
class HeldOutQuestion:
    """Who is asked, and what is right.

    Attributes:
        user_ids: U users of the dataset, in the order of its rows.
        evaluation_set: the same for offline ranking; `relevant` knows the catalogue's items alone.
        relevant: CSR (U, items + strangers), no empty row.
    """

    user_ids: list[str]
    evaluation_set: EvaluationSet
    relevant: SparseRows

    @property
    def stranger_count(self) -> int:
        """Held-out items that are not in the catalogue."""
        return int(self.relevant.shape[1] - self.evaluation_set.item_count)


def held_out_question(dataset: Dataset, held_out: Mapping[str, Sequence[str]], asked_at_s: int) -> HeldOutQuestion:
    """Asks for every user of the mapping, as of a moment; items that the user had before are left out of the lists.

    Args:
        dataset: everything that was learned from; every user of the mapping has events in it.
        held_out: by user id the items that are right.
        asked_at_s: epoch seconds.
    """
    row_of = {item: row for row, item in enumerate(dataset.items["item_id"].to_list())}
    strangers = sorted({item for items in held_out.values() for item in items} - set(row_of))
    row_of |= {item: dataset.item_count + place for place, item in enumerate(strangers)}
    users = dataset.users["user_id"].to_list()
    user_rows = np.array([row for row, user in enumerate(users) if user in held_out], np.int32)
    user_ids = [users[row] for row in user_rows]
    pairs = [(place, row_of[item]) for place, user in enumerate(user_ids) for item in set(held_out[user])]
    place, column = np.array(pairs, np.int64).reshape(-1, 2).T
    relevant = csr_array((np.ones(len(pairs), np.float32), (place, column)), shape=(len(user_ids), len(row_of)))
    events = dataset.events
    shape = (dataset.user_count, dataset.item_count)
    bought = csr_array((np.ones(len(events), np.float32), (events.user_row, events.item_row)), shape=shape)
    evaluation_set = EvaluationSet(
        item_count=dataset.item_count,
        candidate_rows=np.arange(dataset.item_count, dtype=np.int32),
        user_rows=user_rows,
        relevant=relevant[:, : dataset.item_count],
        bought=bought[user_rows],
        asked_at_s=asked_at_s,
        exclude_bought=True,
    )
    return HeldOutQuestion(user_ids, evaluation_set, relevant)


def held_out_figures(rankings: IntArray, question: HeldOutQuestion, ks: Sequence[int]) -> dict[str, float]:
    """Means over the users, as `recall@k` and `ndcg@k`.

    Args:
        rankings: (U, K) item rows in the order of `question.user_ids`, best first, padded with -1.
        question: who was asked.
        ks: cutoffs, each at most K.
    """
    metrics = per_user_metrics(rankings, question.relevant, ks)
    held_out_count = np.diff(question.relevant.indptr)  # (U,)
    figures: dict[str, float] = {}
    for k in ks:
        figures[f"recall@{k}"] = float((metrics[f"precision@{k}"] * k / held_out_count).mean())
        figures[f"ndcg@{k}"] = float(metrics[f"ndcg@{k}"].mean())
    return figures
