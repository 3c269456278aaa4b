from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.towers.exact_retriever import SortingRetriever
from towers.features.item_statistics import STATISTIC_NAMES
from towers.features.requests import REQUEST_FEATURES
from towers.item_table import item_table
from towers.learning_data import LearningData, encode, fit_encoders
from towers.model import ranker_shape
from towers.models.item_tower import ItemTensors
from towers.models.ranker import Ranker
from towers.ranking import pair_input_names
from towers.recommender import UserEmbedder
from towers.schema import Dataset, LogTooShortError, ShopConfig
from towers.settings import LearningSettings
from towers.training import cuts
from towers.training.cuts import DAY_S, CutExamples, bought_between, build_cut, last_context, users_before
from towers.training.tower_task import Towers, embed_items


@pytest.fixture(scope="module")
def settings(small_shop: ShopConfig) -> LearningSettings:
    return small_shop.learning


@pytest.fixture(scope="module")
def data(small_dataset: Dataset, settings: LearningSettings) -> LearningData:
    until_s = small_dataset.meta.first_time_s + 40 * DAY_S
    return encode(small_dataset, fit_encoders(small_dataset, settings, until_s), settings, until_s)


def built(data: LearningData, settings: LearningSettings, cut_s: int) -> CutExamples:
    torch.manual_seed(0)
    towers = Towers(data, settings).eval()
    vectors = embed_items(towers.item, ItemTensors.of(data.items, torch.device("cpu"))).numpy()
    table = item_table(data, vectors, settings, cut_s)
    embedder = UserEmbedder(towers.user, vectors, settings.features.sequence_events_max)
    return build_cut(data, settings, embedder, Ranker(ranker_shape(settings)), table, SortingRetriever, cut_s)


def test_labels_are_the_purchases_of_the_horizon(
    small_dataset: Dataset, data: LearningData, settings: LearningSettings
) -> None:
    cut_s = small_dataset.meta.first_time_s + 50 * DAY_S
    examples = built(data, settings, cut_s)
    events = small_dataset.events
    purchase = small_dataset.meta.event_types.index("purchase")
    end_s = cut_s + settings.ranker.horizon_days * DAY_S
    chosen = (events.event_type == purchase) & (events.time_s >= cut_s) & (events.time_s < end_s)
    bought = set(zip(events.user_row[chosen].tolist(), events.item_row[chosen].tolist(), strict=True))
    asked = zip(examples.user_row[examples.candidate_user].tolist(), examples.candidate_item.tolist(), strict=True)
    assert examples.label.tolist() == [pair in bought for pair in asked]
    assert examples.label.any()


def test_users_are_asked_in_pieces_and_come_out_whole(
    small_dataset: Dataset, data: LearningData, settings: LearningSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_s = small_dataset.meta.first_time_s + 50 * DAY_S
    whole = built(data, settings, cut_s)
    monkeypatch.setattr(cuts, "USERS_PER_BATCH", 7)
    pieces = built(data, settings, cut_s)
    assert pieces.candidate_user.tolist() == whole.candidate_user.tolist()
    assert pieces.candidate_item.tolist() == whole.candidate_item.tolist()
    np.testing.assert_allclose(pieces.pair, whole.pair, atol=2e-6)
    np.testing.assert_allclose(pieces.request, whole.request, atol=2e-6)


def test_a_cut_before_the_first_event_is_an_error_that_says_so(
    small_dataset: Dataset, data: LearningData, settings: LearningSettings
) -> None:
    with pytest.raises(LogTooShortError, match=r"no user has an event before the cut .*; the log is too short"):
        built(data, settings, small_dataset.meta.first_time_s)


def test_those_who_ask_have_an_event_before_the_moment(small_dataset: Dataset, data: LearningData) -> None:
    events = small_dataset.events
    for day in (0, 3, 20, 200):
        moment = small_dataset.meta.first_time_s + day * DAY_S
        assert users_before(data, moment).tolist() == np.unique(events.user_row[events.time_s < moment]).tolist()


def test_purchases_between_take_the_beginning_and_leave_the_end(small_dataset: Dataset, data: LearningData) -> None:
    events = small_dataset.events
    purchases = np.flatnonzero(events.event_type == small_dataset.meta.event_types.index("purchase"))
    one = purchases[len(purchases) // 2]
    key = int(events.user_row[one]) * data.item_count + int(events.item_row[one])
    at = int(events.time_s[one])
    assert key in bought_between(data, at, at + 1).tolist()
    assert key not in bought_between(data, at - 1, at).tolist()


def test_the_context_of_a_request_is_that_of_the_last_event_before_it(
    small_dataset: Dataset, data: LearningData
) -> None:
    events = small_dataset.events
    devices = data.encoders.contexts["device"]
    own = np.flatnonzero(events.user_row == 0)
    moment = int(events.time_s[own[-1]])
    earlier = own[events.time_s[own] < moment]
    expected = devices.codes(events.context["device"][earlier[-1:]])
    assert last_context(data, np.array([0], np.int32), moment).tolist() == [expected.tolist()]
    assert last_context(data, np.array([0, 1], np.int32), 0).tolist() == [[0], [0]]


def test_the_place_in_a_list_is_never_a_feature(
    small_dataset: Dataset, data: LearningData, settings: LearningSettings
) -> None:
    """What was shown first is clicked first: a ranker that read the position would learn its own lists."""
    events = small_dataset.events
    assert np.nanmax(events.position) > np.nanmin(events.position)  # the log has them
    elsewhere = np.random.default_rng(0).permutation(events.position) + 100
    until_s = small_dataset.meta.first_time_s + 40 * DAY_S
    moved = encode(replace(small_dataset, events=replace(events, position=elsewhere)), data.encoders, settings, until_s)
    cut_s = small_dataset.meta.first_time_s + 50 * DAY_S
    first, second = built(data, settings, cut_s), built(moved, settings, cut_s)
    for name in ("request", "item", "pair", "candidate_item", "label"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes(), name
    names = (*REQUEST_FEATURES, *STATISTIC_NAMES, *pair_input_names(settings.features.affinity_attributes))
    assert not [name for name in names if "position" in name]


def test_halves_keep_what_the_heads_learn(
    small_dataset: Dataset, data: LearningData, settings: LearningSettings
) -> None:
    assert set(settings.ranker.heads.on) == {"buys", "buys_again", "value", "rating"}
    examples = built(data, settings, small_dataset.meta.first_time_s + 50 * DAY_S)
    assert set(examples.further) == {"buys_again", "value", "rating"}
    assert 0 < examples.further["buys_again"].sum() < examples.label.sum()
    half = examples.of_users(1)
    for name, target in examples.further.items():
        np.testing.assert_array_equal(half.further[name], target[examples.candidate_user % 2 == 1])
    assert half.target("buys") is half.label
    assert half.target("no such head") is None
