"""The ranker as it is served: the split form of `Ranker.logits`, two matrix products and two compiled loops.

Standardisation is folded into the weights once, so a candidate costs a gather, a sum and a rectifier around BLAS.
"""

from __future__ import annotations

import numpy as np
import torch

from towers.compiled import reordered_kernel
from towers.features.histories import FloatArray, Int32Array
from towers.models.ranker import Ranker


class ServedRanker:
    """A copy of a trained ranker's weights; equals `sigmoid(Ranker.logits)` up to the order of sums."""

    def __init__(self, ranker: Ranker) -> None:
        with torch.inference_mode():
            request = ranker.from_request.weight * ranker.request_scale  # (H, R)
            pair = ranker.from_pair.weight * ranker.pair_scale  # (H, P)
            offset = ranker.from_request.bias - request @ ranker.request_mean - pair @ ranker.pair_mean
            self._request, self._offset = _array(request.T), _array(offset)
            self._pair = _array(pair.T)  # (P, H)
            self._middle, self._middle_offset = _array(ranker.middle.weight.T), _array(ranker.middle.bias)  # (H, H')
            slope, shift = ranker.calibration.tolist()
            self._out = _array(ranker.out.weight[0]) * np.float32(slope)
            self._out_offset = float(ranker.out.bias) * slope + shift

    def scores(self, request: FloatArray, item_part: FloatArray, rows: Int32Array, pairs: FloatArray) -> FloatArray:
        """Calibrated probabilities (B, K), -1 where `rows` is.

        Args:
            request: (B, R) as `request_inputs`.
            item_part: (n, H) the generation's.
            rows: (B, K) candidates, -1 pads.
            pairs: (B, K, P) as `pair_inputs`.
        """
        hidden: FloatArray = pairs.reshape(-1, pairs.shape[2]) @ self._pair  # (B · K, H)
        _rectify(rows, request @ self._request + self._offset, item_part, hidden)
        logits = _logits(rows, hidden @ self._middle, self._middle_offset, self._out, self._out_offset)
        with np.errstate(over="ignore"):  # far below 0 the exponential is infinite, and the probability 0
            scores: FloatArray = np.float32(1) / (np.float32(1) + np.exp(-logits))
        scores[rows < 0] = -1
        return scores


def _array(values: torch.Tensor) -> FloatArray:
    return np.array(values.detach().cpu().numpy(), order="C")  # a copy: the trained weights may go on changing


@reordered_kernel
def _rectify(rows: Int32Array, request_part: FloatArray, item_part: FloatArray, hidden: FloatArray) -> None:
    """hidden ← relu(hidden + request_part + item_part[rows])."""
    width = rows.shape[1]
    for request in range(rows.shape[0]):
        own = request_part[request]
        for column in range(width):
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
