"""Training of the two towers: visits against sampled softmax, validated by recall on later visits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from towers.features.histories import BoolArray, Int64Array
from towers.features.requests import request_arrays
from towers.learning_data import LearningData
from towers.models.item_tower import ItemTensors, ItemTower
from towers.models.losses import log_inclusion, sampled_softmax
from towers.models.user_tower import RequestTensors, UserTower
from towers.schema import LogTooShortError
from towers.settings import LearningSettings
from towers.training.distributed import own_generator, shares, step_count
from towers.training.visits import Visits

VALIDATION_VISITS_MAX = 4_000
VALIDATION_K = 100
"""At most a tenth of the items, though: in a small shop everything would be among the best hundred."""
EMBED_BATCH = 8_192


class Towers(nn.Module):
    """Both towers and the learned inverse temperature, which training alone needs."""

    def __init__(self, data: LearningData, settings: LearningSettings) -> None:
        super().__init__()
        shape = data.encoders
        self.item = ItemTower(shape.item_shape, settings.towers.dimension, settings.towers.id_dropout)
        self.user = UserTower(shape.user_shape, settings.towers, settings.features)
        self.scale_log = nn.Parameter(torch.tensor(-np.log(settings.towers.temperature), dtype=torch.float32))


@torch.inference_mode()
def embed_items(tower: ItemTower, items: ItemTensors) -> Tensor:
    """(n, D) vectors of all items, embedded in pieces."""
    tower.eval()
    rows = torch.arange(len(items.id_code), device=items.id_code.device)
    return torch.cat([tower(items.take(piece)) for piece in torch.split(rows, EMBED_BATCH)])


@dataclass
class TowerTask:
    """The towers' problem: learns from visits before `train_end_s`, is judged on those until `validation_end_s`."""

    model: Towers
    data: LearningData
    visits: Visits
    learnable: BoolArray
    settings: LearningSettings
    train_end_s: int
    validation_end_s: int
    seed: int
    device: torch.device
    name: str = "towers"

    def __post_init__(self) -> None:
        self._train = self.visits.between(0, self.train_end_s)
        later = self.visits.between(self.train_end_s, self.validation_end_s)
        generator = np.random.default_rng(self.seed)
        self._validation = generator.permutation(later)[:VALIDATION_VISITS_MAX]
        self._items = ItemTensors.of(self.data.items, self.device)
        targets = self.visits.all_targets(self._train)[1]
        share = np.bincount(targets, minlength=self.data.item_count) / max(len(targets), 1)
        self._target_share = torch.as_tensor(share, dtype=torch.float32, device=self.device)
        self._pool = np.flatnonzero(self.learnable)
        if len(self._train) == 0:
            raise LogTooShortError(
                f"nothing that may be learned was bought before {np.datetime64(self.train_end_s, 's')}, where the "
                "towers' time ends; the log is too short for these ranker.cuts, cut_every_days, horizon_days and "
                "training.validation_days, or training.item_users_min is too high"
            )

    def step_count(self) -> int:
        """Steps in an epoch."""
        return step_count(len(self._train), self.settings.towers.batch_size)

    def losses(self, epoch: int) -> Iterator[Tensor]:
        """The loss of each step of the epoch, visits in a new order."""
        generator = np.random.default_rng((self.seed, epoch))
        order = generator.permutation(self._train)
        generator = own_generator(generator, self.seed, epoch)
        for chosen in shares(order, self.settings.towers.batch_size):
            yield self._loss(np.sort(chosen), generator)

    def _requests(self, chosen: Int64Array) -> RequestTensors:
        features = self.settings.features
        batch = self.visits.histories(self.data, chosen, features.history_events_max)
        user = self.visits.user_row[chosen]
        arrays = request_arrays(
            batch,
            features.sequence_events_max,
            self.data.users.bucket[user],
            self.data.users.attribute[user],
            self.data.context[self.visits.start[chosen]],
        )
        return RequestTensors.of(arrays, self.device)

    def _loss(self, chosen: Int64Array, generator: np.random.Generator) -> Tensor:
        towers = self.settings.towers
        requests = self._requests(chosen)
        drawn = self.visits.draw_targets(chosen, towers.targets_per_visit, generator)  # (B, P)
        uniform = generator.choice(self._pool, towers.uniform_negatives)
        candidates, place = np.unique(np.concatenate([drawn.ravel(), uniform]), return_inverse=True)
        positive = torch.as_tensor(place[: drawn.size], device=self.device)  # (R,)
        visit, item = self.visits.all_targets(chosen)
        column = np.minimum(np.searchsorted(candidates, item), len(candidates) - 1)
        present = candidates[column] == item
        blocked = torch.zeros(len(chosen), len(candidates), dtype=torch.bool, device=self.device)
        blocked[torch.as_tensor(visit[present]), torch.as_tensor(column[present])] = True

        rows = torch.as_tensor(candidates, dtype=torch.int64, device=self.device)
        seen, event_place = torch.unique(requests.item_row.clamp_min(0), return_inverse=True)
        vectors = self.model.item(self._items.take(torch.cat([rows, seen])))
        event_vectors = vectors[len(rows) :][event_place]  # (B, N, D)
        user_vectors = self.model.user(requests, event_vectors)  # (B, D)
        return sampled_softmax(
            user_vectors.repeat_interleave(towers.targets_per_visit, dim=0),
            vectors[: len(rows)],
            positive,
            log_inclusion(self._target_share[rows], drawn.size, len(uniform), len(self._pool)),
            blocked.repeat_interleave(towers.targets_per_visit, dim=0),
            self.model.scale_log.exp().clamp(max=100.0),
        )

    def validate(self) -> float:
        """Mean recall@VALIDATION_K of later visits' targets, by exact search over the learnable items."""
        if len(self._validation) == 0:
            return float("nan")
        vectors = embed_items(self.model.item, self._items)
        pool = torch.as_tensor(self._pool, device=self.device)
        recalls = []
        for begin in range(0, len(self._validation), 512):
            chosen = self._validation[begin : begin + 512]
            requests = self._requests(chosen)
            users = self.model.user(requests, vectors[requests.item_row.clamp_min(0)])
            k = min(VALIDATION_K, max(len(pool) // 10, 1))
            top = pool[torch.topk(users @ vectors[pool].T, k, dim=1).indices].cpu().numpy()
            visit, item = self.visits.all_targets(chosen)
            hit = (top[visit] == item[:, None]).any(axis=1)
            counts = np.bincount(visit, minlength=len(chosen))
            recalls.append(np.bincount(visit, weights=hit, minlength=len(chosen)) / np.minimum(counts, k))
        return float(np.concatenate(recalls).mean())
