"""LightGCN (He et al. 2020) of items alone: their vectors are learned through propagation over users and items.

With R̃ = D_u^-½ R D_i^-½ and P = R̃ᵀR̃ the item vectors are Z = mean of E, PE, P²E …; a user is the sum of R̃ Z over their
items. Users have no vectors of their own, so that a shopper who asks is treated as those of the log were. The loss is a
sampled softmax of each of a user's items against drawn ones, the user without that item (which is what is to be found).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor
from torch.nn import functional

from towers.features.histories import FloatArray, Int64Array
from towers.sources.factors import ItemFactors
from towers.sources.fits.graph_filter import normalised_graph, power
from towers.sources.fits.shoppers import newest_items
from towers.sources.log import SourceLog
from towers.sources.settings import LightGcnSettings

_START_DEVIATION = 0.1
_HELD_OUT_USERS_MAX = 5_000
_JUDGED_AT = 20
_USERS_AT_ONCE = 256


def fit_light_gcn(log: SourceLog, settings: LightGcnSettings, seed: int) -> ItemFactors:
    """Epochs until the recall of one held-out item of some users no longer rises; the best epoch's vectors."""
    matrix = newest_items(log, settings.profile.items_max)
    random = np.random.default_rng(seed)
    rest, users, targets = _held_out(matrix, random)
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(log.item_count, settings.dimension, generator=generator) * _START_DEVIATION
    best = start
    if rest.nnz and rest.shape[1] > 1:
        graph, embedding = Graph.of(rest), start.clone().requires_grad_()
        optimizer = torch.optim.Adam([embedding], lr=settings.learning_rate)
        best_recall, waited = -1.0, 0
        for _ in range(settings.epochs_max):
            _pass_over(graph, embedding, optimizer, settings, random)
            recall = _recall(graph, rest, users, targets, embedding.detach(), settings.layers)
            if recall > best_recall:
                best, best_recall, waited = embedding.detach().clone(), recall, 0
            else:
                waited += 1
                if waited > settings.patience:
                    break
    whole = Graph.of(matrix)
    vectors = whole.propagated(best, settings.layers)
    known = np.asarray(matrix.sum(axis=0)).ravel() > 0
    items = np.where(known[:, None], vectors.numpy(), 0).astype(np.float32)
    return ItemFactors(items * whole.item_scale.numpy()[:, None], items, settings.profile)


@dataclass(frozen=True)
class Graph:
    """R̃ (U, n) and its transpose, both sparse; the entries as (user, item, R̃) columns; D_i^-½ (n,)."""

    forward: csr_matrix
    backward: csr_matrix
    user: Int64Array
    item: Int64Array
    value: FloatArray
    item_scale: Tensor

    @classmethod
    def of(cls, matrix: csr_matrix) -> Graph:
        """Of weights (U, n)."""
        normalised, items = normalised_graph(matrix)
        user = np.repeat(np.arange(normalised.shape[0], dtype=np.int64), np.diff(normalised.indptr))
        return cls(
            normalised,
            normalised.T.tocsr(),
            user,
            normalised.indices.astype(np.int64),
            normalised.data.astype(np.float32),
            torch.from_numpy(power(items, -0.5)),
        )

    def propagated(self, embedding: Tensor, layers: int) -> Tensor:
        """Z (n, D), the mean of `layers` + 1 levels of E (n, D)."""
        level = total = embedding
        for _ in range(layers):
            users = _product(self.forward, self.backward, level)
            level = _product(self.backward, self.forward, users)
            total = total + level
        return total / (layers + 1)

    def users(self, items: Tensor) -> Tensor:
        """(U, D) R̃ Z."""
        return _product(self.forward, self.backward, items)


def _product(matrix: csr_matrix, transposed: csr_matrix, dense: Tensor) -> Tensor:
    product: Tensor = _Product.apply(matrix, transposed, dense)  # type: ignore[no-untyped-call]
    return product


class _Product(torch.autograd.Function):
    """A @ x of a sparse A whose transpose is at hand, so that the gradient is a product as well."""

    @staticmethod
    def forward(context: Any, matrix: csr_matrix, transposed: csr_matrix, dense: Tensor) -> Tensor:
        """A @ x."""
        context.transposed = transposed
        return torch.from_numpy(matrix @ dense.numpy())

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[None, None, Tensor]:
        """Aᵀ @ g."""
        return None, None, torch.from_numpy(context.transposed @ gradient.numpy())


def _pass_over(
    graph: Graph,
    embedding: Tensor,
    optimizer: torch.optim.Optimizer,
    settings: LightGcnSettings,
    random: np.random.Generator,
) -> None:
    """All of the graph's entries once, in random order."""
    order = random.permutation(len(graph.user))
    for begin in range(0, len(order), settings.batch_size):
        batch = order[begin : begin + settings.batch_size]
        drawn = torch.from_numpy(random.integers(0, len(embedding), settings.negatives))
        loss = _loss(graph, embedding, batch, drawn, settings)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _loss(
    graph: Graph, embedding: Tensor, batch: NDArray[np.int64], drawn: Tensor, settings: LightGcnSettings
) -> Tensor:
    """Mean of -log softmax of the items of `batch` (B,) among themselves and `drawn` (N,), as seen by their users."""
    vectors = graph.propagated(embedding, settings.layers)
    user, item = torch.from_numpy(graph.user[batch]), torch.from_numpy(graph.item[batch])
    own = functional.embedding(item, vectors)  # (B, D)
    value = torch.from_numpy(graph.value[batch])[:, None]
    shopper = functional.embedding(user, graph.users(vectors)) - value * own
    shopper = functional.normalize(shopper, dim=1)
    positive = (shopper * own).sum(dim=1, keepdim=True)  # (B, 1)
    negative = shopper @ functional.embedding(drawn, vectors).T  # (B, N)
    negative = negative.masked_fill(item[:, None] == drawn, -torch.inf)
    logits = torch.cat([positive, negative], dim=1) / settings.temperature
    loss = functional.cross_entropy(logits, torch.zeros(len(batch), dtype=torch.int64))
    return loss + settings.regularization * own.square().sum(dim=1).mean()


def _held_out(matrix: csr_matrix, random: np.random.Generator) -> tuple[csr_matrix, Int64Array, Int64Array]:
    """The matrix without one random item of some users who have at least two, those users, and these items."""
    lengths = np.diff(matrix.indptr)
    able = np.flatnonzero(lengths > 1)
    users = np.sort(random.permutation(able)[: min(_HELD_OUT_USERS_MAX, len(able) // 5)])
    places = matrix.indptr[users] + random.integers(0, lengths[users])
    rest = matrix.copy()
    targets = rest.indices[places].astype(np.int64)
    rest.data[places] = 0
    rest.eliminate_zeros()
    return rest, users, targets


@torch.no_grad()
def _recall(
    graph: Graph, rest: csr_matrix, users: Int64Array, targets: Int64Array, embedding: Tensor, layers: int
) -> float:
    """Share of the users whose held-out item is among the best of what they do not have."""
    if len(users) == 0:
        return 0.0
    vectors = graph.propagated(embedding, layers)
    shoppers, found = graph.users(vectors), 0
    for begin in range(0, len(users), _USERS_AT_ONCE):
        block, wanted = users[begin : begin + _USERS_AT_ONCE], targets[begin : begin + _USERS_AT_ONCE]
        scores = (shoppers[block] @ vectors.T).numpy()  # (B, n)
        own = rest[block]
        scores[np.repeat(np.arange(len(block)), np.diff(own.indptr)), own.indices] = -np.inf
        target = scores[np.arange(len(block)), wanted]
        found += int(((scores > target[:, None]).sum(axis=1) < _JUDGED_AT).sum())
    return found / len(users)
