"""Variants that ONNX Runtime runs on one thread: float32, and int8 with ranges found before or while it runs."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tests.benchmarks.variants.recorded import BATCH_SIZE, Recorded
from tests.benchmarks.variants.torch_variants import CALIBRATION_REQUESTS
from tests.benchmarks.variants.variant import Part, Run, Unavailable, Variant, example, graph_of

_FLOAT_FILE, _SERVED_FILE = "float.onnx", "served.onnx"


class OnnxFloat32(Variant):
    """ONNX Runtime as it comes, all graph optimisations on."""

    name = "ONNX Runtime, float32"

    def prepare(self, part: Part, recorded: Recorded, directory: Path) -> None:
        self._export(part, recorded, directory / _SERVED_FILE)

    def load(self, part: Part, recorded: Recorded, directory: Path) -> Run:
        try:
            import onnxruntime
        except ImportError as error:
            raise Unavailable("onnxruntime is not installed") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            str(directory / _SERVED_FILE), options, providers=["CPUExecutionProvider"]
        )
        kept = [(place, entry.name) for place, entry in _read_inputs(session)]

        def run(*arrays: NDArray[Any]) -> NDArray[Any]:
            found: NDArray[Any] = session.run(None, {name: arrays[place] for place, name in kept})[0]
            return found

        return run

    def _export(self, part: Part, recorded: Recorded, file: Path) -> None:
        try:
            import onnxscript  # noqa: F401
        except ImportError as error:
            raise Unavailable("onnxscript is not installed") from error
        tensors = example(self, part, recorded)
        names = [f"input_{place}" for place in range(len(tensors))]
        batch = torch.export.Dim("batch", min=1, max=64)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                graph_of(part, recorded),
                tensors,
                str(file),
                input_names=names,
                dynamic_shapes=tuple({0: batch} for _ in tensors),
                dynamo=True,
                external_data=False,
            )


class OnnxStaticInt8(OnnxFloat32):
    """Matrix products in int8 (QDQ, weights by channel), ranges from calibration requests."""

    name = "ONNX Runtime, int8 static"

    def prepare(self, part: Part, recorded: Recorded, directory: Path) -> None:
        from onnxruntime import quantization

        ready = self._ready(part, recorded, directory)
        quantization.quantize_static(
            ready,
            directory / _SERVED_FILE,
            _Calibration(self, part, recorded, str(ready)),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            op_types_to_quantize=["MatMul", "Gemm"],
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )

    def _ready(self, part: Part, recorded: Recorded, directory: Path) -> Path:
        """The float32 file, with shapes inferred and constants folded, as the quantizer wants it."""
        from onnxruntime.quantization.shape_inference import quant_pre_process

        logging.getLogger().setLevel(logging.ERROR)
        self._export(part, recorded, directory / _FLOAT_FILE)
        ready = directory / f"ready-{_FLOAT_FILE}"
        quant_pre_process(directory / _FLOAT_FILE, ready, skip_symbolic_shape=True)
        return ready


class OnnxDynamicInt8(OnnxStaticInt8):
    """Matrix products in int8, activations measured batch by batch; so an answer depends a little on its batch."""

    name = "ONNX Runtime, int8 dynamic"

    def prepare(self, part: Part, recorded: Recorded, directory: Path) -> None:
        import onnx
        from onnxruntime import quantization

        model = onnx.load(self._ready(part, recorded, directory))
        del model.graph.value_info[:]  # shapes of the float graph, which no longer fit once weights are transposed
        quantization.quantize_dynamic(
            model,
            directory / _SERVED_FILE,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            weight_type=quantization.QuantType.QInt8,
        )


class _Calibration:
    """Batches of recorded requests under the names that the graph has kept."""

    def __init__(self, variant: Variant, part: Part, recorded: Recorded, file: str) -> None:
        import onnxruntime

        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        names = list(_read_inputs(session))
        starts = range(0, CALIBRATION_REQUESTS, BATCH_SIZE)
        slices = [slice(start, start + BATCH_SIZE) for start in starts]
        batches = [variant.inputs(part, recorded, requests, recorded.vectors[requests]) for requests in slices]
        self._left = iter([{entry.name: np.ascontiguousarray(b[place]) for place, entry in names} for b in batches])

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The next batch, None at the end."""
        return next(self._left, None)


def _read_inputs(session: Any) -> list[tuple[int, Any]]:
    """The graph's inputs with their places; the exporter drops those that the graph does not read."""
    return [(int(entry.name.removeprefix("input_")), entry) for entry in session.get_inputs()]
