"""What is shipped: the public names, how light the import is, and what the wheel holds."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import twinrank_client

REPOSITORY = Path(__file__).parents[2]
HEAVY = {"torch", "faiss", "numpy", "polars", "pydantic", "scipy", "server", "towers", "index", "pytest"}


def test_the_public_names_are_these() -> None:
    assert twinrank_client.__all__ == [
        "AccessDenied",
        "AllOf",
        "AnyOf",
        "AsyncClient",
        "AsyncEventStream",
        "Available",
        "Cancelled",
        "CandidateSource",
        "Client",
        "DeadlineExceeded",
        "DegradedReason",
        "Equals",
        "Event",
        "EventStream",
        "Explanation",
        "Failure",
        "Filter",
        "InternalError",
        "InvalidRequest",
        "IsIn",
        "ItemScore",
        "Limits",
        "Not",
        "NotFound",
        "Overloaded",
        "Range",
        "RecentEvent",
        "RecommendRequest",
        "Recommendations",
        "RepeatPolicy",
        "Retry",
        "ScoreRequest",
        "ScoredItem",
        "Scores",
        "SimilarItem",
        "SimilarItems",
        "SimilarItemsRequest",
        "StageTimings",
        "StreamAnswer",
        "Timeout",
        "Tls",
        "TwinrankError",
        "Unavailable",
        "WriteReceipt",
    ]
    assert all(hasattr(twinrank_client, name) for name in twinrank_client.__all__)


@pytest.mark.parametrize("module", ["twinrank_client", "twinrank_client.testing"])
def test_importing_it_in_a_clean_process_loads_nothing_heavy(module: str) -> None:
    script = f"import sys, {module}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY, timeout=60)
    loaded = set(done.stdout.split())
    assert "grpc" in loaded
    assert loaded & HEAVY == set()


def test_it_imports_only_the_stubs_grpc_protobuf_and_the_standard_library() -> None:
    allowed = {"twinrank", "twinrank_client", "grpc", "google", *sys.stdlib_module_names}
    package = Path(twinrank_client.__file__).parent
    for path in package.rglob("*.py"):
        if path.name == "pytest_plugin.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                continue
            for name in names:
                assert name.partition(".")[0] in allowed, f"{path.name} imports {name}"


def test_the_wheel_holds_the_stubs_and_the_client_and_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(REPOSITORY)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.partition("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"twinrank", "twinrank_client"}
    assert len(top) == 3
    assert "twinrank_client/py.typed" in names
    assert "twinrank/v1/recommendation_pb2.py" in names
    assert "twinrank_client/testing/__init__.py" in names
