"""The ranker as it is served: the split form of `Ranker.logits`, two matrix products and two compiled loops.

Standardisation is folded into the weights once, so a candidate costs a gather, a sum and a rectifier around BLAS.

Several heads make one score as a weighted product, buys^w · value^v · …: a constant factor of a head, such as its
currency, changes no order, so the weights mean the same in every shop. A head of weight 0 costs nothing.
"""

from __future__ import annotations

import numpy as np
import torch

from towers.compiled import reordered_kernel
from towers.features.histories import FloatArray, Int32Array
from towers.models.ranker import Ranker
from towers.prefetch import AHEAD, prefetch
from towers.settings import HeadWeights

BUYS_ALONE = HeadWeights()
_LEAST = np.float32(1e-9)
"""What a factor of the product is at least: money below 0 is none, and none still leaves an order."""


class ServedRanker:
    """A copy of a trained ranker's weights; "buys" equals `sigmoid(Ranker.logits)` up to the order of sums."""

    def __init__(self, ranker: Ranker) -> None:
        with torch.inference_mode():
            request = ranker.from_request.weight * ranker.request_scale  # (H, R)
            pair = ranker.from_pair.weight * ranker.pair_scale  # (H, P)
            offset = ranker.from_request.bias - request @ ranker.request_mean - pair @ ranker.pair_mean
            self._request, self._offset = _array(request.T), _array(offset)
            self._pair = _array(pair.T)  # (P, H)
            self._middle, self._middle_offset = _array(ranker.middle.weight.T), _array(ranker.middle.bias)  # (H, H')
            self._heads = ranker.shape.heads
            slope, shift = ranker.calibrations().numpy().astype(np.float64).T  # (heads,) each
            self._out = _array(ranker.out.weight) * slope.astype(np.float32)[:, None]  # (heads, H')
            self._out_offset = (_array(ranker.out.bias) * slope + shift).tolist()

    @property
    def heads(self) -> tuple[str, ...]:
        """The heads that can be weighted."""
        return self._heads

    def scores(
        self,
        request: FloatArray,
        item_part: FloatArray,
        rows: Int32Array,
        pairs: FloatArray,
        weights: HeadWeights = BUYS_ALONE,
    ) -> FloatArray:
        """The heads' weighted product (B, K), of buys alone the calibrated probability; -1 where `rows` is.

        Args:
            request: (B, R) as `request_inputs`.
            item_part: (n, H) the generation's.
            rows: (B, K) candidates, -1 pads.
            pairs: (B, K, P) as `pair_inputs`.
            weights: what each head counts; those above 0 are among `heads`.
        """
        hidden: FloatArray = pairs.reshape(-1, pairs.shape[2]) @ self._pair  # (B · K, H)
        _rectify(rows, request @ self._request + self._offset, item_part, hidden)
        middle = hidden @ self._middle
        if weights == BUYS_ALONE:
            scores = self._head("buys", rows, middle)
        else:
            scores = np.prod([self._powered(name, weights, rows, middle) for name in weights.on], axis=0)
        scores[rows < 0] = -1
        return scores

    def _powered(self, name: str, weights: HeadWeights, rows: Int32Array, middle: FloatArray) -> FloatArray:
        return np.maximum(self._head(name, rows, middle), _LEAST) ** np.float32(getattr(weights, name))

    def _head(self, name: str, rows: Int32Array, middle: FloatArray) -> FloatArray:
        """(B, K) a probability, money, or stars; what stands at pads means nothing."""
        place = self._heads.index(name)
        output = _logits(rows, middle, self._middle_offset, self._out[place], self._out_offset[place])
        with np.errstate(over="ignore"):  # far below 0 the exponential is infinite, and the probability 0
            if name == "value":
                return np.expm1(output)
            return output if name == "rating" else np.float32(1) / (np.float32(1) + np.exp(-output))


def _array(values: torch.Tensor) -> FloatArray:
    return np.array(values.detach().cpu().numpy(), order="C")  # a copy: the trained weights may go on changing


@reordered_kernel
def _rectify(rows: Int32Array, request_part: FloatArray, item_part: FloatArray, hidden: FloatArray) -> None:
    """hidden ← relu(hidden + request_part + item_part[rows])."""
    width = rows.shape[1]
    for request in range(rows.shape[0]):
        own = request_part[request]
        for column in range(min(AHEAD, width)):
            prefetch(item_part, rows[request, column])
        for column in range(width):
            if column + AHEAD < width:
                prefetch(item_part, rows[request, column + AHEAD])
            line, item = hidden[request * width + column], item_part[max(rows[request, column], 0)]
            for place in range(len(own)):
                line[place] = max(line[place] + own[place] + item[place], np.float32(0))


@reordered_kernel
def _logits(rows: Int32Array, middle: FloatArray, offset: FloatArray, out: FloatArray, out_offset: float) -> FloatArray:
    """(B, K) out · relu(middle + offset) + out_offset, 0 where `rows` has a pad."""
    width = rows.shape[1]
    logits = np.zeros(rows.shape, np.float32)
    for request in range(rows.shape[0]):
        for column in range(width):
            if rows[request, column] < 0:
                continue
            line, logit = middle[request * width + column], np.float32(out_offset)
            for place in range(len(out)):
                logit += max(line[place] + offset[place], np.float32(0)) * out[place]
            logits[request, column] = logit
    return logits
