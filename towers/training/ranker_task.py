"""Training of the ranker: its heads' losses over the candidates of several cuts, validated by NDCG on a later one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from towers.features.histories import FloatArray, Int64Array
from towers.models.ranker import Ranker
from towers.models.ranker_losses import binary_loss, listwise_loss, squared_loss
from towers.schema import LogTooShortError
from towers.settings import HeadLossWeights, RankerSettings
from towers.training.cuts import CutExamples
from towers.training.distributed import own_steps
from towers.training.ranker_outputs import candidate_ndcg, ranker_logits

_VARIES_MIN = 0.01
"""An input that varies by less than so much of its size, over all cuts, says nothing there, and a day later its small
differences may be large ones: it is left out."""


@dataclass(frozen=True, slots=True)
class RankerLoss:
    """What a step minimises; fields as in `[ranker]`."""

    kind: Literal["binary", "listwise"] = "binary"
    negatives_max: int = 0
    positive_weight: float = 1.0
    heads: HeadLossWeights = field(default_factory=HeadLossWeights)

    @classmethod
    def of(cls, settings: RankerSettings) -> RankerLoss:
        """As the settings say."""
        return cls(settings.loss, settings.negatives_max, settings.positive_weight, settings.heads)


@dataclass
class RankerTask:
    """The ranker's training problem; `validation` is None in a refit."""

    model: Ranker
    cuts: Sequence[CutExamples]
    validation: CutExamples | None
    batch_size: int
    seed: int
    device: torch.device
    name: str = "ranker"
    loss: RankerLoss = RankerLoss()
    vector_weight: float = 1.0

    def __post_init__(self) -> None:
        self._cut = np.concatenate([np.full(len(cut.label), place) for place, cut in enumerate(self.cuts)])
        self._row = np.concatenate([np.arange(len(cut.label)) for cut in self.cuts])
        self._label = np.concatenate([cut.label for cut in self.cuts])
        begins = np.cumsum([0, *(len(cut.user_row) for cut in self.cuts)])
        self._request = np.concatenate(
            [begin + cut.candidate_user for begin, cut in zip(begins, self.cuts, strict=False)]
        ).astype(np.int64)  # of all cuts, ascending within each
        self._request_count = int(begins[-1])
        if not self._label.any():
            raise LogTooShortError(
                "no candidate of any training cut was bought within ranker.horizon_days, so the ranker has nothing to "
                "learn from; the log is too short for these cuts"
            )
        self._learned = self._teaching()
        self._kept = self._kept_count()
        _standardise(self.model, self.cuts, self.vector_weight)

    def _teaching(self) -> Int64Array:
        """The places that say anything: to the listwise loss alone a request without a positive says nothing."""
        if self.loss.kind == "binary" or len(self.model.shape.heads) > 1:
            return np.arange(len(self._row))
        has_positive = np.bincount(self._request, weights=self._label, minlength=self._request_count) > 0
        return np.flatnonzero(has_positive[self._request])

    def _kept_count(self) -> int:
        """Candidates that an epoch learns from."""
        learned = self._learned
        if not self.loss.negatives_max:
            return len(learned)
        negatives = np.bincount(self._request[learned][~self._label[learned]], minlength=self._request_count)
        return int(self._label.sum() + np.minimum(negatives, self.loss.negatives_max).sum())

    def step_count(self) -> int:
        """Steps in an epoch."""
        return max(-(-self._kept // self.batch_size), 1)

    def losses(self, epoch: int) -> Iterator[Tensor]:
        """The loss of each step of the epoch, candidates (or whole requests) in a new order."""
        random = np.random.default_rng((self.seed, epoch))
        order = self._order(random)
        for chosen in own_steps(np.array_split(order, self._ends(order))):
            parts = [
                self._take(place, self._row[chosen][self._cut[chosen] == place]) for place in range(len(self.cuts))
            ]
            request, item, pair, targets = (torch.cat(column) for column in zip(*parts, strict=True))
            by_cut = chosen[np.argsort(self._cut[chosen], kind="stable")]  # as `parts` stand
            yield self._loss(self.model.heads(request, item, pair), targets, self._request[by_cut])

    def _order(self, random: np.random.Generator) -> Int64Array:
        """The places that the epoch learns from: single candidates shuffled, or requests shuffled and kept whole."""
        places = self._sampled(random)
        if self.loss.kind == "binary":
            return random.permutation(places)
        turn = random.permutation(self._request_count)
        ordered: Int64Array = places[np.argsort(turn[self._request[places]], kind="stable")]
        return ordered

    def _sampled(self, random: np.random.Generator) -> Int64Array:
        """All positives, and of each request's negatives at most `negatives_max`, drawn anew."""
        if not self.loss.negatives_max:
            return self._learned
        negative = self._learned[~self._label[self._learned]]
        negative = negative[np.lexsort((random.random(len(negative)), self._request[negative]))]
        request = self._request[negative]
        rank = np.arange(len(request)) - np.searchsorted(request, request)
        return np.sort(np.concatenate([np.flatnonzero(self._label), negative[rank < self.loss.negatives_max]]))

    def _ends(self, order: Int64Array) -> Int64Array:
        """Where one step ends and the next begins; of whole requests, at the request's end that is nearest."""
        ends = np.arange(self.batch_size, len(order), self.batch_size)
        if self.loss.kind == "binary":
            return ends
        changes = np.flatnonzero(np.diff(self._request[order])) + 1
        if not len(changes):
            return ends[:0]
        whole: Int64Array = changes[np.minimum(np.searchsorted(changes, ends), len(changes) - 1)]
        return whole  # two ends may fall together: a step without candidates has loss 0

    def _loss(self, outputs: Tensor, targets: Tensor, request: Int64Array) -> Tensor:
        """(n, H) outputs and targets, (n,) requests → the weighted sum over the heads."""
        total = outputs.new_zeros(())
        if not len(outputs):
            return outputs.sum()  # 0, and the loop can differentiate it
        for place, name in enumerate(self.model.shape.heads):
            weight, output, target = getattr(self.loss.heads, name), outputs[:, place], targets[:, place]
            known = ~target.isnan()
            if not known.any():
                continue
            if name == "buys" and self.loss.kind == "listwise":
                names, owner = np.unique(request, return_inverse=True)
                part = listwise_loss(output, target, torch.from_numpy(owner).to(self.device), len(names))
            elif name in ("buys", "buys_again"):
                part = binary_loss(output[known], target[known], self.loss.positive_weight)
            else:
                part = squared_loss(output, target)
            total = total + weight * part
        return total

    def _take(self, place: int, rows: np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        cut = self.cuts[place]
        unknown = np.full(len(rows), np.nan, np.float32)
        of_heads = [cut.target(name) for name in self.model.shape.heads]
        arrays = (
            cut.request[cut.candidate_user[rows]],
            cut.item[cut.candidate_item[rows]],
            cut.pair[rows],
            np.stack([unknown if head is None else head[rows].astype(np.float32) for head in of_heads], axis=1),
        )
        request, item, pair, targets = (torch.from_numpy(array).to(self.device) for array in arrays)
        return request, item, pair, targets

    def validate(self) -> float:
        """Mean NDCG@20 over the validation cut's users who bought a candidate; NaN without a validation cut."""
        if self.validation is None:
            return float("nan")
        return candidate_ndcg(self.validation, ranker_logits(self.model, self.validation, self.device))


def _standardise(ranker: Ranker, cuts: Sequence[CutExamples], vector_weight: float) -> None:
    """Sets the ranker's input means and scales from a sample of the training cuts' candidates."""
    samples: dict[str, list[FloatArray]] = {"request": [], "item": [], "pair": []}
    for cut in cuts:
        rows = np.linspace(0, len(cut.label) - 1, min(len(cut.label), 50_000)).astype(np.int64)
        samples["request"].append(cut.request[cut.candidate_user[rows]])
        samples["item"].append(cut.item[cut.candidate_item[rows]])
        samples["pair"].append(cut.pair[rows])
    for name, parts in samples.items():
        joined = np.concatenate(parts)
        deviation = joined.std(axis=0, dtype=np.float64)  # in float32 the hour, the same in all cuts, seems to vary
        mean = joined.mean(axis=0, dtype=np.float64)
        varies = deviation > np.maximum(_VARIES_MIN * np.abs(mean), 1e-6)
        scale = np.where(varies, 1 / np.maximum(deviation, 1e-6), 0)
        getattr(ranker, f"{name}_mean").copy_(torch.from_numpy(mean.astype(np.float32)))
        if name != "pair" and ranker.shape.vector:
            # An embedding counts as one input: its coordinates share one unit of variance. At full weight their number
            # alone lets the ranker learn users and items by heart (docs/log.md).
            scale[: ranker.shape.vector] *= vector_weight / np.sqrt(ranker.shape.vector)
        getattr(ranker, f"{name}_scale").copy_(torch.from_numpy(scale.astype(np.float32)))
