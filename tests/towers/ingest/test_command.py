"""`python -m towers ingest CONFIG`, as an operator sees it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from towers.schema import load_dataset

ROOT = Path(__file__).parents[3]


def run(*arguments: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "towers", *arguments],
        cwd=directory,
        env={"PYTHONPATH": str(ROOT), "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_it_prints_a_summary_and_writes_below_the_current_directory(small_shop_config: Path, tmp_path: Path) -> None:
    result = run("ingest", str(small_shop_config), directory=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    for part in ("Small outdoor shop: rows", "events: automated_buyers", "imputed: items.price", "with 43 items"):
        assert part in result.stdout
    assert load_dataset(tmp_path / "var" / "small" / "dataset").user_count == 30


def test_an_error_is_one_line_and_exit_status_1(small_shop_config: Path, tmp_path: Path) -> None:
    config = tmp_path / "shop.toml"
    config.write_text(small_shop_config.read_text(encoding="utf-8"), encoding="utf-8")
    result = run("ingest", "shop.toml", directory=tmp_path)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == f"error: [items] files: there is no file {tmp_path}/items.csv\n"


def test_a_config_that_is_not_there_is_one_line_too(tmp_path: Path) -> None:
    result = run("ingest", "shop.toml", directory=tmp_path)
    assert result.returncode == 1
    assert result.stderr == "error: shop.toml: the config cannot be read: No such file or directory\n"


@pytest.mark.parametrize("heavy", ["torch", "pandas", "faiss", "grpc"])
def test_ingest_imports_nothing_heavy(heavy: str) -> None:
    code = f"import sys, towers.__main__; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
