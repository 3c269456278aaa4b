"""The demo's shop for the freshness benchmarks: a copy of its generations, and a server of several workers over it."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
from twinrank.v1 import recommendation_pb2 as pb
from twinrank.v1 import recommendation_pb2_grpc

from index.generation import open_generation
from index.generation.pointer import current_id
from index.item_ids import ItemIds
from server.fitness import USER_IDS_FILE
from tests.benchmarks.processes import ServerProcess, log_path, twinrank
from tests.benchmarks.workloads import DEMO_ROOT

WORKERS = 2
START_PATIENCE_S = 60.0
AS_OF_S = 1_512_086_400.0
"""1 December 2017: the demo's generation ends there."""


@contextmanager
def copied_generations() -> Iterator[Path]:
    """A generations root of one's own, with the demo's current generation; the store will lie beside it."""
    generation_id = current_id(DEMO_ROOT)
    assert generation_id is not None, f"no generation at {DEMO_ROOT}: run `make demo` first"
    with tempfile.TemporaryDirectory(prefix="tr-") as scratch:
        root = Path(scratch) / "generations"
        root.mkdir()
        shutil.copytree(DEMO_ROOT / generation_id, root / generation_id)
        shutil.copy(DEMO_ROOT / "CURRENT", root)
        yield root


@dataclass(frozen=True)
class Admin:
    """The operator's listener of a server under test."""

    port: int
    token: str

    @property
    def environment(self) -> dict[str, str]:
        """How the server is told."""
        return {
            "TWINRANK_ADMIN__ENABLED": "true",
            "TWINRANK_ADMIN__PORT": str(self.port),
            "TWINRANK_ADMIN__TOKEN": self.token,
        }

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What its calls carry."""
        return (("authorization", f"Bearer {self.token}"),)


@contextmanager
def serving(
    root: Path, name: str, front: str = "grpcio", workers: int = WORKERS, admin: Admin | None = None
) -> Iterator[ServerProcess]:
    """A server that answers, on all cores."""
    command = twinrank(root, front, workers)
    if admin is not None:
        command = replace(command, environment={**command.environment, **admin.environment})
    with ServerProcess(command, log_path("freshness", name), pinned=False) as process:
        deadline_s = time.monotonic() + START_PATIENCE_S
        with grpc.insecure_channel(command.target) as channel:
            stub = recommendation_pb2_grpc.RecommendationServiceStub(channel)
            while True:
                process.check()
                try:
                    answer = stub.Recommend(pb.RecommendRequest(visitor_id="anybody"), timeout=2)
                    if not answer.degraded:
                        break
                except grpc.RpcError:
                    pass
                assert time.monotonic() < deadline_s, "the server does not answer"
                time.sleep(0.05)
        yield process


def user_ids(root: Path) -> list[str]:
    """All users of the current generation."""
    generation_id = current_id(root)
    assert generation_id is not None
    ids = ItemIds.open(open_generation(root, generation_id).path(USER_IDS_FILE))
    return ids.ids(range(len(ids)))


def percentile(values: list[float], percent: float) -> float:
    """Of a list that is not empty; the value below which so many percent lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
