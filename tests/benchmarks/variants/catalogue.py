"""The variants in the order of the table's rows. A new one is a class with `load`, and a line here."""

from __future__ import annotations

from tests.benchmarks.variants.numba_variants import CompiledKernels
from tests.benchmarks.variants.onnx_variants import OnnxDynamicInt8, OnnxFloat32, OnnxStaticInt8
from tests.benchmarks.variants.torch_variants import (
    AheadOfTime,
    BFloat16,
    Compiled,
    DynamicInt8,
    Eager,
    EagerUnsplit,
    Float16Storage,
    StaticInt8,
)
from tests.benchmarks.variants.variant import Variant

VARIANTS: tuple[Variant, ...] = (
    EagerUnsplit(),
    Eager(),
    CompiledKernels(),
    Compiled(),
    AheadOfTime(),
    OnnxFloat32(),
    OnnxStaticInt8(),
    OnnxDynamicInt8(),
    StaticInt8(),
    DynamicInt8(),
    BFloat16(),
    Float16Storage(),
)
