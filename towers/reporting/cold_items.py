"""Cold items: withheld from a training of its own, then asked for by what their attributes say alone.

A share of the candidate items is drawn and their events before the moment are taken out of the log. A model learns from
the rest; those who bought a withheld item after the moment are asked for it, among all items and among the withheld.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from towers.evaluation import TimeSplit, train_log
from towers.evaluation.baselines import Recommender, SameForAll, ScoreArray, popularity
from towers.evaluation.content import content, item_terms
from towers.evaluation.metrics import IntArray
from towers.evaluation.train_log import TrainLog
from towers.features.histories import BoolArray
from towers.model import TrainedModel
from towers.reporting.asking import Asker
from towers.reporting.cold_users import recalls
from towers.schema import Dataset, EventColumns
from towers.training.cuts import RetrieverFactory

WITHHELD_SHARE = 0.1
SEED = 20171201


@dataclass(frozen=True, eq=False)
class Withheld:
    """A log as if some items had never been sold before the moment.

    Attributes:
        dataset: without the items' events before the moment; those after it are kept, for asking.
        split: of that dataset. Its evaluation set asks for the withheld items alone, of users who bought one.
        items: (item_count,) which are withheld.
    """

    dataset: Dataset
    split: TimeSplit
    items: BoolArray


def withhold(dataset: Dataset, split: TimeSplit, share: float | None = None, seed: int = SEED) -> Withheld:
    """Draws the given share of the candidate items; None: WITHHELD_SHARE.

    Raises:
        ValueError: nobody who has a history left bought a withheld item.
    """
    asked = split.evaluation_set
    rng = np.random.default_rng(seed)
    count = max(1, round((WITHHELD_SHARE if share is None else share) * len(asked.candidate_rows)))
    items = np.zeros(dataset.item_count, np.bool_)
    items[rng.choice(asked.candidate_rows, count, replace=False)] = True
    kept = ~(items[dataset.events.item_row] & (dataset.events.time_s < asked.asked_at_s))
    train = split.train.where(~items[split.train.item_row])
    relevant = asked.relevant.copy()
    relevant.data = np.where(items[relevant.indices], relevant.data, 0)
    relevant.eliminate_zeros()
    pairs = train.distinct_pairs()
    has_history = np.diff(pairs.indptr)[asked.user_rows] > 0
    users = np.flatnonzero((np.diff(relevant.indptr) > 0) & has_history)
    if not len(users):
        raise ValueError(f"no user bought one of the {count} withheld items")
    rows = asked.user_rows[users]
    questions = replace(asked, user_rows=rows, relevant=relevant[users], bought=pairs[rows])
    return Withheld(_with_events(dataset, kept), TimeSplit(train, questions), items)


def cold_items(withheld: Withheld, model: TrainedModel, retrievers: RetrieverFactory, k: int) -> dict[str, Any]:
    """Recall@k of withheld items, by a model that was trained without them.

    Returns:
        {withheld, users, among_all: {NAME: recall@k, NAME_ci}, among_withheld: {…}}. Among all items the whole
        recommender answers, with withheld items admitted to its lists; popularity never shows an item without events.
        Among the withheld ones the two towers' vectors rank alone, and popularity is that of the item's attributes.
    """
    dataset, asked = withheld.dataset, replace(withheld.split.evaluation_set, exclude_bought=False)
    every = _admitted(withheld)
    whole = Asker.of(dataset, model, asked.asked_at_s, retrievers, every)
    alone = Asker.of(dataset, model, asked.asked_at_s, retrievers, withheld.items)
    log = train_log(withheld.split)
    cold_rows = np.flatnonzero(withheld.items).astype(np.int32)
    cold_log = train_log(replace(withheld.split, evaluation_set=replace(asked, candidate_rows=cold_rows)))
    terms, profile = item_terms(dataset), withheld.split.train.distinct_pairs()

    def ask(fitted: Recommender) -> IntArray:
        return fitted.recommend(asked.user_rows, k, exclude_bought=False)

    among_all = {
        "twinrank": whole.ask(asked, k)[""].rows,
        "popularity": ask(popularity(log)),
        "content": ask(content(log, profile, terms)),
    }
    among_withheld = {
        "twinrank": alone.nearest(asked, k, retrievers),
        "popularity": ask(Recommender(cold_log, SameForAll(attribute_popularity(dataset, log, cold_log)))),
        "content": ask(content(cold_log, profile, terms)),
    }
    return {
        "withheld": len(cold_rows),
        "users": asked.user_count,
        "among_all": recalls(among_all, asked.relevant, k),
        "among_withheld": recalls(among_withheld, asked.relevant, k),
    }


def attribute_popularity(dataset: Dataset, log: TrainLog, cold: TrainLog) -> ScoreArray:
    """(C,) for each candidate of `cold`: the mean number of users of the log's items with the same attribute value,
    averaged over the categorical attributes; items with a value that no item of the log has count 0 for it."""
    scores = np.zeros(len(cold.candidate_rows))
    for name in dataset.meta.item_attributes.categorical:
        values, codes = np.unique(dataset.items[name].to_numpy().astype(np.str_), return_inverse=True)
        known = log.candidate_users > 0
        of_log = codes[log.candidate_rows[known]]
        users = np.bincount(of_log, weights=log.candidate_users[known], minlength=len(values))
        scores += (users / np.maximum(np.bincount(of_log, minlength=len(values)), 1))[codes[cold.candidate_rows]]
    return scores.astype(np.float32)


def _admitted(withheld: Withheld) -> BoolArray:
    """(item_count,) the candidates, the withheld ones among them."""
    admitted: BoolArray = withheld.items.copy()
    admitted[withheld.split.evaluation_set.candidate_rows] = True
    return admitted


def _with_events(dataset: Dataset, kept: BoolArray) -> Dataset:
    events = dataset.events
    columns = {field.name: getattr(events, field.name)[kept] for field in fields(events) if field.name != "context"}
    context = {name: values[kept] for name, values in events.context.items()}
    return replace(dataset, events=EventColumns(**columns, context=context))
