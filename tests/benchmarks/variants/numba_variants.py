"""What the engine runs: the product's own compiled kernels around BLAS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.variants.recorded import BATCH_SIZE, Recorded
from tests.benchmarks.variants.variant import Part, Run, Variant
from towers.features.histories import FloatArray
from towers.features.requests import RequestArrays
from towers.models.served_ranker import ServedRanker
from towers.models.served_user_tower import served_user_tower

_ROWS = ("item_row", "user_bucket", "user_attribute", "context")


class CompiledKernels(Variant):
    """numba and BLAS; kernels are compiled once for a machine and kept on disk. They gather by themselves."""

    name = "compiled with numba"

    def prepare(self, part: Part, recorded: Recorded, directory: Path) -> None:
        run, requests = self.load(part, recorded, directory), slice(0, BATCH_SIZE)
        run(*self.inputs(part, recorded, requests, recorded.vectors[requests]))  # compiles into the cache

    def load(self, part: Part, recorded: Recorded, directory: Path) -> Run:
        if part is Part.RANKER:
            ranker = ServedRanker(recorded.model.ranker)
            return lambda request, rows, pairs: ranker.scores(request, recorded.item_part, rows, pairs)
        tower = served_user_tower(recorded.model.user_tower)
        types = dict.fromkeys(_ROWS, np.int32) | {"event_type": np.uint8}  # as the engine's features come
        self._columns = [values.astype(types.get(name, values.dtype)) for name, values in recorded.tower.items()]
        return lambda *arrays: tower.embed(RequestArrays(*arrays), recorded.item_vectors)

    def inputs(self, part: Part, recorded: Recorded, requests: slice, vectors: FloatArray) -> tuple[NDArray[Any], ...]:
        if part is Part.RANKER:
            return recorded.requests(requests, vectors), recorded.rows[requests], recorded.pairs[requests]
        return tuple(column[requests] for column in self._columns)
