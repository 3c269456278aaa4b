from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.progress import Progress

from towers.features.histories import FloatArray
from towers.models.ranker import Ranker, RankerShape
from towers.schema import LogTooShortError
from towers.settings import HeadLossWeights
from towers.training.cuts import CutExamples
from towers.training.loop import Schedule, fit
from towers.training.ranker_calibration import SLOPE_MIN, Reliability, calibrate
from towers.training.ranker_outputs import candidate_ndcg, ranker_heads, ranker_logits
from towers.training.ranker_quality import ranker_quality, write_reliability
from towers.training.ranker_task import RankerLoss, RankerTask

CPU = torch.device("cpu")
USERS, ITEMS, PER_USER = 40, 30, 12


def cut_of(
    labels: list[bool] | np.ndarray, owners: list[int] | np.ndarray, pair: FloatArray | None = None
) -> CutExamples:
    """A cut of the given candidates; request and item inputs are noise of fixed seed."""
    random = np.random.default_rng(0)
    count = len(labels)
    return CutExamples(
        user_row=np.arange(int(max(owners)) + 1, dtype=np.int32),
        request=random.normal(3.0, 5.0, (int(max(owners)) + 1, 4)).astype(np.float32),
        item=random.normal(size=(ITEMS, 3)).astype(np.float32),
        candidate_user=np.array(owners, np.int32),
        candidate_item=random.integers(0, ITEMS, count).astype(np.int32),
        pair=pair if pair is not None else random.normal(size=(count, 2)).astype(np.float32),
        label=np.array(labels, np.bool_),
    )


def learnable_cut(seed: int) -> CutExamples:
    """What is bought follows from the first pair input; the second is constant."""
    random = np.random.default_rng(seed)
    pair = random.normal(size=(USERS * PER_USER, 2)).astype(np.float32)
    pair[:, 1] = 7.0
    labels = random.random(len(pair)) < 1 / (1 + np.exp(-(2 * pair[:, 0] - 1)))
    return cut_of(labels, np.repeat(np.arange(USERS), PER_USER), pair)


def new_ranker(seed: int = 1) -> Ranker:
    torch.manual_seed(seed)
    return Ranker(RankerShape(request=4, item=3, pair=2, hidden=(8, 4)))


def first_pair_input(slope: float, offset: float) -> Ranker:
    """A ranker whose logit is slope · pair[0] + offset, exactly where relu does not cut."""
    ranker = new_ranker()
    with torch.no_grad():
        for parameter in ranker.parameters():
            parameter.zero_()
        ranker.from_pair.weight[0, 0] = 1.0
        ranker.from_request.bias[0] = 100.0
        ranker.middle.weight[0, 0] = 1.0
        ranker.out.weight[0, 0] = slope
        ranker.out.bias[0] = offset - slope * 100.0
    return ranker


def test_the_ranker_learns_what_is_bought_and_ndcg_shows_it() -> None:
    ranker = new_ranker()
    held_out = learnable_cut(2)
    task = RankerTask(ranker, [learnable_cut(0), learnable_cut(1)], held_out, 100, seed=1, device=CPU)
    assert task.step_count() == -(-2 * USERS * PER_USER // 100)
    before = task.validate()
    result = fit(task, Schedule(15, 5, 0.02, 1e-4, 1.0), seed=1, checkpoint=None, progress=Progress(disable=True))
    best = candidate_ndcg(held_out, held_out.pair[:, 0])
    assert before < best - 0.1
    assert result.score > best - 0.05


def test_inputs_are_standardised_and_constant_ones_have_no_say() -> None:
    ranker = new_ranker()
    cut = learnable_cut(0)
    RankerTask(ranker, [cut], None, 100, seed=1, device=CPU)
    np.testing.assert_allclose(ranker.pair_mean[0], cut.pair[:, 0].mean(), atol=1e-5)
    np.testing.assert_allclose(ranker.pair_scale[0], 1 / cut.pair[:, 0].std(), rtol=1e-4)
    assert ranker.pair_scale[1] == 0
    seen = cut.request[cut.candidate_user]
    np.testing.assert_allclose(ranker.request_scale, 1 / seen.std(axis=0), rtol=1e-4)


def test_an_embedding_counts_as_one_input() -> None:
    torch.manual_seed(1)
    cut = learnable_cut(0)
    plain, damped = (Ranker(RankerShape(4, 3, 2, (8, 4), vector)) for vector in (0, 2))
    for ranker in (plain, damped):
        RankerTask(ranker, [cut], None, 100, seed=1, device=CPU)
    for name in ("request_scale", "item_scale"):
        before, after = getattr(plain, name), getattr(damped, name)
        torch.testing.assert_close(after[:2], before[:2] / 2**0.5)
        torch.testing.assert_close(after[2:], before[2:])
    assert torch.equal(damped.pair_scale, plain.pair_scale)


def test_every_candidate_of_every_cut_is_seen_once_an_epoch_in_a_new_order() -> None:
    cuts = [learnable_cut(0), learnable_cut(1)]
    task = RankerTask(new_ranker(), cuts, None, 64, seed=1, device=CPU)
    seen: list[list[tuple[int, int]]] = [[], []]
    take = task._take

    def record(place: int, rows: np.ndarray) -> tuple[torch.Tensor, ...]:
        seen[epoch].extend((place, int(row)) for row in rows)
        return take(place, rows)

    task._take = record  # type: ignore[method-assign, assignment]
    for epoch in range(2):
        assert len(list(task.losses(epoch))) == task.step_count()
    everything = [(place, row) for place in range(2) for row in range(USERS * PER_USER)]
    assert sorted(seen[0]) == sorted(seen[1]) == everything
    assert seen[0] != seen[1]


def test_cuts_without_a_purchase_are_an_error() -> None:
    with pytest.raises(LogTooShortError, match="no candidate of any training cut was bought"):
        RankerTask(new_ranker(), [cut_of([False] * 6, [0, 0, 0, 1, 1, 1])], None, 100, seed=1, device=CPU)


def test_ndcg_is_the_mean_over_users_with_a_purchase_computed_by_hand() -> None:
    # User 0 ranks [no, yes, yes], user 1 [yes, no], user 2 nothing bought.
    cut = cut_of([True, False, True, True, False, False], [0, 0, 0, 1, 1, 2])
    score = np.array([0.2, 0.9, 0.1, 0.8, 0.3, 0.5], np.float32)
    first = (1 / np.log2(3) + 1 / np.log2(4)) / (1 / np.log2(2) + 1 / np.log2(3))
    assert candidate_ndcg(cut, score) == pytest.approx((first + 1) / 2)
    allowed = np.array([True, True, False, False, True, True])
    assert candidate_ndcg(cut, score, allowed) == pytest.approx(1 / np.log2(3))


def test_ndcg_without_any_purchase_is_not_a_number() -> None:
    cut = cut_of([True, False, False], [0, 0, 1])
    score = np.zeros(3, np.float32)
    assert np.isnan(candidate_ndcg(cut, score, np.array([False, True, True])))
    assert np.isnan(candidate_ndcg(cut, score, np.zeros(3, np.bool_)))


def test_ndcg_looks_at_twenty_places() -> None:
    labels = [False] * 20 + [True]
    assert candidate_ndcg(cut_of(labels, [0] * 21), -np.arange(21, dtype=np.float32)) == 0


@pytest.mark.parametrize(("slope", "offset"), [(2.0, 0.5), (0.5, -2.0), (5.0, -4.0)])
def test_calibration_recovers_a_known_slope_and_offset(slope: float, offset: float) -> None:
    """The ranker says 2x - 1 where the truth is slope · (2x - 1) + offset."""
    random = np.random.default_rng(7)
    pair = random.normal(size=(40_000, 2)).astype(np.float32)
    truth = slope * (2 * pair[:, 0] - 1) + offset
    cut = cut_of(random.random(len(pair)) < 1 / (1 + np.exp(-truth)), np.zeros(len(pair), np.int32), pair)
    ranker = first_pair_input(2.0, -1.0)
    found = calibrate(ranker, cut, CPU)
    assert found == pytest.approx((slope, offset), rel=0.06, abs=0.06)
    assert ranker.calibration.tolist() == pytest.approx(found, rel=1e-6)
    np.testing.assert_allclose(ranker_logits(ranker, cut, CPU), found[0] * (2 * pair[:, 0] - 1) + found[1], atol=1e-3)
    again = calibrate(ranker, cut, CPU)
    assert again == pytest.approx(found, rel=1e-6)  # from the plain logits, not from the calibrated ones


def test_calibration_never_turns_the_order_around() -> None:
    random = np.random.default_rng(8)
    pair = random.normal(size=(5_000, 2)).astype(np.float32)
    labels = random.random(len(pair)) < 1 / (1 + np.exp(3 * pair[:, 0] + 1))
    ranker = first_pair_input(2.0, -1.0)
    cut = cut_of(labels, np.zeros(len(pair), np.int32), pair)
    slope, offset = calibrate(ranker, cut, CPU)
    assert slope == SLOPE_MIN
    probability = 1 / (1 + np.exp(-ranker_logits(ranker, cut, CPU)))
    assert probability.mean() == pytest.approx(labels.mean(), abs=1e-4)
    assert np.isfinite(offset)


@pytest.mark.parametrize("label", [True, False])
def test_one_outcome_alone_leaves_the_logit_as_it_is(label: bool) -> None:
    ranker = new_ranker()
    assert calibrate(ranker, cut_of([label] * 50, [0] * 50), CPU) == (1.0, 0.0)
    assert ranker.calibration.tolist() == [1, 0]


def test_separable_outcomes_are_calibrated_without_overflow() -> None:
    pair = np.linspace(-50, 50, 200, dtype=np.float32)[:, None].repeat(2, axis=1)
    slope, offset = calibrate(first_pair_input(1.0, 0.0), cut_of(pair[:, 0] > 0, [0] * 200, pair), CPU)
    assert slope > 1
    assert np.isfinite(offset)


def test_listwise_training_learns_the_order_and_is_calibrated_after_it() -> None:
    """What is bought does not depend on the shopper, so that slope and offset can make probabilities of any level."""
    ranker, held_out = new_ranker(), learnable_cut(2)
    loss = RankerLoss("listwise")
    task = RankerTask(ranker, [learnable_cut(0), learnable_cut(1)], held_out, 100, seed=1, device=CPU, loss=loss)
    result = fit(task, Schedule(15, 5, 0.02, 1e-4, 1.0), seed=1, checkpoint=None, progress=Progress(disable=True))
    assert result.score > candidate_ndcg(held_out, held_out.pair[:, 0]) - 0.05
    calibrate(ranker, learnable_cut(3), CPU)
    found = Reliability.of(ranker_logits(ranker, held_out, CPU), held_out.label, 4)
    assert found.expected_error < 0.1  # a bin of 120 candidates is itself off by some .04
    assert found.said.mean() == pytest.approx(found.came.mean(), abs=0.04)


def test_listwise_steps_hold_whole_requests() -> None:
    task = RankerTask(
        new_ranker(),
        [learnable_cut(0), learnable_cut(1)],
        None,
        batch_size=5 * PER_USER - 1,
        seed=1,
        device=CPU,
        loss=RankerLoss("listwise"),
    )
    seen: list[np.ndarray] = []
    task._loss = lambda outputs, _, request: seen.append(request) or outputs.sum()  # type: ignore[method-assign]
    steps = len(list(task.losses(0)))
    assert steps == task.step_count()
    assert sum(map(len, seen)) == 2 * USERS * PER_USER
    owners = [set(request.tolist()) for request in seen]
    assert sum(map(len, owners)) == len(set.union(*owners)) == 2 * USERS  # nobody is cut in two


def test_all_positives_and_some_negatives_of_each_request_are_drawn_anew() -> None:
    labels = [True, True, False, False, False, False, True, False, False]
    cut = cut_of(labels, [0, 0, 0, 0, 0, 0, 1, 1, 2])
    task = RankerTask(new_ranker(), [cut], None, 2, seed=1, device=CPU, loss=RankerLoss(negatives_max=2))
    drawn = [task._sampled(np.random.default_rng(epoch)).tolist() for epoch in range(20)]
    for places in drawn:
        assert {0, 1, 6, 7, 8} < set(places)  # positives, and negatives of requests that have no more than two
        assert len(set(places) & {2, 3, 4, 5}) == 2
    assert len({tuple(places) for places in drawn}) > 3
    assert task.step_count() == len(list(task.losses(0))) == 4  # 7 candidates, 2 a step


def test_further_heads_learn_what_they_are_given_and_leave_what_is_unknown() -> None:
    """The money follows the second input, the rating is known for a few, and nothing is known of buying again."""
    random = np.random.default_rng(5)

    def cut(seed: int) -> CutExamples:
        made = learnable_cut(seed)
        made.pair[:, 1] = random.normal(size=len(made.label))
        rating = np.where(random.random(len(made.label)) < 0.3, 3 + made.pair[:, 1], np.nan).astype(np.float32)
        return replace(made, further={"value": 2 * made.pair[:, 1] + 1, "rating": rating})

    torch.manual_seed(1)
    heads = HeadLossWeights(buys_again=1.0, value=1.0, rating=1.0)
    ranker = Ranker(RankerShape(4, 3, 2, (8, 4), heads=heads.on))
    task = RankerTask(ranker, [cut(0), cut(1)], cut(2), 100, seed=1, device=CPU, loss=RankerLoss(heads=heads))
    start = ranker.out.weight[1].clone()
    fit(task, Schedule(20, 20, 0.03, 0.0, 1.0), seed=1, checkpoint=None, progress=Progress(disable=True))
    ranker.further_calibration[0] = torch.tensor([0.3, 4.0])
    calibrate(ranker, cut(3), CPU)
    held_out = cut(4)
    outputs = ranker_heads(ranker, held_out, CPU)
    quality = ranker_quality(heads.on, outputs, held_out)
    assert quality["value_rmse"] < 0.7 < 2 * held_out.pair[:, 1].std()
    assert quality["rating_rmse"] < 0.5 < held_out.pair[:, 1].std()
    assert quality["rating_mae"] < quality["rating_rmse"]
    assert "buys_again_auc" not in quality
    torch.testing.assert_close(ranker.out.weight[1], start)
    torch.testing.assert_close(ranker.further_calibration[0], torch.tensor([0.3, 4.0]))
    assert quality["auc"] > 0.75


def test_reliability_by_hand() -> None:
    """Two bins: said 0.2 and came 0, said 0.5 and came 1 of 2."""
    logit = np.log(np.array([1 / 4, 1 / 4, 1, 1], np.float32))
    found = Reliability.of(logit, np.array([False, False, True, False]), bins=2)
    np.testing.assert_allclose(found.said, [0.2, 0.5])
    np.testing.assert_allclose(found.came, [0, 0.5])
    assert found.count.tolist() == [2, 2]
    assert found.expected_error == pytest.approx(0.1)


def test_the_reliability_plot_is_drawn_and_its_bins_are_kept(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = Reliability.of(np.array([-1.0, 0.0, 1.0], np.float32), np.array([False, True, True]), bins=3)
    bins = write_reliability(found, tmp_path / "run" / "reliability.png")
    assert bins["came"] == [0, 1, 1]
    assert (tmp_path / "run" / "reliability.png").read_bytes().startswith(b"\x89PNG")


def test_lists_without_a_positive_are_left_out_of_the_listwise_loss_alone() -> None:
    cut = cut_of([True, False, False, False, False], [0, 0, 1, 1, 1])

    def step_count(loss: RankerLoss) -> int:
        return RankerTask(new_ranker(), [cut], None, 1, seed=1, device=CPU, loss=loss).step_count()

    assert step_count(RankerLoss(kind="listwise")) == 2
    assert step_count(RankerLoss(kind="binary")) == 5
    assert step_count(RankerLoss(kind="listwise", negatives_max=5)) == 2


def test_an_input_that_hardly_varies_in_the_cuts_is_left_out() -> None:
    pair = np.stack([np.linspace(0, 1, 8), 1 + np.linspace(0, 1e-4, 8)], axis=1).astype(np.float32)
    ranker = new_ranker()
    RankerTask(ranker, [cut_of([True, False] * 4, [0] * 8, pair)], None, 8, seed=1, device=CPU)
    assert ranker.pair_scale[0] > 0
    assert ranker.pair_scale[1] == 0
