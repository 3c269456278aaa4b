"""A closed-form filter on the graph of users and items: GF-CF (Shen et al. 2021), sharpened as BSPM (Choi et al. 2023).

With R̃ = D_u^-½ R D_i^-½ the items' graph is P = R̃ᵀR̃, whose eigenvalues λ lie in [0, 1]. GF-CF passes a shopper's row
through P and adds an ideal low-pass filter; BSPM then takes away what is blurred most. Both are functions of P, so one
response f(λ) says it all: on the D largest eigenvalues f(λ) = (λ + step) · exp(-sharpening · (λ - λ_D)), below them λ.
That is P + V (f - λ) Vᵀ, row by row, of which each item keeps the largest entries.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix, diags
from scipy.sparse.linalg import svds

from towers.compiled import kernel
from towers.features.histories import FloatArray, Int32Array, Int64Array
from towers.sources.fits.shoppers import newest_items
from towers.sources.item_lists import ItemLists
from towers.sources.log import SourceLog
from towers.sources.settings import GraphFilterSettings

_ROWS_AT_ONCE = 1_024
_DENSE_ITEMS_MAX = 1_000
_INT32_MAX = 2**31 - 1


def fit_graph_filter(log: SourceLog, settings: GraphFilterSettings, seed: int) -> ItemLists:
    """Each item's `neighbours` largest entries of the filter."""
    matrix = newest_items(log, settings.profile.items_max)
    normalised, items = normalised_graph(matrix)
    basis, response = _low_pass(normalised, settings, seed)
    rows, weights = _largest(
        normalised,
        basis,
        response,
        power(items, -settings.own_exponent),
        power(items, settings.popularity_exponent),
        settings.neighbours,
    )
    return ItemLists.of_top(rows, weights, settings.profile)


def normalised_graph(matrix: csr_matrix) -> tuple[csr_matrix, FloatArray]:
    """R̃ = D_u^-½ R D_i^-½ of weights R (U, n), float32, and the items' degrees (n,)."""
    users, items = _degrees(matrix, 1), _degrees(matrix, 0)
    normalised = (diags(power(users, -0.5)) @ matrix @ diags(power(items, -0.5))).tocsr().astype(np.float32)
    return normalised, items


def _degrees(matrix: csr_matrix, axis: int) -> FloatArray:
    return np.asarray(matrix.sum(axis=axis), np.float32).ravel()


def power(degree: FloatArray, exponent: float) -> FloatArray:
    """degree^exponent; 0 where nothing is."""
    out = np.zeros(len(degree), np.float32)
    out[degree > 0] = degree[degree > 0] ** np.float32(exponent)
    return out


def _low_pass(normalised: csr_matrix, settings: GraphFilterSettings, seed: int) -> tuple[FloatArray, FloatArray]:
    """V (n, D), the eigenvectors of the largest eigenvalues of P, and f(λ) - λ of each."""
    users, items = normalised.shape
    dimension = min(settings.dimension, items if items <= _DENSE_ITEMS_MAX else min(users, items) - 1)
    if dimension < 1 or normalised.nnz == 0:
        return np.zeros((items, 0), np.float32), np.zeros(0, np.float32)
    eigenvalue, basis = _largest_eigenpairs(normalised, dimension, seed)
    damped = np.exp(-settings.sharpening * (eigenvalue - eigenvalue.min()))
    response = (eigenvalue + settings.step) * damped - eigenvalue
    return np.ascontiguousarray(basis, np.float32), response.astype(np.float32)


def _largest_eigenpairs(normalised: csr_matrix, count: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """Of P = R̃ᵀR̃: λ (D,) and V (n, D). Few items by a dense solver, many by Lanczos' method."""
    if normalised.shape[1] <= _DENSE_ITEMS_MAX:
        exact = normalised.astype(np.float64)
        eigenvalue, basis = np.linalg.eigh((exact.T @ exact).toarray())
        return eigenvalue[-count:], basis[:, -count:]
    random = np.random.default_rng(seed)
    start = random.normal(size=min(normalised.shape)).astype(np.float32)
    _, singular, right = svds(normalised, k=count, v0=start, rng=random)
    return singular**2, right.T


def _largest(
    normalised: csr_matrix, basis: FloatArray, response: FloatArray, left: FloatArray, right: FloatArray, k: int
) -> tuple[Int32Array, FloatArray]:
    """(n, k) columns and values of the largest entries off the diagonal of left · (P + V h Vᵀ) · right.

    The best first, of equal ones the lowest columns; entries of 0 or less are left out: -1 and 0 pad.
    """
    count = len(left)
    k = min(k, max(count - 1, 0))
    transposed = normalised.T.tocsr()
    rows, weights = np.full((count, k), -1, np.int32), np.zeros((count, k), np.float32)
    for begin in range(0, count if k else 0, _ROWS_AT_ONCE):
        end = min(begin + _ROWS_AT_ONCE, count)
        block: FloatArray = ((basis[begin:end] * response) @ basis.T).astype(np.float32, copy=False)
        product = (transposed[begin:end] @ normalised).tocsr()
        _keep_largest(
            block,
            product.indptr.astype(np.int64),
            product.indices.astype(np.int32),
            product.data,
            begin,
            left,
            right,
            rows,
            weights,
        )
    return rows, weights


@kernel
def _keep_largest(
    block: FloatArray,
    offsets: Int64Array,
    columns: Int32Array,
    values: FloatArray,
    begin: int,
    left: FloatArray,
    right: FloatArray,
    rows: Int32Array,
    weights: FloatArray,
) -> None:
    """Writes `rows` and `weights` (n, k) from place `begin` on.

    `block` (B, n) lacks what `offsets`, `columns` and `values` add. A row is read once: what is above the least of the
    best so far is collected, and whenever room is short, all but the k best of it are dropped.
    """
    k, count = rows.shape[1], block.shape[1]
    value = np.empty(1, np.float32)
    bits = value.view(np.int32)  # of numbers above 0 these ascend as the numbers do
    keys = np.empty(8 * k, np.int64)
    for place in range(block.shape[0]):
        line = block[place]
        for at in range(offsets[place], offsets[place + 1]):
            line[columns[at]] += values[at]
        own, collected, least = begin + place, 0, np.float32(0)
        for column in range(count):
            value[0] = line[column] * right[column] * left[own]
            if value[0] > least and column != own:
                keys[collected] = (np.int64(_INT32_MAX - bits[0]) << 32) | column
                collected += 1
                if collected == len(keys):
                    keys[:k] = np.partition(keys, k - 1)[:k]
                    bits[0] = _INT32_MAX - (keys[:k].max() >> 32)
                    collected, least = k, value[0]
        best = np.sort(keys[:collected])
        for rank in range(min(k, collected)):
            rows[own, rank] = best[rank] & _INT32_MAX
            bits[0] = _INT32_MAX - (best[rank] >> 32)
            weights[own, rank] = value[0]
