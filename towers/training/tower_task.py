"""Training of the two towers: visits against sampled softmax, validated by recall on later visits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from towers.features.histories import BoolArray, Int64Array
from towers.features.requests import RequestArrays, request_arrays
from towers.learning_data import LearningData
from towers.models.item_tower import ItemTensors, ItemTower
from towers.models.losses import gbce, log_inclusion, sampled_softmax, shared_softmax
from towers.models.rows import rows_of
from towers.models.user_tower import RequestTensors, SequenceTensors, UserTower
from towers.schema import LogTooShortError
from towers.settings import LearningSettings
from towers.training.distributed import own_generator, own_steps
from towers.training.visits import Visits
from towers.training.windows import Windows, cut_windows

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


@dataclass(frozen=True, slots=True)
class _Step:
    """What a step compares: R positives, P of each visit, with their negatives.

    Attributes:
        candidates: (C,) distinct item rows; those that are negatives, C' of them, stand first.
        positive: (R,) the candidate that each positive is.
        blocked: (R, C') True where a candidate is no negative of the row.
        drawn_count: R.
    """

    candidates: Tensor
    positive: Tensor
    blocked: Tensor
    drawn_count: int


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
        """Steps in an epoch; windows that hold many visits may make it one less."""
        return -(-len(self._train) // self.settings.towers.batch_size)

    def losses(self, epoch: int) -> Iterator[Tensor]:
        """The loss of each step of the epoch, in a new order."""
        generator = np.random.default_rng((self.seed, epoch))
        batch_size = self.settings.towers.batch_size
        if self.settings.towers.positions == "all":
            length = self.settings.features.sequence_events_max
            windows = cut_windows(self.visits, self._train, self.data.histories, length, generator)
            batches = own_steps(windows.batches(batch_size, generator))
            generator = own_generator(generator, self.seed, epoch)
            for batch in batches:
                yield self._window_loss(batch, generator)
            return
        order = generator.permutation(self._train)
        generator = own_generator(generator, self.seed, epoch)
        for begin in own_steps(range(0, len(order), batch_size)):
            yield self._loss(np.sort(order[begin : begin + batch_size]), generator)

    def _request_arrays(self, chosen: Int64Array, sequence_events_max: int) -> RequestArrays:
        batch = self.visits.histories(self.data, chosen, self.settings.features.history_events_max)
        user = self.visits.user_row[chosen]
        return request_arrays(
            batch,
            sequence_events_max,
            self.data.users.bucket[user],
            self.data.users.attribute[user],
            self.data.context[self.visits.start[chosen]],
            self.settings.towers.gaps_to,
        )

    def _requests(self, chosen: Int64Array) -> RequestTensors:
        return RequestTensors.of(self._request_arrays(chosen, self.settings.features.sequence_events_max), self.device)

    def _loss(self, chosen: Int64Array, generator: np.random.Generator) -> Tensor:
        """Of visits that each read a sequence of their own."""
        step = self._draw(chosen, generator)
        requests = self._requests(chosen)
        seen, place = torch.unique(requests.item_row.clamp_min(0), return_inverse=True)
        vectors = self._embed(torch.cat([step.candidates, seen]))
        event_vectors = rows_of(vectors[len(step.candidates) :], place)  # (B, N, D)
        return self._compare(self.model.user(requests, event_vectors), vectors, step)

    def _window_loss(self, windows: Windows, generator: np.random.Generator) -> Tensor:
        """Of all visits of the windows."""
        length = self.settings.features.sequence_events_max
        step = self._draw(windows.visit, generator)
        rows, event_type, gap_bucket = windows.sequences(self.data.histories, length)
        seen, place = np.unique(np.maximum(rows, 0), return_inverse=True)
        vectors = self._embed(torch.cat([step.candidates, self._whole(seen)]))
        read = np.where(rows >= 0, place.reshape(rows.shape) + len(step.candidates), -1)
        sequences = SequenceTensors(self._whole(read), self._whole(event_type), self._whole(gap_bucket))
        window, column = (self._whole(array) for array in windows.columns(length))
        asked = RequestTensors.of(self._asked.take(np.searchsorted(self._train, windows.visit)), self.device)
        user_vectors = self.model.user.at_positions(sequences, vectors, window, column, asked)  # (B, D)
        return self._compare(user_vectors, vectors, step)

    @cached_property
    def _asked(self) -> RequestArrays:
        """What each training visit says besides its sequence: the same in every epoch, so read once."""
        parts = [
            self._request_arrays(chosen, 0) for chosen in np.array_split(self._train, len(self._train) // 4_096 + 1)
        ]
        return RequestArrays(
            *(np.concatenate([getattr(part, name) for part in parts]) for name in RequestArrays.__slots__)
        )

    def _draw(self, chosen: Int64Array, generator: np.random.Generator) -> _Step:
        """Positives of the visits (B,), and what they compete with."""
        towers = self.settings.towers
        drawn = self.visits.draw_targets(chosen, towers.targets_per_visit, generator)  # (B, P)
        uniform = generator.choice(self._pool, towers.uniform_negatives)
        negatives = np.unique(np.concatenate([drawn.ravel(), uniform]) if towers.negatives == "batch" else uniform)
        others = np.setdiff1d(drawn, negatives)
        candidates = np.concatenate([negatives, others])
        order = np.argsort(candidates)
        positive = order[np.searchsorted(candidates, drawn.ravel(), sorter=order)]
        visit, item = self.visits.all_targets(chosen)
        column = np.minimum(np.searchsorted(negatives, item), len(negatives) - 1)
        present = negatives[column] == item
        blocked = torch.zeros(len(chosen), len(negatives), dtype=torch.bool, device=self.device)
        blocked[torch.as_tensor(visit[present]), torch.as_tensor(column[present])] = True
        return _Step(
            self._whole(candidates),
            self._whole(positive),
            blocked.repeat_interleave(towers.targets_per_visit, dim=0),
            drawn.size,
        )

    def _whole(self, array: NDArray[np.integer]) -> Tensor:
        return torch.as_tensor(array, dtype=torch.int64, device=self.device)

    def _embed(self, rows: Tensor) -> Tensor:
        """(n, D) of the items of the rows (n,)."""
        vectors: Tensor = self.model.item(self._items.take(rows))
        return vectors

    def _compare(self, user_vectors: Tensor, vectors: Tensor, step: _Step) -> Tensor:
        """The loss of B users' vectors, each against the positives that its visit drew; candidates lead `vectors`."""
        towers = self.settings.towers
        users = user_vectors.repeat_interleave(towers.targets_per_visit, dim=0)  # (R, D)
        negative_count = step.blocked.shape[1]
        negatives = vectors[:negative_count]
        scale = self.model.scale_log.exp().clamp(max=100.0)
        if towers.negatives == "batch":
            rows, drawn = step.candidates[:negative_count], (step.drawn_count, towers.uniform_negatives)
            log_included = log_inclusion(self._target_share[rows], *drawn, len(self._pool))
            return sampled_softmax(users, negatives, step.positive, log_included, step.blocked, scale)
        own = rows_of(vectors, step.positive)  # (R, D)
        if towers.loss == "gbce":
            share = min(negative_count / max(len(self._pool) - 1, 1), 1.0)
            return gbce(users, own, negatives, step.blocked, scale, share, towers.gbce_calibration)
        return shared_softmax(users, own, negatives, step.blocked, scale)

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
