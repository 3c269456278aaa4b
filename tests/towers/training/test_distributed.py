"""Two processes of torchrun learn what one learns with twice the batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.towers.training.line_in_processes import fitted
from towers.training import distributed
from towers.training.record import read_epochs

ROOT = Path(__file__).parents[3]
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def torchrun(*arguments: str, directory: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment.pop("WORLD_SIZE", None)
    done = subprocess.run(
        [*TORCHRUN, *arguments], cwd=directory, env=environment, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stderr


def test_without_torchrun_there_is_one_process_that_takes_everything() -> None:
    with distributed.process_group(on_cuda=False):
        assert (distributed.process_count(), distributed.process_number()) == (1, 0)
    assert [share.tolist() for share in distributed.shares(np.arange(5), 2)] == [[0, 1], [2, 3], [4]]
    assert distributed.step_count(5, 2) == 3
    generator = np.random.default_rng(1)
    assert distributed.own_generator(generator, 1, 1) is generator


def test_shares_are_equally_long_and_together_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "process_count", lambda: 3)
    dealt = []
    for number in range(3):
        monkeypatch.setattr(distributed, "process_number", lambda number=number: number)
        dealt.append([share.tolist() for share in distributed.shares(np.arange(11), 2)])
    assert dealt == [[[0, 3], [6]], [[1, 4], [7]], [[2, 5], [8]]]  # 9 and 10 are left out
    assert distributed.step_count(11, 2) == 2


def test_two_processes_have_the_losses_and_weights_of_one_with_the_double_batch(tmp_path: Path) -> None:
    script = str(Path(__file__).parent / "line_in_processes.py")
    torchrun(script, str(tmp_path / "line"), "8", directory=ROOT)
    first, second = (json.loads((tmp_path / f"line.{number}").read_text("utf-8")) for number in (0, 1))
    assert first["processes"] == 2
    assert first == second
    alone = fitted(16)
    np.testing.assert_allclose(first["history"], alone["history"], rtol=1e-4)  # type: ignore[arg-type]
    for name, weight in alone["weights"].items():  # type: ignore[attr-defined]
        if not name.startswith("first"):  # decayed where its gradient is zero, and left alone where there is none
            np.testing.assert_allclose(first["weights"][name], weight, rtol=1e-4, atol=1e-6)
    assert alone["history"][-1][0] < alone["history"][0][0] / 4  # type: ignore[index]


def test_the_command_trains_in_two_processes(small_shop_config: Path, tmp_path: Path) -> None:
    """Towers of two processes with half the batch, beside one with the whole: other negatives, nearly the same loss."""
    text = small_shop_config.read_text(encoding="utf-8").replace("var/small", str(tmp_path / "var"))
    for name in ("events.csv", "items.csv", "users.csv"):
        text = text.replace(f'"{name}"', f'"{small_shop_config.parent / name}"')
    text = text.replace("epochs_max = 10", "epochs_max = 1").replace("epochs_max = 6", "epochs_max = 1")
    shops = {}
    for processes, (towers, ranker) in {1: (16, 256), 2: (8, 128)}.items():
        shops[processes] = tmp_path / f"{processes}.toml"
        own = text.replace("batch_size = 16", f"batch_size = {towers}").replace("= 256", f"= {ranker}")
        shops[processes].write_text(own.replace(str(tmp_path / "var"), str(tmp_path / str(processes))), "utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for shop, commands in ((shops[1], ("ingest", "train")), (shops[2], ("ingest",))):
        for command in commands:
            subprocess.run([sys.executable, "-m", "towers", command, str(shop)], check=True, env=environment)
    torchrun("-m", "towers", "train", str(shops[2]), directory=tmp_path)
    run_dir = tmp_path / "2" / "run"
    assert json.loads((run_dir / "run.json").read_text("utf-8"))["processes"] == 2
    assert (run_dir / "model" / "towers.safetensors").exists()
    alone, together = (read_epochs(tmp_path / processes / "run") for processes in ("1", "2"))
    assert [epoch.task for epoch in together] == [epoch.task for epoch in alone]
    for one, two in zip(alone, together, strict=True):
        assert two.loss == pytest.approx(one.loss, rel=0.1), one.task
