"""A few more steps of both towers from the weights they have: new visits, and old ones against forgetting."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from towers.features.histories import Int64Array
from towers.learning_data import LearningData, retrievable_items
from towers.model import TrainedModel
from towers.models.item_tower import ItemTower
from towers.models.user_tower import UserTower
from towers.training.tower_task import Towers, TowerTask
from towers.training.visits import find_visits
from towers.updating.recipe import Recipe

SCALE_STEPS = 15
SCALE_RATE = 0.15


@dataclass
class MixedTowerTask(TowerTask):
    """The towers' problem with each step's visits drawn by hand: a share of new ones, the rest old."""

    def mixed_losses(
        self, new: Int64Array, old: Int64Array, new_share: float, steps: int, generator: np.random.Generator
    ) -> Iterator[Tensor]:
        """One loss a step; without new visits all are old, and the other way round."""
        size = self.settings.towers.batch_size
        fresh = round(size * new_share) if len(old) else size
        for _ in range(steps):
            drawn = [
                generator.choice(visits, min(count, len(visits)), replace=False)
                for visits, count in ((new, fresh if len(new) else 0), (old, size - fresh if len(new) else size))
                if count and len(visits)
            ]
            yield self._loss(np.sort(np.concatenate(drawn)), generator)


def tune_towers(
    model: TrainedModel, data: LearningData, new_begin_s: int, end_s: int, recipe: Recipe, deadline_s: float
) -> tuple[ItemTower, UserTower, int]:
    """Both towers, learned on from the model's by visits in [new_begin_s, end_s) with replayed older ones.

    Args:
        model: whose weights are the start; it stays as it is.
        data: the events; those from `end_s` on are not read.
        new_begin_s, end_s: which visits are new, epoch seconds.
        recipe: how many steps, how fast.
        deadline_s: of `time.monotonic`; no step begins after it.

    Returns:
        The towers, and how many steps there were.
    """
    settings = model.settings
    learnable = retrievable_items(data.histories, data.item_count, end_s, settings.training.item_users_min)
    visits = find_visits(data, learnable, only_new=settings.towers.positives == "new")
    new, old = visits.between(new_begin_s, end_s), visits.between(0, new_begin_s)
    towers = Towers(data, settings)
    towers.item, towers.user = copy.deepcopy(model.item_tower), copy.deepcopy(model.user_tower)
    steps = min(
        recipe.tower_steps, math.ceil(recipe.tower_passes * len(new) / settings.towers.batch_size / recipe.new_share)
    )
    if steps == 0 or len(new) == 0:
        return towers.item.eval(), towers.user.eval(), 0
    task = MixedTowerTask(
        towers, data, visits, learnable, settings, end_s, end_s, recipe.seed, torch.device("cpu"), "update: towers"
    )
    generator = np.random.default_rng((recipe.seed, end_s))
    torch.manual_seed(recipe.seed)
    _find_scale(task, old if len(old) else new, generator)
    towers.train()
    optimizer = torch.optim.AdamW(
        [*towers.item.parameters(), *towers.user.parameters(), towers.scale_log],
        lr=recipe.tower_rate,
        weight_decay=settings.towers.weight_decay,
    )
    warm_up = max(steps // 5, 1)
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min((step + 1) / warm_up, 1.0))
    done = 0
    for loss in task.mixed_losses(new, old, recipe.new_share, steps, generator):
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(towers.parameters(), settings.towers.gradient_norm_max)
        optimizer.step()
        rates.step()
        done += 1
        if time.monotonic() > deadline_s:
            break
    return towers.item.eval(), towers.user.eval(), done


def _find_scale(task: MixedTowerTask, visits: Int64Array, generator: np.random.Generator) -> None:
    """Learns the inverse temperature alone: training keeps it for itself, so a model read from disk has lost it."""
    towers = task.model
    towers.eval()
    for parameter in (*towers.item.parameters(), *towers.user.parameters()):
        parameter.requires_grad_(False)
    optimizer = torch.optim.Adam([towers.scale_log], lr=SCALE_RATE)
    for loss in task.mixed_losses(np.zeros(0, np.int64), visits, 0.0, SCALE_STEPS, generator):
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    for parameter in towers.parameters():
        parameter.requires_grad_(True)
