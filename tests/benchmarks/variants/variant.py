"""What a variant of a model is: prepared once when a generation is built, loaded when a worker starts, then asked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.benchmarks.variants.modules import SplitRankerGraph, TowerGraph, UnsplitRankerGraph
from tests.benchmarks.variants.recorded import BATCH_SIZE, TOWER_INPUTS, Recorded
from towers.features.histories import FloatArray

BATCH_SIZE_MAX = 64


class Part(StrEnum):
    """The model's parts, which are measured each by itself."""

    TOWER = "user tower"
    RANKER = "ranker"


class Unavailable(RuntimeError):
    """The variant cannot run here; the message says why, and stands in the table."""


Run = Callable[..., NDArray[Any]]
"""Numpy arrays in, in the graph's order, and one out."""


class Variant(ABC):
    """One way to compute a part. `inputs` may be overridden where another layout is read."""

    name: str
    parts: tuple[Part, ...] = (Part.TOWER, Part.RANKER)

    def prepare(self, part: Part, recorded: Recorded, directory: Path) -> None:
        """What a rebuild would do once; leaves files in the directory. Raises Unavailable."""
        del part, recorded, directory  # most variants need nothing

    @abstractmethod
    def load(self, part: Part, recorded: Recorded, directory: Path) -> Run:
        """What each worker does when it starts. Raises Unavailable."""

    def inputs(self, part: Part, recorded: Recorded, requests: slice, vectors: FloatArray) -> tuple[NDArray[Any], ...]:
        """The arrays of some requests, gathered anew; `vectors` (B, D) are what the user tower gave for them."""
        if part is Part.TOWER:
            return (*(recorded.tower[name][requests] for name in TOWER_INPUTS), recorded.event_vectors(requests))
        return recorded.requests(requests, vectors), recorded.item_parts(requests), recorded.pairs[requests]


def graph_of(part: Part, recorded: Recorded) -> nn.Module:
    """The part as a graph in float32."""
    model = recorded.model
    return (TowerGraph(model.user_tower) if part is Part.TOWER else SplitRankerGraph(model.ranker)).eval()


def unsplit_graph(recorded: Recorded) -> nn.Module:
    """The ranker as it was trained."""
    return UnsplitRankerGraph(recorded.model.ranker).eval()


def example(variant: Variant, part: Part, recorded: Recorded) -> tuple[Tensor, ...]:
    """One batch as tensors, for compilers that trace."""
    requests = slice(0, BATCH_SIZE)
    return tuple(
        torch.from_numpy(array) for array in variant.inputs(part, recorded, requests, recorded.vectors[requests])
    )


def eager(module: Callable[..., Tensor]) -> Run:
    """Runs a module, or what was compiled of it, on numpy arrays."""

    def run(*arrays: NDArray[Any]) -> NDArray[Any]:
        with torch.inference_mode():
            found: NDArray[Any] = module(*map(torch.from_numpy, arrays)).numpy()
            return found

    return run


def in_type(module: nn.Module, dtype: torch.dtype) -> Run:
    """Runs a module with weights and floating inputs of another type; the answer is float32."""
    narrow = module.to(dtype)

    def run(*arrays: NDArray[Any]) -> NDArray[Any]:
        tensors = [torch.from_numpy(array) for array in arrays]
        with torch.inference_mode():
            answer: NDArray[np.float32] = (
                narrow(*(tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in tensors))
                .float()
                .numpy()
            )
            return answer

    return run
