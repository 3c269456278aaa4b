"""The served ranker gives the probabilities of the trained one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from towers.features.histories import FloatArray, Int32Array
from towers.models.ranker import Ranker, RankerShape
from towers.models.served_ranker import ServedRanker
from towers.settings import HeadWeights

SHAPE = RankerShape(request=12, item=9, pair=7, hidden=(16, 8))
ITEM_COUNT = 30


def make_ranker(shape: RankerShape = SHAPE, seed: int = 2) -> Ranker:
    """Random weights, and every buffer far from its initial value."""
    torch.manual_seed(seed)
    made = Ranker(shape).eval()
    for part in ("request", "item", "pair"):
        mean, scale = getattr(made, f"{part}_mean"), getattr(made, f"{part}_scale")
        mean.copy_(torch.randn(mean.shape))
        scale.copy_(torch.rand(scale.shape) * 3)
    made.calibration.copy_(torch.tensor([0.7, -1.3]))
    return made


def make_inputs(
    rows: list[list[int]], shape: RankerShape = SHAPE, seed: int = 3
) -> tuple[FloatArray, FloatArray, Int32Array, FloatArray]:
    """Requests (B, R), the items' own inputs (n, I), rows (B, K), pairs (B, K, P)."""
    random = np.random.default_rng(seed)
    asked = np.array(rows, np.int32).reshape(len(rows), -1 if rows and rows[0] else 0)
    request, item = random.normal(size=(len(rows), shape.request)), random.normal(size=(ITEM_COUNT, shape.item))
    pairs = random.normal(size=(*asked.shape, shape.pair))
    return request.astype(np.float32), item.astype(np.float32), asked, pairs.astype(np.float32)


def item_part(ranker: Ranker, item: FloatArray) -> FloatArray:
    with torch.inference_mode():
        part: FloatArray = ranker.item_part(torch.from_numpy(item)).numpy()
    return part


def split(ranker: Ranker, request: FloatArray, item: FloatArray, rows: Int32Array, pairs: FloatArray) -> FloatArray:
    """(B, K) probabilities by `Ranker.logits`, -1 at pads."""
    with torch.inference_mode():
        items = ranker.item_part(torch.from_numpy(item))[torch.from_numpy(np.maximum(rows, 0))]
        logits = ranker.logits(ranker.request_part(torch.from_numpy(request)), items, torch.from_numpy(pairs))
        scores: FloatArray = torch.sigmoid(logits).numpy()
    return np.where(rows >= 0, scores, np.float32(-1))


def unsplit(ranker: Ranker, request: FloatArray, item: FloatArray, rows: Int32Array, pairs: FloatArray) -> FloatArray:
    """The same by `Ranker.forward`, as training runs it."""
    width = rows.shape[1]
    with torch.inference_mode():
        logits = ranker(
            torch.from_numpy(request.repeat(width, axis=0)),
            torch.from_numpy(item[np.maximum(rows, 0).ravel()]),
            torch.from_numpy(pairs.reshape(-1, pairs.shape[2])),
        )
        scores: FloatArray = torch.sigmoid(logits).numpy().reshape(rows.shape)
    return np.where(rows >= 0, scores, np.float32(-1))


_ROWS = st.integers(0, 9).flatmap(
    lambda width: st.lists(
        st.lists(st.integers(-1, ITEM_COUNT - 1), min_size=width, max_size=width), min_size=1, max_size=5
    )
)


@given(_ROWS, st.integers(0, 1_000))
def test_it_is_the_trained_ranker_split_and_unsplit(rows: list[list[int]], seed: int) -> None:
    ranker = make_ranker(seed=seed)
    request, item, asked, pairs = make_inputs(rows, seed=seed)
    scores = ServedRanker(ranker).scores(request, item_part(ranker, item), asked, pairs)
    assert scores.dtype == np.float32
    assert scores.shape == asked.shape
    np.testing.assert_allclose(scores, split(ranker, request, item, asked, pairs), atol=1e-5)
    np.testing.assert_allclose(scores, unsplit(ranker, request, item, asked, pairs), atol=1e-5)


@pytest.mark.parametrize("hidden", [(1, 1), (33, 5), (128, 64)])
def test_any_width_is_computed(hidden: tuple[int, int]) -> None:
    """Widths that fill vector registers, and widths that leave a rest."""
    shape = RankerShape(request=75, item=70, pair=23, hidden=hidden)
    ranker = make_ranker(shape)
    request, item, rows, pairs = make_inputs([[*range(29), -1]] * 3, shape)
    scores = ServedRanker(ranker).scores(request, item_part(ranker, item), rows, pairs)
    np.testing.assert_allclose(scores, split(ranker, request, item, rows, pairs), atol=1e-5)
    if hidden != (1, 1):
        assert scores[:, :-1].std() > 0.01  # the inputs matter


def test_pads_get_minus_one_whatever_stands_there() -> None:
    ranker = make_ranker()
    request, item, rows, pairs = make_inputs([[4, -1, 7], [-1, -1, -1]])
    pairs[rows < 0] = np.nan
    scores = ServedRanker(ranker).scores(request, item_part(ranker, item), rows, pairs)
    assert scores[rows < 0].tolist() == [-1] * 4
    assert ((scores[rows >= 0] > 0) & (scores[rows >= 0] < 1)).all()


def test_a_batch_is_its_single_requests() -> None:
    ranker = make_ranker()
    request, item, rows, pairs = make_inputs([[3, 1, 8, -1], [8, 8, 0, 2], [-1, 5, 6, 7]])
    served, part = ServedRanker(ranker), item_part(ranker, item)
    together = served.scores(request, part, rows, pairs)
    for place in range(3):
        one = slice(place, place + 1)
        np.testing.assert_allclose(served.scores(request[one], part, rows[one], pairs[one]), together[one], atol=1e-6)


def test_calibration_is_slope_and_offset_of_the_logit() -> None:
    ranker = make_ranker()
    inputs = make_inputs([[0, 1, 2, 3]])
    request, item, rows, pairs = inputs

    def logits(slope: float, offset: float) -> FloatArray:
        ranker.calibration.copy_(torch.tensor([slope, offset]))
        scores = ServedRanker(ranker).scores(request, item_part(ranker, item), rows, pairs).astype(np.float64)
        return np.log(scores / (1 - scores))

    np.testing.assert_allclose(logits(0.5, -2.0), logits(1.0, 0.0) * 0.5 - 2.0, atol=1e-4)
    np.testing.assert_allclose(logits(-1.0, 0.0), -logits(1.0, 0.0), atol=1e-4)


@pytest.mark.parametrize(("offset", "expected"), [(1e4, 1.0), (-1e4, 0.0)])
def test_extreme_logits_are_certain_and_stay_numbers(offset: float, expected: float) -> None:
    ranker = make_ranker()
    request, item, rows, pairs = make_inputs([[0, 1, 2]])
    ranker.calibration.copy_(torch.tensor([1.0, offset]))
    scores = ServedRanker(ranker).scores(request, item_part(ranker, item), rows, pairs)
    assert scores.tolist() == [[expected] * 3]


def test_inputs_are_left_as_they_are() -> None:
    ranker = make_ranker()
    request, item, rows, pairs = make_inputs([[4, 2, -1]])
    part = item_part(ranker, item)
    before = [array.copy() for array in (request, part, rows, pairs)]
    ServedRanker(ranker).scores(request, part, rows, pairs)
    for array, copy in zip((request, part, rows, pairs), before, strict=True):
        assert array.tobytes() == copy.tobytes()


def test_it_has_a_copy_of_the_weights() -> None:
    """A training that goes on does not change what serves."""
    ranker = make_ranker()
    request, item, rows, pairs = make_inputs([[0, 1, 2]])
    served, part = ServedRanker(ranker), item_part(ranker, item)
    before = served.scores(request, part, rows, pairs)
    with torch.no_grad():
        for parameter in ranker.parameters():
            parameter.zero_()
    assert served.scores(request, part, rows, pairs).tobytes() == before.tobytes()


@pytest.mark.parametrize("weight", [name for name, _ in Ranker(SHAPE).named_parameters() if name != "from_item.weight"])
def test_a_weight_that_is_no_number_is_not_hidden(weight: str) -> None:
    """Rectifiers pass NaN on, so that the golden queries see a training that diverged."""
    ranker = make_ranker()
    with torch.no_grad():
        ranker.get_parameter(weight).view(-1)[0] = float("nan")
    request, item, rows, pairs = make_inputs([[0, 1, 2]])
    assert np.isnan(ServedRanker(ranker).scores(request, item_part(ranker, item), rows, pairs)).all()


HEADS = ("buys", "buys_again", "value", "rating")


def ranker_with_heads() -> Ranker:
    ranker = make_ranker(RankerShape(request=12, item=9, pair=7, hidden=(16, 8), heads=HEADS))
    ranker.further_calibration.copy_(torch.tensor([[0.5, 0.2], [2.0, 1.0], [1.0, 3.0]]))
    return ranker


def test_several_heads_are_a_weighted_product_of_what_training_sees() -> None:
    ranker = ranker_with_heads()
    request, item, rows, pairs = make_inputs([[0, 1, 2, 3, -1], [4, -1, 5, 6, 7]])
    with torch.inference_mode():
        outputs = ranker.heads(
            torch.from_numpy(request.repeat(5, axis=0)),
            torch.from_numpy(item[np.maximum(rows, 0).ravel()]),
            torch.from_numpy(pairs.reshape(-1, 7)),
        ).reshape(2, 5, 4)
    buys, again = torch.sigmoid(outputs[..., 0]).numpy(), torch.sigmoid(outputs[..., 1]).numpy()
    value, rating = np.expm1(outputs[..., 2].numpy()).clip(1e-9), outputs[..., 3].numpy().clip(1e-9)
    served, part = ServedRanker(ranker), item_part(ranker, item)
    for weights, expected in (
        (HeadWeights(), buys),
        (HeadWeights(buys_again=0.5), buys * again**0.5),
        (HeadWeights(buys=0, value=1), value),
        (HeadWeights(buys=2, buys_again=1, value=0.25, rating=3), buys**2 * again * value**0.25 * rating**3),
    ):
        scores = served.scores(request, part, rows, pairs, weights)
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores, np.where(rows >= 0, expected, -1), rtol=2e-4, atol=1e-7)
    alone = ServedRanker(ranker).scores(request, part, rows, pairs)
    assert alone.tobytes() == served.scores(request, part, rows, pairs, HeadWeights()).tobytes()


def test_money_below_nothing_is_none_and_no_factor_turns_the_sign() -> None:
    ranker = ranker_with_heads()
    ranker.further_calibration[1] = torch.tensor([0.0, -5.0])
    request, item, rows, pairs = make_inputs([[0, 1, 2]])
    scores = ServedRanker(ranker).scores(request, item_part(ranker, item), rows, pairs, HeadWeights(value=1))
    assert (scores > 0).all()
    assert scores.max() <= 1e-9
