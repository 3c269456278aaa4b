"""Learning on reads nothing of the time to come, moves the weights, and leaves the model that it began with alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.conftest import SmallModel
from towers.commands.train import exact_search
from towers.model import TrainedModel, read_model
from towers.schema import Dataset, EventColumns
from towers.schema.dataset import EVENT_DTYPES
from towers.updating.learning import Source, learn_on
from towers.updating.ranker_steps import example_days
from towers.updating.recipe import Recipe

DAY_S = 86_400
RECIPE = Recipe(replay_days=2, replay_reach_days=20, seconds_max=60)


@pytest.fixture(scope="module")
def model(small_model: SmallModel) -> TrainedModel:
    return read_model(small_model.model_dir)


def before(dataset: Dataset, end_s: int) -> Dataset:
    """The dataset as it was at that moment; its tables stay."""
    events = dataset.events
    kept = events.time_s < end_s
    arrays = {name: getattr(events, name)[kept] for name in EVENT_DTYPES}
    return replace(
        dataset, events=EventColumns(**arrays, context={name: values[kept] for name, values in events.context.items()})
    )


def weights(model: TrainedModel) -> dict[str, torch.Tensor]:
    modules = {"item": model.item_tower, "user": model.user_tower, "ranker": model.ranker}
    return {f"{part}.{name}": value for part, module in modules.items() for name, value in module.state_dict().items()}


def test_what_happens_later_changes_nothing(model: TrainedModel, small_dataset: Dataset) -> None:
    end_s = small_dataset.meta.last_time_s - 12 * DAY_S
    learned = [
        learn_on(model, Source.of(dataset, model), end_s - 3 * DAY_S, end_s, exact_search, RECIPE)
        for dataset in (small_dataset, before(small_dataset, end_s))
    ]
    assert learned[0].tower_steps == learned[1].tower_steps > 0
    assert learned[0].ranker_steps == learned[1].ranker_steps > 0
    first, second = (weights(each.model) for each in learned)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_weights_move_and_the_old_model_does_not(model: TrainedModel, small_dataset: Dataset) -> None:
    untouched = {name: value.clone() for name, value in weights(model).items()}
    end_s = small_dataset.meta.last_time_s + 1
    learned = learn_on(model, Source.of(small_dataset, model), end_s - 5 * DAY_S, end_s, exact_search, RECIPE).model
    assert (learned.towers_until_s, learned.ranker_until_s) == (end_s, end_s)
    assert learned.encoders is model.encoders
    moved = {name.split(".")[0] for name, value in weights(learned).items() if not torch.equal(value, untouched[name])}
    assert moved == {"item", "user", "ranker"}
    for name, value in weights(model).items():
        assert torch.equal(value, untouched[name]), name
    for name in ("request_mean", "request_scale", "item_mean", "item_scale", "pair_mean", "pair_scale"):
        assert torch.equal(learned.ranker.get_buffer(name), untouched[f"ranker.{name}"]), name


def test_without_time_nothing_is_learned_by_the_ranker(model: TrainedModel, small_dataset: Dataset) -> None:
    end_s = small_dataset.meta.last_time_s + 1
    recipe = RECIPE.model_copy(update={"seconds_max": 1e-6})
    learned = learn_on(model, Source.of(small_dataset, model), end_s - 5 * DAY_S, end_s, exact_search, recipe)
    assert (learned.tower_steps, learned.ranker_steps) == (1, 0)
    assert learned.model.ranker_until_s == model.ranker_until_s


def test_days_are_the_newest_new_ones_and_old_ones_that_exist() -> None:
    begin_s, recipe = 100 * DAY_S, Recipe(new_days_max=2, replay_days=3, replay_reach_days=10)
    days = example_days(begin_s, begin_s + 3 * DAY_S + 60, 95 * DAY_S, recipe)
    assert days[:2] == [(begin_s + 2 * DAY_S, begin_s + 3 * DAY_S), (begin_s + 3 * DAY_S, begin_s + 3 * DAY_S + 60)]
    old = days[2:]
    assert len(set(old)) == 3
    assert all(begin >= 96 * DAY_S and end == begin + DAY_S <= begin_s for begin, end in old)
    assert example_days(begin_s, begin_s + 60, begin_s, recipe) == [(begin_s, begin_s + 60)]
