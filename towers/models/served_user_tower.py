"""The user tower as it is served: the vectors of `UserTower.forward` in evaluation, in a fraction of the operations.

Only the newest position is read, so no key and no value is ever computed: with one query a head, q · (W_k x) is
(W_kᵀ q) · x, and the weighted mean of values is the value of the weighted mean. Both matrices are multiplied out once.
Padded places cost nothing: the events of a batch lie one after the other.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from towers.compiled import kernel, reordered_kernel
from towers.features.histories import FloatArray, Int32Array, Int64Array, UInt8Array
from towers.features.requests import RequestArrays
from towers.models.encoders import SelfAttentionEncoder, _Block
from towers.models.user_tower import RequestTensors, UserTower

_CPU = torch.device("cpu")


class ServedTower(Protocol):
    """Embeds requests on the CPU, without gradients."""

    def embed(self, arrays: RequestArrays, item_vectors: FloatArray) -> FloatArray:
        """(B, D) unit vectors from B requests and the table (n, D) that their item rows name."""


def served_user_tower(tower: UserTower) -> ServedTower:
    """The compiled form where the tower has one: self-attention of one block. Any other runs as it was trained."""
    encoder = tower.encoder
    if isinstance(encoder, SelfAttentionEncoder) and len(encoder.blocks) == 1:
        return CompiledUserTower(tower, encoder)
    return EagerUserTower(tower)


class EagerUserTower:
    """The trained module itself."""

    def __init__(self, tower: UserTower) -> None:
        self._tower = tower.eval()

    def embed(self, arrays: RequestArrays, item_vectors: FloatArray) -> FloatArray:
        """(B, D) unit vectors."""
        events = item_vectors[np.maximum(arrays.item_row, 0)]  # (B, N, D)
        with torch.inference_mode():
            vectors: FloatArray = self._tower(RequestTensors.of(arrays, _CPU), torch.from_numpy(events)).numpy()
        return vectors


class CompiledUserTower:
    """A copy of the weights of a tower whose encoder is one block of self-attention."""

    def __init__(self, tower: UserTower, encoder: SelfAttentionEncoder) -> None:
        [block] = encoder.blocks
        assert isinstance(block, _Block)
        with torch.inference_mode():
            self._event_in = _array(tower.event_in.weight.T)
            self._event_type = _array(tower.event_type.weight + tower.event_in.bias)
            self._gap = _array(tower.gap.weight)
            self._position, self._distance = _order(encoder)
            self._norm_attention = _norm(block.norm_attention)
            self._ask, self._ask_offset, self._answer, self._answer_offset = _folded_attention(block)
            self._block_norm, self._block_mlp = _norm(block.norm_mlp), _Mlp(block.mlp)
            self._encoder_norm = _norm(encoder.norm)
            self._features = _array((tower.features.weight * tower.reads_feature).T)
            self._features_offset = _array(tower.features.bias)
            tables = [*tower.attributes, *tower.contexts]
            tables += [table for table in (tower.hour, tower.weekday, tower.user) if table is not None]
            weights = [torch.zeros(0, tower.event_in.in_features), *(table.weight for table in tables)]
            self._tables = _array(torch.cat(weights))  # one after the other
            self._reads_clock = tower.hour is not None
            self._table_begins = np.cumsum([0, *(table.num_embeddings for table in tables)])[:-1].astype(np.int64)
            self._reads_user = tower.user is not None
            self._norm, self._mlp = _norm(tower.norm), _Mlp(tower.mlp)

    def embed(self, arrays: RequestArrays, item_vectors: FloatArray) -> FloatArray:
        """(B, D) unit vectors."""
        offsets, vectors = _gather(arrays.item_row, item_vectors)
        events = vectors @ self._event_in  # (E, D), oldest first, request after request
        read = (arrays.item_row, arrays.event_type, arrays.gap_bucket)
        newest, normed_newest = _finish_events(
            *read, offsets, self._event_type, self._gap, self._position, *self._norm_attention, events
        )
        asked = normed_newest @ self._ask + self._ask_offset  # (B, heads · D)
        kept = newest + _attend(offsets, events, asked, self._distance) @ self._answer + self._answer_offset
        kept += self._block_mlp(_layer_norm(kept, *self._block_norm))
        total = arrays.feature @ self._features + self._features_offset
        _add_present(offsets, _layer_norm(kept, *self._encoder_norm), total)
        codes: list[NDArray[np.integer]] = [arrays.user_attribute, arrays.context]
        if self._reads_clock:
            codes += [arrays.hour[:, None], arrays.weekday[:, None]]
        if self._reads_user:
            codes.append(arrays.user_bucket[:, None])
        _add_rows(np.concatenate(codes, axis=1, dtype=np.int64), self._table_begins, self._tables, total)
        total = _layer_norm(total, *self._norm)
        return _unit(total + self._mlp(total))


class _Mlp:
    """Linear, GELU, linear."""

    def __init__(self, layers: nn.Module) -> None:
        assert isinstance(layers, nn.Sequential)
        first, _, second = layers
        assert isinstance(first, nn.Linear)
        assert isinstance(second, nn.Linear)
        self._first, self._first_offset = _array(first.weight.T), _array(first.bias)
        self._second, self._second_offset = _array(second.weight.T), _array(second.bias)

    def __call__(self, x: FloatArray) -> FloatArray:
        hidden: FloatArray = x @ self._first
        _gelu(self._first_offset, hidden)
        out: FloatArray = hidden @ self._second + self._second_offset
        return out


def _array(values: Tensor) -> FloatArray:
    return np.array(values.detach().cpu().numpy(), order="C")  # a copy: the trained weights may go on changing


def _norm(layer: nn.LayerNorm) -> tuple[FloatArray, FloatArray, float]:
    return _array(layer.weight), _array(layer.bias), layer.eps


def _order(encoder: SelfAttentionEncoder) -> tuple[FloatArray, FloatArray]:
    """The vector of each place (N, D) and the bias of each head and distance (H, N); zeros for what is not learned."""
    [block] = encoder.blocks
    assert isinstance(block, _Block)
    if encoder.position is not None:
        position = _array(encoder.position)
        return position, np.zeros((block.heads, len(position)), np.float32)
    assert encoder.distance is not None
    distance = _array(encoder.distance[0])
    return np.zeros((distance.shape[1], block.query.in_features), np.float32), distance


def _folded_attention(block: _Block) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """The two products of the module's docstring, for all heads: (D, H · D), (H · D,), (H · D, D), (D,).

    A key's bias adds the same to all scores of a query and falls out of the softmax; weights sum to 1, so the values'
    bias passes through.
    """
    dimension, heads = block.query.in_features, block.heads
    key, value = block.key_value.weight.chunk(2)  # (D, D) each
    value_bias = block.key_value.bias.chunk(2)[1]
    ask, ask_offset, answer = [], [], []
    for rows in torch.arange(dimension).chunk(heads):
        scaled = key[rows].T / math.sqrt(dimension // heads)  # (D, D / H)
        ask.append(scaled @ block.query.weight[rows])
        ask_offset.append(scaled @ block.query.bias[rows])
        answer.append(block.out.weight[:, rows] @ value[rows])
    return (
        _array(torch.cat(ask).T),
        _array(torch.cat(ask_offset)),
        _array(torch.cat(answer, dim=1).T),
        _array(block.out.weight @ value_bias + block.out.bias),
    )


@kernel
def _gather(item_row: Int32Array, item_vectors: FloatArray) -> tuple[Int64Array, FloatArray]:
    """Where each request's events begin (B + 1,), and their vectors (E, D), oldest first."""
    request_count, length = item_row.shape
    offsets = np.zeros(request_count + 1, np.int64)
    for request in range(request_count):
        present = 0
        for column in range(length):
            present += item_row[request, column] >= 0
        offsets[request + 1] = offsets[request] + present
    vectors = np.empty((offsets[request_count], item_vectors.shape[1]), np.float32)
    event = 0
    for request in range(request_count):
        for column in range(length - (offsets[request + 1] - offsets[request]), length):
            row = item_row[request, column]
            for place in range(vectors.shape[1]):
                vectors[event, place] = item_vectors[row, place]
            event += 1
    return offsets, vectors


@reordered_kernel
def _finish_events(
    item_row: Int32Array,
    event_type: UInt8Array,
    gap_bucket: Int64Array,
    offsets: Int64Array,
    type_table: FloatArray,
    gap_table: FloatArray,
    position: FloatArray,
    weight: FloatArray,
    bias: FloatArray,
    eps: float,
    events: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Adds type, gap and position to `events` (E, D) and normalises them in place.

    Returns the newest event of each request (B, D) before and after normalisation; zeros where there is none.
    """
    request_count, length = item_row.shape
    dimension = events.shape[1]
    newest = np.zeros((request_count, dimension), np.float32)
    normed = np.zeros((request_count, dimension), np.float32)
    for request in range(request_count):
        column = length - (offsets[request + 1] - offsets[request])
        for event in range(offsets[request], offsets[request + 1]):
            line = events[event]
            kind, gap = type_table[event_type[request, column]], gap_table[gap_bucket[request, column]]
            place_vector = position[column]
            for place in range(dimension):
                line[place] += kind[place] + gap[place] + place_vector[place]
            if column == length - 1:
                for place in range(dimension):
                    newest[request, place] = line[place]
            _normalise(line, weight, bias, eps)
            if column == length - 1:
                for place in range(dimension):
                    normed[request, place] = line[place]
            column += 1
    return newest, normed


@reordered_kernel
def _normalise(line: FloatArray, weight: FloatArray, bias: FloatArray, eps: float) -> None:
    """Layer norm of one vector, in place."""
    mean, variance = np.float32(0), np.float32(0)
    for place in range(len(line)):
        mean += line[place]
    mean /= np.float32(len(line))
    for place in range(len(line)):
        variance += (line[place] - mean) * (line[place] - mean)
    scale = np.float32(1 / math.sqrt(variance / len(line) + eps))
    for place in range(len(line)):
        line[place] = (line[place] - mean) * scale * weight[place] + bias[place]


@reordered_kernel
def _layer_norm(x: FloatArray, weight: FloatArray, bias: FloatArray, eps: float) -> FloatArray:
    out = x.copy()
    for row in range(len(out)):
        _normalise(out[row], weight, bias, eps)
    return out


@reordered_kernel
def _attend(offsets: Int64Array, events: FloatArray, asked: FloatArray, distance: FloatArray) -> FloatArray:
    """(B, H · D) for each head the mean of the events (E, D), weighted by softmax of their product with `asked`.

    `distance` (H, N) is added by how many events are newer.
    """
    dimension = events.shape[1]
    head_count = asked.shape[1] // dimension
    longest = 0
    for request in range(len(asked)):
        longest = max(longest, offsets[request + 1] - offsets[request])
    weights = np.empty(longest, np.float32)
    out = np.zeros(asked.shape, np.float32)
    for request in range(len(asked)):
        begin, count = offsets[request], offsets[request + 1] - offsets[request]
        if count == 0:
            continue
        for head in range(head_count):
            question = asked[request, head * dimension : (head + 1) * dimension]
            highest = np.float32(-np.inf)
            for event in range(count):
                line, score = events[begin + event], distance[head, count - 1 - event]
                for place in range(dimension):
                    score += question[place] * line[place]
                weights[event] = score
                highest = max(highest, score)
            total = np.float32(0)
            for event in range(count):
                weights[event] = np.exp(weights[event] - highest)
                total += weights[event]
            mean = out[request, head * dimension : (head + 1) * dimension]
            for event in range(count):
                line, share = events[begin + event], weights[event] / total
                for place in range(dimension):
                    mean[place] += share * line[place]
    return out


# The error function as x · N(x²) / D(x²) on [-4, 4], beyond which float32 rounds it to ±1.
_ERF_ABOVE = np.array(
    [
        -2.72614225801306e-10,
        2.77068142495902e-08,
        -2.10102402082508e-06,
        -5.69250639462346e-05,
        -7.34990630326855e-04,
        -2.95459980854025e-03,
        -1.60960333262415e-02,
    ],
    np.float32,
)
_ERF_BELOW = np.array(
    [-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03, -1.42647390514189e-02],
    np.float32,
)
_ROOT_HALF = np.float32(math.sqrt(0.5))


@reordered_kernel
def _gelu(offset: FloatArray, x: FloatArray) -> None:
    """x ← GELU(x + offset) = value · (1 + erf(value / √2)) / 2."""
    for row in range(x.shape[0]):
        line = x[row]
        for place in range(len(line)):
            value = line[place] + offset[place]
            bounded = min(max(value * _ROOT_HALF, np.float32(-4)), np.float32(4))
            square = bounded * bounded
            above, below = _ERF_ABOVE[0], _ERF_BELOW[0]
            for power in range(1, 7):
                above = above * square + _ERF_ABOVE[power]
            for power in range(1, 5):
                below = below * square + _ERF_BELOW[power]
            line[place] = np.float32(0.5) * value * (np.float32(1) + bounded * above / below)


@reordered_kernel
def _add_present(offsets: Int64Array, encoded: FloatArray, total: FloatArray) -> None:
    """What the events say, where there are any."""
    for request in range(len(total)):
        if offsets[request + 1] > offsets[request]:
            for place in range(total.shape[1]):
                total[request, place] += encoded[request, place]


@reordered_kernel
def _add_rows(codes: Int64Array, begins: Int64Array, tables: FloatArray, total: FloatArray) -> None:
    """Adds for each column of `codes` (B, C) the row that it names in that column's table."""
    for request in range(codes.shape[0]):
        for column in range(codes.shape[1]):
            row = begins[column] + codes[request, column]
            for place in range(total.shape[1]):
                total[request, place] += tables[row, place]


@reordered_kernel
def _unit(x: FloatArray) -> FloatArray:
    out = np.empty_like(x)
    for row in range(len(x)):
        square = np.float32(0)
        for place in range(x.shape[1]):
            square += x[row, place] * x[row, place]
        length = max(np.float32(math.sqrt(square)), np.float32(1e-12))
        for place in range(x.shape[1]):
            out[row, place] = x[row, place] / length
    return out
