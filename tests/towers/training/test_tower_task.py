from __future__ import annotations

from dataclasses import replace
from math import exp, log

import numpy as np
import pytest
import torch

from towers.learning_data import LearningData, encode, fit_encoders
from towers.models.item_tower import ItemTensors
from towers.schema import Dataset, LogTooShortError, ShopConfig
from towers.settings import LearningSettings
from towers.training import tower_task
from towers.training.tower_task import Towers, TowerTask, embed_items
from towers.training.visits import Visits, find_visits
from towers.training.windows import cut_windows

DAY_S = 86_400
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def settings(small_shop: ShopConfig) -> LearningSettings:
    towers = small_shop.towers.model_copy(update={"batch_size": 16, "uniform_negatives": 8, "dropout": 0.0})
    return small_shop.learning.model_copy(update={"towers": towers})


@pytest.fixture(scope="module")
def data(small_dataset: Dataset, settings: LearningSettings) -> LearningData:
    until_s = small_dataset.meta.first_time_s + 60 * DAY_S
    return encode(small_dataset, fit_encoders(small_dataset, settings, until_s), settings, until_s)


@pytest.fixture(scope="module")
def visits(data: LearningData) -> Visits:
    return find_visits(data, np.ones(data.item_count, np.bool_), only_new=False)


def task_of(
    data: LearningData, visits: Visits, settings: LearningSettings, days: int = 60, held_out: int = 20
) -> TowerTask:
    torch.manual_seed(1)
    begin_s = int(data.histories.time_s.min())
    end_s = begin_s + days * DAY_S
    return TowerTask(
        model=Towers(data, settings),
        data=data,
        visits=visits,
        learnable=np.ones(data.item_count, np.bool_),
        settings=settings,
        train_end_s=end_s,
        validation_end_s=end_s + held_out * DAY_S,
        seed=5,
        device=CPU,
    )


def changed(settings: LearningSettings, **towers: object) -> LearningSettings:
    return settings.model_copy(update={"towers": settings.towers.model_copy(update=towers)})


@pytest.mark.parametrize(
    "recipe",
    [
        {},
        {"in_batch_negatives": False},
        {"loss": "gbce"},
        {"positions": "all"},
        {"positions": "all", "loss": "gbce", "encoder": "mean"},
        {"positions": "all", "in_batch_negatives": False, "encoder": "cnn"},
        {"positions": "all", "encoder": "gru"},
    ],
    ids=str,
)
def test_an_epoch_gives_finite_losses_and_every_part_a_gradient(
    data: LearningData, visits: Visits, settings: LearningSettings, recipe: dict[str, object]
) -> None:
    task = task_of(data, visits, changed(settings, **recipe))
    losses = list(task.losses(0))
    step_count = -(-len(visits.between(0, task.train_end_s)) // 16)
    assert task.step_count() == step_count
    assert len(losses) == step_count or ("positions" in recipe and 1 <= len(losses) <= step_count)
    torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
    assert all(torch.isfinite(loss) for loss in losses)
    without = [name for name, parameter in task.model.named_parameters() if parameter.grad is None]
    assert without == []


def test_the_same_epoch_draws_the_same_and_another_epoch_others(
    data: LearningData, visits: Visits, settings: LearningSettings
) -> None:
    def losses(epoch: int) -> list[float]:
        task = task_of(data, visits, settings)
        task.model.eval()  # no dropout: only the draws matter
        return [float(loss.detach()) for loss in task.losses(epoch)]

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)


def test_the_loss_of_a_step_is_that_of_a_naive_loop(data: LearningData, settings: LearningSettings) -> None:
    """Over the distinct candidates, each weighed by its probability to be there, the visit's other targets left out."""
    weeks = data.histories.time_s // (7 * DAY_S) * (7 * DAY_S)  # so that a visit has several targets
    data = replace(data, histories=replace(data.histories, time_s=weeks))
    visits = find_visits(data, np.ones(data.item_count, np.bool_), only_new=False)
    task = task_of(data, visits, settings)
    task.model.eval()
    learnable = visits.between(0, task.train_end_s)
    chosen = np.sort(learnable[np.argsort(-np.diff(visits.offsets)[learnable], kind="stable")[:12]])
    with torch.inference_mode():
        loss = task._loss(chosen, np.random.default_rng(9))
        vectors = embed_items(task.model.item, ItemTensors.of(data.items, CPU))
        requests = task._requests(chosen)
        users = task.model.user(requests, vectors[requests.item_row.clamp_min(0)])
        similarity = (users @ vectors.T).tolist()
    generator = np.random.default_rng(9)
    drawn = visits.draw_targets(chosen, settings.towers.targets_per_visit, generator)
    uniform = generator.choice(np.arange(data.item_count), settings.towers.uniform_negatives)
    candidates = {*drawn.ravel().tolist(), *uniform.tolist()}
    learned = visits.all_targets(learnable)[1]
    share = np.bincount(learned, minlength=data.item_count) / len(learned)
    included = 1 - np.exp(-(drawn.size * share + len(uniform) / data.item_count))
    scale = 1 / settings.towers.temperature
    losses = []
    for place, visit in enumerate(chosen):
        targets = set(visits.target[visits.offsets[visit] : visits.offsets[visit + 1]].tolist())
        for positive in drawn[place].tolist():
            rivals = (candidates - targets) | {positive}
            weight = {item: exp(scale * similarity[place][item]) / included[item] for item in rivals}
            losses.append(log(sum(weight.values()) / weight[positive]))
    assert any(visits.offsets[visit + 1] - visits.offsets[visit] > 1 for visit in chosen)  # something is left out
    assert float(loss) == pytest.approx(np.mean(losses), rel=1e-4)


@pytest.mark.parametrize("encoder", ["self_attention", "mean", "cnn", "gru"])
def test_learning_from_all_positions_is_learning_from_each_visit(
    data: LearningData, visits: Visits, settings: LearningSettings, encoder: str
) -> None:
    """Where windows hold whole histories, one pass over them gives each visit the loss that it has alone."""
    chosen_settings = changed(settings, encoder=encoder, positions="all")
    features = settings.features.model_copy(update={"sequence_events_max": int(np.diff(data.histories.offsets).max())})
    task = task_of(data, visits, chosen_settings.model_copy(update={"features": features}))
    task.model.eval()
    windows = cut_windows(
        visits,
        visits.between(0, task.train_end_s),
        data.histories,
        features.sequence_events_max,
        np.random.default_rng(0),
    ).take(np.arange(7))
    assert len(windows.visit) > 20
    with torch.inference_mode():
        together = task._window_loss(windows, np.random.default_rng(9))
        apart = task._loss(windows.visit, np.random.default_rng(9))
    assert float(together) == pytest.approx(float(apart), rel=1e-5)


def test_negatives_may_be_uniform_draws_alone(data: LearningData, visits: Visits, settings: LearningSettings) -> None:
    task = task_of(data, visits, changed(settings, in_batch_negatives=False))
    task.model.eval()
    chosen = visits.between(0, task.train_end_s)[:10]
    with torch.inference_mode():
        loss = task._loss(chosen, np.random.default_rng(9))
        vectors = embed_items(task.model.item, ItemTensors.of(data.items, CPU))
        requests = task._requests(chosen)
        users = task.model.user(requests, vectors[requests.item_row.clamp_min(0)])
        similarity = (users @ vectors.T / settings.towers.temperature).tolist()
    generator = np.random.default_rng(9)
    drawn = visits.draw_targets(chosen, settings.towers.targets_per_visit, generator)
    uniform = set(generator.choice(np.arange(data.item_count), settings.towers.uniform_negatives).tolist())
    losses = []
    for place, visit in enumerate(chosen):
        targets = set(visits.target[visits.offsets[visit] : visits.offsets[visit + 1]].tolist())
        for positive in drawn[place].tolist():
            rivals = (uniform - targets) | {positive}
            losses.append(log(sum(exp(similarity[place][item] - similarity[place][positive]) for item in rivals)))
    assert float(loss) == pytest.approx(np.mean(losses), rel=1e-4)


def test_validation_is_the_share_of_later_targets_among_the_nearest_items(
    data: LearningData, visits: Visits, settings: LearningSettings
) -> None:
    task = task_of(data, visits, settings)
    task.model.eval()
    with torch.inference_mode():
        found = task.validate()
        vectors = embed_items(task.model.item, ItemTensors.of(data.items, CPU)).numpy()
        later = visits.between(task.train_end_s, task.validation_end_s)
        requests = task._requests(later)
        users = task.model.user(requests, torch.from_numpy(vectors)[requests.item_row.clamp_min(0)]).numpy()
    k = data.item_count // 10
    recalls = []
    for place, visit in enumerate(later):
        nearest = set(np.argsort(-(vectors @ users[place]))[:k].tolist())
        targets = visits.target[visits.offsets[visit] : visits.offsets[visit + 1]].tolist()
        recalls.append(sum(target in nearest for target in targets) / min(len(targets), k))
    assert found == pytest.approx(np.mean(recalls))
    assert 0 <= found < 1


def test_without_later_visits_there_is_no_validation(
    data: LearningData, visits: Visits, settings: LearningSettings
) -> None:
    assert np.isnan(task_of(data, visits, settings, held_out=0).validate())


def test_a_log_too_short_for_the_split_is_an_error_that_says_so(
    data: LearningData, visits: Visits, settings: LearningSettings
) -> None:
    with pytest.raises(LogTooShortError, match=r"bought before 2026-.*; the log is too short"):
        task_of(data, visits, settings, days=0)


def test_items_are_embedded_alike_in_pieces(
    data: LearningData, settings: LearningSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    tower = Towers(data, settings).item
    items = ItemTensors.of(data.items, CPU)
    whole = embed_items(tower, items)
    monkeypatch.setattr(tower_task, "EMBED_BATCH", 7)
    torch.testing.assert_close(embed_items(tower, items), whole, atol=1e-6, rtol=0)
    assert not tower.training


def test_rarely_bought_items_may_be_left_out_of_the_targets(
    data: LearningData, visits: Visits, settings: LearningSettings
) -> None:
    learnable = np.zeros(data.item_count, np.bool_)
    learnable[np.unique(visits.target)[:12]] = True
    task = task_of(data, find_visits(data, learnable, only_new=False), settings)
    task = replace(task, learnable=learnable)
    assert all(torch.isfinite(loss) for loss in task.losses(0))
