"""Cuts: what the ranker learns from. At a cut every user asks as of that day; what they buy next is the answer.

Candidates are what retrieval really returns for that moment, so the negatives are the hard ones that serving meets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from towers.candidates import Candidates, Exclusions, ItemTable, Retriever
from towers.features.histories import BoolArray, FloatArray, Int32Array, Int64Array
from towers.learning_data import LearningData
from towers.models.ranker import Ranker
from towers.ranking import item_inputs, request_inputs
from towers.recommender import Embedded, Recommender, Shoppers, UserEmbedder
from towers.schema import LogTooShortError
from towers.settings import LearningSettings
from towers.training.head_targets import further_targets

USERS_PER_BATCH = 64
DAY_S = 86_400

RetrieverFactory = Callable[[ItemTable], Retriever]
"""Builds nearest-neighbour search over the retrievable items of a table; rows are the table's."""


@dataclass(frozen=True)
class CutExamples:
    """Every (user, candidate) of one cut, n in all.

    Attributes:
        user_row: (U,) the users who asked. request: (U, D + R) their inputs.
        item: (items, D + S) inputs of the whole catalogue as of the cut.
        candidate_user: (n,) place in `user_row`. candidate_item: (n,) item row.
        pair: (n, P) pair inputs. label: (n,) whether the user bought it within the horizon.
        further: (n,) float32 what the further heads learn, by head; NaN where it is not known.
    """

    user_row: Int32Array
    request: FloatArray
    item: FloatArray
    candidate_user: Int32Array
    candidate_item: Int32Array
    pair: FloatArray
    label: BoolArray
    further: Mapping[str, FloatArray] = field(default_factory=dict)

    def target(self, head: str) -> BoolArray | FloatArray | None:
        """(n,) what a head learns; None where the cut does not know it."""
        return self.label if head == "buys" else self.further.get(head)

    def of_users(self, parity: int) -> CutExamples:
        """The candidates of every other user: those at even (0) or odd (1) places of `user_row`."""
        chosen = self.candidate_user % 2 == parity
        return replace(
            self,
            candidate_user=self.candidate_user[chosen],
            candidate_item=self.candidate_item[chosen],
            pair=self.pair[chosen],
            label=self.label[chosen],
            further={name: target[chosen] for name, target in self.further.items()},
        )


def shoppers_at(
    data: LearningData, settings: LearningSettings, user_rows: Int32Array, as_of_s: int, context: NDArray[np.int32]
) -> Shoppers:
    """The given users (B,) as they stood at one moment; `context` (B, C) codes."""
    histories = data.histories.batch(
        user_rows, np.full(len(user_rows), as_of_s, np.int64), settings.features.history_events_max
    )
    users = data.users
    return Shoppers.of(histories, users.bucket[user_rows], users.attribute[user_rows], context)


def users_before(data: LearningData, as_of_s: int) -> Int32Array:
    """The users with any event before the moment, ascending."""
    log = data.histories
    has_events = np.flatnonzero(np.diff(log.offsets) > 0)
    return has_events[log.time_s[log.offsets[has_events]] < as_of_s].astype(np.int32)


def bought_between(data: LearningData, begin_s: int, end_s: int) -> Int64Array:
    """Sorted keys user · items + item of all target events in [begin_s, end_s)."""
    log = data.histories
    user = np.repeat(np.arange(log.user_count, dtype=np.int64), np.diff(log.offsets))
    chosen = log.is_target(log.event_type) & (log.time_s >= begin_s) & (log.time_s < end_s)
    return np.unique(user[chosen] * data.item_count + log.item_row[chosen])


def last_context(data: LearningData, user_rows: Int32Array, as_of_s: int) -> NDArray[np.int32]:
    """(B, C) the context codes of each user's last event before the moment; 0 without one."""
    log = data.histories
    out = np.zeros((len(user_rows), data.context.shape[1]), np.int32)
    if out.shape[1]:
        for place, user in enumerate(user_rows):
            begin, end = log.offsets[user], log.offsets[user + 1]
            newest = begin + np.searchsorted(log.time_s[begin:end], as_of_s) - 1
            if newest >= begin:
                out[place] = data.context[newest]
    return out


def build_cut(
    data: LearningData,
    settings: LearningSettings,
    embedder: UserEmbedder,
    ranker: Ranker,
    table: ItemTable,
    retrievers: RetrieverFactory,
    cut_s: int,
) -> CutExamples:
    """Asks as every user with a history at the cut, and labels the candidates with what came after."""
    item_part = np.zeros((data.item_count, 1), np.float32)  # no scores are asked here
    recommender = Recommender(embedder, ranker, table, item_part, retrievers(table))
    bought = bought_between(data, cut_s, cut_s + settings.ranker.horizon_days * DAY_S)
    users = users_before(data, cut_s)
    if len(users) == 0:
        raise LogTooShortError(
            f"no user has an event before the cut {np.datetime64(cut_s, 's')}; the log is too short for these "
            "ranker.cuts, cut_every_days, horizon_days and training.validation_days"
        )
    requests, owners, items, pairs = [], [], [], []
    for begin in range(0, len(users), USERS_PER_BATCH):
        chunk = users[begin : begin + USERS_PER_BATCH]
        embedded, candidates = _ask(data, settings, recommender, chunk, cut_s)
        present = candidates.rows >= 0
        requests.append(request_inputs(embedded.vectors, embedded.arrays.feature))
        owners.append((begin + np.nonzero(present)[0]).astype(np.int32))
        items.append(candidates.rows[present])
        pairs.append(recommender.pair_inputs(embedded, candidates)[present])
    owner, item = np.concatenate(owners), np.concatenate(items)
    key = users[owner].astype(np.int64) * data.item_count + item
    label = np.isin(key, bought)
    heads = settings.ranker.heads.on
    return CutExamples(
        user_row=users,
        request=np.concatenate(requests),
        item=item_inputs(table),
        candidate_user=owner,
        candidate_item=item,
        pair=np.concatenate(pairs),
        label=label,
        further=further_targets(data, heads, key, label, cut_s, cut_s + settings.ranker.horizon_days * DAY_S),
    )


def _ask(
    data: LearningData, settings: LearningSettings, recommender: Recommender, users: Int32Array, as_of_s: int
) -> tuple[Embedded, Candidates]:
    shoppers = shoppers_at(data, settings, users, as_of_s, last_context(data, users, as_of_s))
    embedded = recommender.embed(shoppers)
    return embedded, recommender.retrieve(embedded, settings.candidates, hidden_items(embedded, settings))


def hidden_items(embedded: Embedded, settings: LearningSettings) -> Exclusions:
    """What the ranker is not asked about: nothing, or where it learns no repeats what the users had before."""
    bought = embedded.shoppers.purchases.groups
    kept = slice(0) if settings.ranker.repeats else slice(None)
    return Exclusions.of(bought.request[kept], bought.item_row[kept], len(embedded.vectors))
