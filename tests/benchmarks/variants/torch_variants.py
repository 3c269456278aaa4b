"""Variants that torch runs: eager, compiled when a worker starts, compiled ahead, and in narrower numbers."""

from __future__ import annotations

import copy
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tests.benchmarks.variants.recorded import BATCH_SIZE, Recorded
from tests.benchmarks.variants.variant import (
    BATCH_SIZE_MAX,
    Part,
    Run,
    Unavailable,
    Variant,
    eager,
    example,
    graph_of,
    in_type,
    unsplit_graph,
)
from towers.features.histories import FloatArray

CALIBRATION_REQUESTS = 256


class EagerUnsplit(Variant):
    """What every other variant is compared with."""

    name = "eager torch, unsplit"
    parts = (Part.RANKER,)

    def load(self, part: Part, recorded: Recorded, directory: Path) -> Run:
        return eager(unsplit_graph(recorded))

    def inputs(self, part: Part, recorded: Recorded, requests: slice, vectors: FloatArray) -> tuple[NDArray[Any], ...]:
        rows = np.maximum(recorded.rows[requests], 0)
        item = np.concatenate([recorded.item_vectors[rows], recorded.item_statistics[rows]], axis=2)
        return recorded.requests(requests, vectors), item, recorded.pairs[requests]


class Eager(Variant):
    """The ranker with its per-item part stored."""

    name = "eager torch"

    def load(self, part: Part, recorded: Recorded, directory: Path) -> Run:
        return eager(graph_of(part, recorded))


class Compiled(Variant):
    """torch.compile: each worker compiles when it starts, for any batch size."""

    name = "torch.compile (inductor)"

    def load(self, part: Part, recorded: Recorded, directory: Path) -> Run:
        need_compiler()
        return eager(torch.compile(graph_of(part, recorded), dynamic=True))


class AheadOfTime(Variant):
    """AOTInductor: compiled once into a package that a worker loads."""

    name = "AOTInductor"

    def prepare(self, part: Part, recorded: Recorded, directory: Path) -> None:
        need_compiler()
        exported = exported_program(self, part, recorded)
        torch._inductor.aoti_compile_and_package(exported, package_path=str(directory / "package.pt2"))

    def load(self, part: Part, recorded: Recorded, directory: Path) -> Run:
        return eager(torch._inductor.aoti_load_package(str(directory / "package.pt2")))


class BFloat16(Variant):
    """Weights and activations in bfloat16; oneDNN has instructions for it where the processor has."""

    name = "eager torch, bfloat16"

    def load(self, part: Part, recorded: Recorded, directory: Path) -> Run:
        return in_type(graph_of(part, recorded), torch.bfloat16)


class Float16Storage(Variant):
    """The stored item part in float16, widened after the gather."""

    name = "eager torch, item part in float16"
    parts = (Part.RANKER,)

    def prepare(self, part: Part, recorded: Recorded, directory: Path) -> None:
        np.save(directory / "item_part.npy", recorded.item_part.astype(np.float16))

    def load(self, part: Part, recorded: Recorded, directory: Path) -> Run:
        graph = graph_of(part, recorded)
        self._stored = np.load(directory / "item_part.npy", mmap_mode="r").view(np.ndarray)

        def run(request: NDArray[Any], item_part: NDArray[Any], pair: NDArray[Any]) -> NDArray[Any]:
            tensors = (torch.from_numpy(request), torch.from_numpy(item_part).float(), torch.from_numpy(pair))
            with torch.inference_mode():
                scores: NDArray[Any] = graph(*tensors).numpy()
                return scores

        return run

    def inputs(self, part: Part, recorded: Recorded, requests: slice, vectors: FloatArray) -> tuple[NDArray[Any], ...]:
        item_part = self._stored[np.maximum(recorded.rows[requests], 0)]
        return recorded.requests(requests, vectors), item_part, recorded.pairs[requests]


class DynamicInt8(Variant):
    """Linear layers in int8, activations measured batch by batch; so an answer depends a little on its batch."""

    name = "torch int8, dynamic"

    def load(self, part: Part, recorded: Recorded, directory: Path) -> Run:
        quantization: Any = torch.ao.quantization
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return eager(quantization.quantize_dynamic(graph_of(part, recorded), {nn.Linear}, torch.qint8))


class StaticInt8(Variant):
    """Linear layers in int8 by ranges that calibration found; everything between them stays float32."""

    name = "torch int8, static"

    def load(self, part: Part, recorded: Recorded, directory: Path) -> Run:
        quantization: Any = torch.ao.quantization
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wrapped = copy.deepcopy(graph_of(part, recorded))
            _wrap_linear_layers(wrapped, quantization.QuantWrapper, quantization.get_default_qconfig("x86"))
            prepared = quantization.prepare(wrapped)
            watch = eager(prepared)
            for start in range(0, CALIBRATION_REQUESTS, BATCH_SIZE):
                requests = slice(start, start + BATCH_SIZE)
                watch(*self.inputs(part, recorded, requests, recorded.vectors[requests]))
            return eager(quantization.convert(prepared))


def _wrap_linear_layers(module: nn.Module, wrapper: Any, configuration: Any) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            wrapped = wrapper(child)
            wrapped.qconfig = configuration
            setattr(module, name, wrapped)
        else:
            _wrap_linear_layers(child, wrapper, configuration)


def need_compiler() -> None:
    """Raises Unavailable where inductor finds no C++ compiler."""
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        raise Unavailable("no C++ compiler on this machine; inductor needs one")


def exported_program(variant: Variant, part: Part, recorded: Recorded) -> torch.export.ExportedProgram:
    """The part's graph for any batch size up to BATCH_SIZE_MAX."""
    tensors = example(variant, part, recorded)
    batch = torch.export.Dim("batch", min=1, max=BATCH_SIZE_MAX)
    return torch.export.export(graph_of(part, recorded), tensors, dynamic_shapes=tuple({0: batch} for _ in tensors))
