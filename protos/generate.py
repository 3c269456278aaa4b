"""Generates the Python stubs of protos/twinrank/v1 beside their sources; `--check` fails when those kept differ.

The protoc is the one inside the pinned grpcio-tools, so that every machine writes the same bytes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

PROTOS_DIR = Path(__file__).parent
PACKAGE_DIR = Path("twinrank/v1")


def generate(out_dir: Path) -> None:
    """Writes `*_pb2.py`, `*_pb2.pyi` and `*_pb2_grpc.py` of every .proto into `out_dir`."""
    sources = sorted(str(path) for path in (PROTOS_DIR / PACKAGE_DIR).glob("*.proto"))
    well_known = str(resources.files("grpc_tools") / "_proto")
    code = protoc.main(
        ["protoc", f"-I{PROTOS_DIR}", f"-I{well_known}"]
        + [f"--{kind}_out={out_dir}" for kind in ("python", "pyi", "grpc_python")]
        + sources
    )
    if code != 0:
        raise SystemExit(f"protoc failed with exit status {code}")


def drift() -> list[str]:
    """Names of generated files that differ from what the sources give now."""
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh = {path.name: path.read_bytes() for path in (Path(scratch) / PACKAGE_DIR).iterdir()}
    kept = {path.name: path.read_bytes() for path in (PROTOS_DIR / PACKAGE_DIR).glob("*_pb2*.py*")}
    return sorted(name for name in fresh.keys() | kept.keys() if fresh.get(name) != kept.get(name))


def main() -> None:
    """The command: writes, or with `--check` compares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the checked-in code is stale")
    if not parser.parse_args().check:
        generate(PROTOS_DIR)
        return
    stale = drift()
    if stale:
        sys.exit(f"generated code is stale: {', '.join(stale)}; run python protos/generate.py")


if __name__ == "__main__":
    main()
