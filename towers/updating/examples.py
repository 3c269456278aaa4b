"""What the ranker learns on from: the questions of single days, with the candidates that retrieval brought for them.

Unlike a training cut, which asks everybody at one moment what comes in the next weeks, these are asked when shoppers
really came, and right is what they bought then.
"""

from __future__ import annotations

import numpy as np

from towers.learning_data import LearningData
from towers.ranking import item_inputs, request_inputs
from towers.training.cuts import USERS_PER_BATCH, CutExamples, hidden_items
from towers.updating.judging import Contender, shoppers_of
from towers.updating.questions import Questions


def build_examples(data: LearningData, asked: Contender, questions: Questions) -> CutExamples:
    """Every (question, candidate), item inputs as of the contender's table; `user_row` holds the questions' users.

    The item rows of the examples are places among the items that occur at all, which keeps many days in memory.
    """
    recommender, settings = asked.recommender, asked.model.settings
    requests, owners, items, pairs = [], [], [], []
    for begin in range(0, len(questions), USERS_PER_BATCH):
        chosen = slice(begin, begin + USERS_PER_BATCH)
        shoppers = shoppers_of(data, asked.model, questions.user_row[chosen], questions.asked_at_s[chosen])
        embedded = recommender.embed(shoppers)
        candidates = recommender.retrieve(embedded, settings.candidates, hidden_items(embedded, settings))
        present = candidates.rows >= 0
        requests.append(request_inputs(embedded.vectors, embedded.arrays.feature))
        owners.append((begin + np.nonzero(present)[0]).astype(np.int32))
        items.append(candidates.rows[present])
        pairs.append(recommender.pair_inputs(embedded, candidates)[present])
    owner, item = np.concatenate(owners), np.concatenate(items)
    used, place = np.unique(item, return_inverse=True)
    relevant = questions.relevant
    right = np.repeat(np.arange(len(questions), dtype=np.int64), np.diff(relevant.indptr)) * data.item_count
    return CutExamples(
        user_row=questions.user_row,
        request=np.concatenate(requests),
        item=item_inputs(asked.table)[used],
        candidate_user=owner,
        candidate_item=place.astype(np.int32),
        pair=np.concatenate(pairs),
        label=np.isin(owner.astype(np.int64) * data.item_count + item, right + relevant.indices),
    )
