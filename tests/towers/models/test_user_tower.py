from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch

from towers.features.requests import GAP_BUCKETS, REQUEST_FEATURES, RequestArrays
from towers.models.user_tower import RequestTensors, UserShape, UserTower
from towers.settings import FeatureSettings, TowerSettings

SHAPE = UserShape(event_type_count=3, attribute_counts=(4,), context_counts=(3,))
COUNT, LENGTH, DIMENSION = 6, 5, 8
EVENT_COUNTS = np.array([0, 1, 5, 3, 0, 2])


def requests_of(seed: int = 0) -> RequestTensors:
    random = np.random.default_rng(seed)
    present = np.arange(LENGTH) >= LENGTH - EVENT_COUNTS[:, None]
    arrays = RequestArrays(
        item_row=np.where(present, random.integers(0, 9, (COUNT, LENGTH)), -1).astype(np.int32),
        event_type=np.where(present, random.integers(0, 3, (COUNT, LENGTH)), 0).astype(np.uint8),
        gap_bucket=np.where(present, random.integers(0, GAP_BUCKETS, (COUNT, LENGTH)), 0),
        hour=random.integers(0, 24, COUNT),
        weekday=random.integers(0, 7, COUNT),
        feature=random.normal(size=(COUNT, len(REQUEST_FEATURES))).astype(np.float32),
        user_bucket=random.integers(1, 5, COUNT).astype(np.int32),
        user_attribute=random.integers(0, 4, (COUNT, 1)).astype(np.int32),
        context=random.integers(0, 3, (COUNT, 1)).astype(np.int32),
    )
    return RequestTensors.of(arrays, torch.device("cpu"))


def event_vectors(requests: RequestTensors) -> torch.Tensor:
    table = torch.randn(9, DIMENSION, generator=torch.Generator().manual_seed(5))
    return table[requests.item_row.clamp_min(0)]


@pytest.fixture(params=["self_attention", "mean"])
def tower(request: pytest.FixtureRequest) -> UserTower:
    encoder: Literal["self_attention", "mean"] = request.param
    torch.manual_seed(1)
    settings = TowerSettings(dimension=DIMENSION, encoder=encoder, id_dropout=0.5, dropout=0.0)
    return UserTower(SHAPE, settings, FeatureSettings(sequence_events_max=LENGTH, user_id_buckets=4)).eval()


def test_embeddings_have_unit_length_with_and_without_events(tower: UserTower) -> None:
    requests = requests_of()
    vectors = tower(requests, event_vectors(requests))
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(COUNT))


def test_a_batch_is_its_single_requests(tower: UserTower) -> None:
    requests = requests_of()
    events = event_vectors(requests)
    together = tower(requests, events)
    for place in range(COUNT):
        one = slice(place, place + 1)
        alone = RequestTensors(**{name: getattr(requests, name)[one] for name in RequestTensors.__slots__})
        torch.testing.assert_close(tower(alone, events[one])[0], together[place], atol=1e-6, rtol=0)


def test_what_stands_at_padded_places_is_ignored(tower: UserTower) -> None:
    requests = requests_of()
    events = event_vectors(requests)
    padded = requests.item_row < 0
    other = replace(
        requests,
        event_type=requests.event_type.masked_fill(padded, 2),
        gap_bucket=requests.gap_bucket.masked_fill(padded, 9),
    )
    assert torch.equal(tower(requests, events), tower(other, events.masked_fill(padded[:, :, None], 3.0)))


def test_every_input_matters(tower: UserTower) -> None:
    requests = requests_of()
    events = event_vectors(requests)
    before = tower(requests, events)
    changed = {
        "event_type": (requests.event_type + 1) % 3,
        "gap_bucket": (requests.gap_bucket + 1) % GAP_BUCKETS,
        "hour": (requests.hour + 1) % 24,
        "weekday": (requests.weekday + 1) % 7,
        "feature": requests.feature + 1,
        "user_bucket": requests.user_bucket % 4 + 1,
        "user_attribute": (requests.user_attribute + 1) % 4,
        "context": (requests.context + 1) % 3,
    }
    for name, value in changed.items():
        after = tower(replace(requests, **{name: value}), events)
        assert (after[2] - before[2]).abs().max() > 1e-4, name


def test_user_ids_are_hidden_in_training_only(tower: UserTower) -> None:
    requests = requests_of()
    events = event_vectors(requests)
    assert torch.equal(tower(requests, events), tower(requests, events))
    tower.train()
    outcomes = {tower(requests, events)[2].detach().numpy().tobytes() for _ in range(20)}
    assert len(outcomes) == 2  # with the id, and without


def test_attributes_and_contexts_that_were_not_sent_say_nothing(tower: UserTower) -> None:
    for embeddings in (tower.attributes, tower.contexts):
        for embedding in embeddings:
            assert isinstance(embedding, torch.nn.Embedding)
            assert not embedding.weight[0].any()
            assert embedding.padding_idx == 0
