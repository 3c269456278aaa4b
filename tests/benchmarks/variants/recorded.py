"""Real requests of a workload, recorded once: what the user tower and the ranker read of them, and what they answer.

Every request is laid out to one width of candidates, so that a variant that is compiled for fixed sizes can run them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from index.generation import open_generation
from index.generation.pointer import current_id
from index.mapped_tensors import open_tensors
from tests.benchmarks.plain import PlainPipeline
from tests.benchmarks.workloads import generations_root
from towers.features.histories import FloatArray, Int32Array
from towers.model import MODEL_FILE, RANKER_FILE, TOWERS_FILE, TrainedModel, model_from_files
from towers.models.user_tower import RequestTensors
from towers.ranking import pair_input_names
from towers.snapshot import ITEMS_FILE

BATCH_SIZE = 32
TOWER_INPUTS = tuple(field.name for field in fields(RequestTensors))
_MODULE_FILES = (MODEL_FILE, TOWERS_FILE, RANKER_FILE)


@dataclass(frozen=True)
class Recorded:
    """n requests of one generation, K candidates each; float32 unless it says otherwise.

    Attributes:
        model: the trained modules.
        item_vectors, item_statistics, item_part: (items, …) as the generation keeps them, memory-mapped.
        tower: the user tower's inputs by the names of `RequestTensors`, each (n, …).
        rows: (n, K) int32, -1 pads. pairs: (n, K, P).
        vectors: (n, D) and scores: (n, K), -1 at pads: what eager float32 makes of them.
    """

    model: TrainedModel
    item_vectors: FloatArray
    item_statistics: FloatArray
    item_part: FloatArray
    tower: dict[str, NDArray[Any]]
    rows: Int32Array
    pairs: FloatArray
    vectors: FloatArray
    scores: FloatArray

    def __len__(self) -> int:
        return len(self.rows)

    def tower_tensors(self, part: slice) -> RequestTensors:
        """The user tower's inputs of some requests."""
        return RequestTensors(**{name: torch.from_numpy(values[part]) for name, values in self.tower.items()})

    def event_vectors(self, part: slice) -> FloatArray:
        """(B, N, D) the vectors of their newest events, gathered anew as a server must."""
        vectors: FloatArray = self.item_vectors[np.maximum(self.tower["item_row"][part], 0)]
        return vectors

    def requests(self, part: slice, vectors: FloatArray) -> FloatArray:
        """(B, D + R) what the ranker reads of the requests themselves."""
        return np.concatenate([vectors, self.tower["feature"][part]], axis=1)

    def item_parts(self, part: slice) -> FloatArray:
        """(B, K, H) gathered anew as a server must."""
        return self.item_part[np.maximum(self.rows[part], 0)]

    @property
    def similarity_column(self) -> int:
        """Which of the P columns is the inner product of user and item."""
        return pair_input_names(self.model.settings.features.affinity_attributes).index("similarity")


def record(workload: str, request_count: int, file: Path) -> None:
    """Asks the plain pipeline for the first users and keeps what it saw."""
    root = generations_root(workload)
    pipeline = PlainPipeline.open(root)
    generation = open_generation(root, _current(root))
    metadata: Any = generation.manifest.metadata
    parts: list[dict[str, NDArray[Any]]] = []
    for user_ids in _batches(pipeline.user_ids(request_count)):
        embedded = pipeline.embed(user_ids, [float(metadata["as_of_s"])] * len(user_ids))
        candidates = pipeline.candidates(embedded)
        parts.append(
            {f"tower/{name}": getattr(embedded.tensors, name).numpy() for name in TOWER_INPUTS}
            | {
                "rows": candidates.rows,
                "pairs": pipeline.reference.pair_inputs(embedded, candidates),
                "vectors": embedded.vectors,
                "scores": pipeline.reference.score(embedded, candidates),
            }
        )
    width = max(part["rows"].shape[1] for part in parts)
    for part in parts:
        missing = (0, width - part["rows"].shape[1])
        part["rows"] = np.pad(part["rows"], ((0, 0), missing), constant_values=-1)
        part["pairs"] = np.pad(part["pairs"], ((0, 0), missing, (0, 0)))
        part["scores"] = np.pad(part["scores"], ((0, 0), missing), constant_values=-1)
    columns: dict[str, Any] = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    np.savez(file, **columns)


def read(workload: str, file: Path) -> Recorded:
    """What was recorded, with the generation's arrays mapped beside it."""
    root = generations_root(workload)
    directory = root / _current(root)  # its checksums were verified when the requests were recorded
    model = model_from_files({name: (directory / name).read_bytes() for name in _MODULE_FILES})
    items = open_tensors(directory / ITEMS_FILE)
    kept = dict(np.load(file))
    return Recorded(
        model=model,
        item_vectors=items["vectors"],
        item_statistics=items["statistics"],
        item_part=items["item_part"],
        tower={name: kept[f"tower/{name}"] for name in TOWER_INPUTS},
        **{name: kept[name] for name in ("rows", "pairs", "vectors", "scores")},
    )


def _current(root: Path) -> str:
    generation_id = current_id(root)
    assert generation_id is not None, f"no generation at {root}"
    return generation_id


def _batches(user_ids: Sequence[str]) -> list[Sequence[str]]:
    return [user_ids[start : start + BATCH_SIZE] for start in range(0, len(user_ids) - BATCH_SIZE + 1, BATCH_SIZE)]
