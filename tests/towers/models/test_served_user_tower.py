"""The served user tower gives the vectors of the trained one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from towers.features.histories import FloatArray
from towers.features.requests import GAP_BUCKETS, REQUEST_FEATURES, RequestArrays
from towers.models.served_user_tower import CompiledUserTower, EagerUserTower, served_user_tower
from towers.models.user_tower import RequestTensors, UserShape, UserTower
from towers.settings import FeatureSettings, TowerSettings

ITEM_COUNT, TYPE_COUNT, BUCKET_COUNT = 9, 3, 4
SHAPE = UserShape(event_type_count=TYPE_COUNT, attribute_counts=(4, 3), context_counts=(3,))
BARE = UserShape(event_type_count=TYPE_COUNT, attribute_counts=(), context_counts=())


def make_tower(
    shape: UserShape = SHAPE,
    length: int = 5,
    buckets: int = BUCKET_COUNT,
    seed: int = 1,
    clock: bool = True,
    **settings: Any,
) -> UserTower:
    """Random weights, every one of them far from what a tower is born with: norms and biases have their say."""
    torch.manual_seed(seed)
    chosen = TowerSettings(**{"dimension": 16, "dropout": 0.1, "id_dropout": 0.5, **settings})
    tower = UserTower(shape, chosen, FeatureSettings(sequence_events_max=length, user_id_buckets=buckets, clock=clock))
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)
    return tower.eval()


def requests_of(event_counts: list[int], shape: UserShape = SHAPE, length: int = 5, seed: int = 0) -> RequestArrays:
    """As many requests, each with its number of events at the end of its sequence."""
    random, count = np.random.default_rng(seed), len(event_counts)
    present = np.arange(length) >= length - np.array(event_counts, np.int64)[:, None]
    codes = [random.integers(0, n, count) for n in (*shape.attribute_counts, *shape.context_counts)]
    columns = np.array(codes, np.int32).reshape(len(codes), count).T
    attribute_count = len(shape.attribute_counts)
    return RequestArrays(
        item_row=np.where(present, random.integers(0, ITEM_COUNT, (count, length)), -1).astype(np.int32),
        event_type=np.where(present, random.integers(0, TYPE_COUNT, (count, length)), 0).astype(np.uint8),
        gap_bucket=np.where(present, random.integers(0, GAP_BUCKETS, (count, length)), 0),
        hour=random.integers(0, 24, count),
        weekday=random.integers(0, 7, count),
        feature=random.normal(size=(count, len(REQUEST_FEATURES))).astype(np.float32),
        user_bucket=random.integers(0, BUCKET_COUNT + 1, count).astype(np.int32),
        user_attribute=np.ascontiguousarray(columns[:, :attribute_count]),
        context=np.ascontiguousarray(columns[:, attribute_count:]),
    )


def items_of(dimension: int = 16) -> FloatArray:
    vectors = np.random.default_rng(5).normal(size=(ITEM_COUNT, dimension)).astype(np.float32)
    unit: FloatArray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def trained(tower: UserTower, requests: RequestArrays, items: FloatArray) -> FloatArray:
    """`UserTower.forward`; what stands at padded places is nonsense that it must not see."""
    events = items[np.maximum(requests.item_row, 0)]
    events[requests.item_row < 0] = 7.0
    with torch.inference_mode():
        vectors: FloatArray = tower(RequestTensors.of(requests, torch.device("cpu")), torch.from_numpy(events)).numpy()
    return vectors


@pytest.mark.parametrize("positions", ["visits", "all"])
@given(st.lists(st.integers(0, 5), max_size=6), st.integers(0, 1_000), st.sampled_from([1, 2, 4]))
def test_it_is_the_trained_tower(positions: str, event_counts: list[int], seed: int, heads: int) -> None:
    tower = make_tower(heads=heads, seed=seed % 7, positions=positions)
    requests = requests_of(event_counts, seed=seed)
    served = served_user_tower(tower)
    assert isinstance(served, CompiledUserTower)
    vectors = served.embed(requests, items_of())
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(event_counts), 16)
    np.testing.assert_allclose(vectors, trained(tower, requests, items_of()), atol=1e-5)


@pytest.mark.parametrize("shape", [SHAPE, BARE, replace(SHAPE, attribute_counts=()), replace(SHAPE, context_counts=())])
@pytest.mark.parametrize("buckets", [BUCKET_COUNT, 0])
def test_towers_without_users_attributes_or_contexts_are_served_too(shape: UserShape, buckets: int) -> None:
    tower = make_tower(shape, buckets=buckets)
    requests = requests_of([0, 3, 5], shape)
    served = served_user_tower(tower)
    assert isinstance(served, CompiledUserTower)
    np.testing.assert_allclose(served.embed(requests, items_of()), trained(tower, requests, items_of()), atol=1e-5)


@pytest.mark.parametrize(("dimension", "heads", "length"), [(4, 1, 1), (12, 3, 7), (64, 2, 50)])
def test_any_size_is_computed(dimension: int, heads: int, length: int) -> None:
    """Widths that fill vector registers and widths that leave a rest; the last is what the demo ships."""
    tower = make_tower(length=length, dimension=dimension, heads=heads)
    requests = requests_of([0, 1, length // 2, length], length=length)
    vectors = served_user_tower(tower).embed(requests, items_of(dimension))
    np.testing.assert_allclose(vectors, trained(tower, requests, items_of(dimension)), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("shape", [SHAPE, BARE])
def test_without_a_clock_neither_hour_nor_weekday_matters(shape: UserShape) -> None:
    tower = make_tower(shape, buckets=0, clock=False)
    requests = requests_of([0, 3, 5], shape)
    feature = requests.feature.copy()
    feature[:, -4:] += 1  # their sines and cosines
    later = replace(requests, hour=(requests.hour + 1) % 24, weekday=(requests.weekday + 1) % 7, feature=feature)
    served = served_user_tower(tower)
    assert isinstance(served, CompiledUserTower)
    vectors = served.embed(requests, items_of())
    np.testing.assert_allclose(vectors, trained(tower, requests, items_of()), atol=1e-5)
    assert trained(tower, requests, items_of()).tobytes() == trained(tower, later, items_of()).tobytes()
    assert served.embed(later, items_of()).tobytes() == vectors.tobytes()


def test_a_batch_is_its_single_requests() -> None:
    tower, requests = served_user_tower(make_tower()), requests_of([0, 5, 1, 3, 0])
    together = tower.embed(requests, items_of())
    for place in range(5):
        one = slice(place, place + 1)
        alone = RequestArrays(*(getattr(requests, name)[one] for name in RequestArrays.__slots__))
        np.testing.assert_allclose(tower.embed(alone, items_of())[0], together[place], atol=1e-6)


def test_every_input_matters() -> None:
    tower, requests = served_user_tower(make_tower()), requests_of([5, 3])
    before = tower.embed(requests, items_of())
    present = requests.item_row >= 0
    changed: dict[str, Any] = {
        "item_row": np.where(present, (requests.item_row + 1) % ITEM_COUNT, -1).astype(np.int32),
        "event_type": np.where(present, (requests.event_type + 1) % TYPE_COUNT, 0).astype(np.uint8),
        "gap_bucket": np.where(present, (requests.gap_bucket + 1) % GAP_BUCKETS, 0),
        "hour": (requests.hour + 1) % 24,
        "weekday": (requests.weekday + 1) % 7,
        "feature": requests.feature + 1,
        "user_bucket": (requests.user_bucket + 1) % (BUCKET_COUNT + 1),
        "user_attribute": (requests.user_attribute + 1) % np.array([4, 3], np.int32),
        "context": (requests.context + 1) % 3,
    }
    assert set(changed) == set(RequestArrays.__slots__)
    for name, value in changed.items():
        after = tower.embed(replace(requests, **{name: value}), items_of())
        assert (np.abs(after - before).max(axis=1) > 1e-4).all(), name


def test_attention_far_from_even_stays_exact() -> None:
    """Large scores: without the highest one taken off, their exponentials would be infinite."""
    tower = make_tower()
    with torch.no_grad():
        tower.encoder.get_submodule("blocks.0.query").get_parameter("weight").mul_(300)
    requests = requests_of([5, 2, 1])
    vectors = served_user_tower(tower).embed(requests, items_of())
    np.testing.assert_allclose(vectors, trained(tower, requests, items_of()), atol=1e-4)


def test_inputs_are_left_as_they_are() -> None:
    requests, items = requests_of([0, 2, 5]), items_of()
    before = [getattr(requests, name).copy() for name in RequestArrays.__slots__]
    read_only = items.copy()
    read_only.flags.writeable = False
    served_user_tower(make_tower()).embed(requests, read_only)
    assert read_only.tobytes() == items.tobytes()
    for name, copy in zip(RequestArrays.__slots__, before, strict=True):
        assert getattr(requests, name).tobytes() == copy.tobytes()


def test_a_tower_that_still_learns_is_served_without_dropout() -> None:
    tower = make_tower()
    requests = requests_of([3, 5])
    expected = trained(tower, requests, items_of())
    eager = served_user_tower(make_tower(encoder="mean").train())
    assert eager.embed(requests, items_of()).tobytes() == eager.embed(requests, items_of()).tobytes()
    np.testing.assert_allclose(served_user_tower(tower.train()).embed(requests, items_of()), expected, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"encoder": "mean"},
        {"encoder": "cnn"},
        {"encoder": "cnn", "blocks": 2, "positions": "all"},
        {"encoder": "gru"},
        {"encoder": "gru", "blocks": 2},
        {"blocks": 2},
        {"blocks": 3, "heads": 2, "positions": "all"},
    ],
)
def test_towers_without_a_compiled_form_run_as_they_were_trained(settings: dict[str, Any]) -> None:
    tower = make_tower(**settings)
    served = served_user_tower(tower)
    assert isinstance(served, EagerUserTower)
    requests = requests_of([0, 1, 5, 3])
    np.testing.assert_allclose(served.embed(requests, items_of()), trained(tower, requests, items_of()), atol=1e-6)


def test_it_has_a_copy_of_the_weights() -> None:
    """A training that goes on does not change what serves."""
    tower, requests = make_tower(), requests_of([3, 0])
    served = served_user_tower(tower)
    before = served.embed(requests, items_of())
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.zero_()
    assert served.embed(requests, items_of()).tobytes() == before.tobytes()


_READ = ["event_in.weight", "encoder.blocks.0.query.weight", "encoder.blocks.0.key_value.weight", "mlp.0.weight"]


@pytest.mark.parametrize("weight", _READ)
def test_a_weight_that_is_no_number_is_not_hidden(weight: str) -> None:
    """So that retrieval refuses the vectors of a training that diverged."""
    tower = make_tower()
    with torch.no_grad():
        tower.get_parameter(weight).fill_(float("nan"))
    assert np.isnan(served_user_tower(tower).embed(requests_of([5, 2]), items_of())).all()
