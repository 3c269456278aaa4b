"""Implicit-feedback matrix factorisation by alternating least squares (Hu, Koren, Volinsky 2008), with `implicit`."""

from __future__ import annotations

import numpy as np
from implicit.als import AlternatingLeastSquares
from threadpoolctl import threadpool_limits

from towers.features.histories import FloatArray
from towers.sources.fits.shoppers import all_histories, matrix_of
from towers.sources.folded_factors import FoldedFactors, FoldIn
from towers.sources.log import SourceLog
from towers.sources.settings import AlsSettings

_THREAD_COUNT = 2


def fit_als(log: SourceLog, settings: AlsSettings, seed: int) -> FoldedFactors:
    """Item vectors whose shoppers are folded in as the last half step would; the same for the same log and seed."""
    fold_in = FoldIn(settings.confidence, settings.counts, settings.profile)
    confidences = matrix_of(fold_in.own(all_histories(log), log.item_count), log.item_count)
    confidences.data += 1  # implicit's entries are the whole confidence, ours what is added to everybody's 1
    with threadpool_limits(limits=1, user_api="blas"):  # implicit runs threads of its own, and warns of BLAS's
        model = AlternatingLeastSquares(
            factors=settings.dimension,
            alpha=1.0,
            regularization=settings.regularization,
            iterations=settings.iterations,
            random_state=seed,
            num_threads=_THREAD_COUNT,
            use_gpu=False,
        )
        model.fit(confidences, show_progress=False)
    items = np.ascontiguousarray(model.item_factors, np.float32)
    return FoldedFactors(items, gram_of(items, settings.regularization), fold_in)


def gram_of(items: FloatArray, regularization: float) -> FloatArray:
    """(D, D) YᵀY + λI of Y (n, D)."""
    exact = items.astype(np.float64)
    return (exact.T @ exact + regularization * np.eye(items.shape[1])).astype(np.float32)
