"""Two processes of torchrun learn what one learns with twice the batch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.progress import Progress

from tests.towers.training.line_in_processes import fitted, ranked
from towers.commands.train import exact_search
from towers.model import read_model
from towers.schema import ShopConfig, load_dataset, read_shop_config
from towers.training import distributed
from towers.training.record import read_epochs
from towers.training.run import TrainingRun

ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")
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
    assert list(distributed.own_steps([3, 4, 5])) == [3, 4, 5]
    assert (distributed.total(2.5, CPU), distributed.of_first(2.5, CPU), distributed.count(True, CPU)) == (2.5, 2.5, 1)
    generator = np.random.default_rng(1)
    assert distributed.own_generator(generator, 1, 1) is generator


def test_processes_take_turns_through_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "process_count", lambda: 3)
    dealt = []
    for number in range(3):
        monkeypatch.setattr(distributed, "process_number", lambda number=number: number)
        dealt.append(list(distributed.own_steps(range(5))))
    assert dealt == [[0, 3], [1, 4], [2]]


def test_two_processes_have_the_losses_and_weights_of_one_with_the_double_batch(tmp_path: Path) -> None:
    script = str(Path(__file__).parent / "line_in_processes.py")
    torchrun(script, str(tmp_path / "line"), "8", directory=ROOT)
    first, second = (json.loads((tmp_path / f"line.{number}").read_text("utf-8")) for number in (0, 1))
    assert first == second
    assert first["line"]["processes"] == 2
    for name, alone in (("line", fitted(16)), ("ranker", ranked(16))):
        np.testing.assert_allclose(first[name]["history"], alone["history"], rtol=1e-4)  # type: ignore[arg-type]
        for tensor, weight in alone["weights"].items():  # type: ignore[attr-defined]
            if not tensor.startswith("first"):  # decayed where its gradient is zero, left alone where there is none
                np.testing.assert_allclose(first[name]["weights"][tensor], weight, rtol=1e-3, atol=1e-5)
        assert alone["history"][-1][0] < alone["history"][0][0]  # type: ignore[index]


@pytest.mark.timeout(300)
def test_the_command_trains_in_two_processes(small_shop: ShopConfig, small_shop_config: Path, tmp_path: Path) -> None:
    """Two processes with half the batch, beside one with the whole: other negatives, nearly the same towers.

    The ranker learns from other candidates then, so its loss says little; that of equal ones is compared above.
    """
    shutil.copytree(small_shop.dataset_dir, tmp_path / "var" / "dataset")
    text = small_shop_config.read_text(encoding="utf-8").replace("var/small", str(tmp_path / "var"))
    text = text.replace("epochs_max = 10", "epochs_max = 1").replace("epochs_max = 6", "epochs_max = 1")
    shop = tmp_path / "shop.toml"
    shop.write_text(text, "utf-8")
    settings, dataset = read_shop_config(shop).learning, load_dataset(small_shop.dataset_dir)
    alone_dir = tmp_path / "alone"
    TrainingRun(dataset, settings, exact_search, alone_dir, Progress(disable=True), lambda _: None).run()

    shop.write_text(text.replace("batch_size = 16", "batch_size = 8").replace("= 256", "= 128"), "utf-8")
    torchrun("-m", "towers", "train", str(shop), directory=tmp_path)
    run_dir = tmp_path / "var" / "run"
    assert json.loads((run_dir / "run.json").read_text("utf-8"))["processes"] == 2
    assert read_model(run_dir / "model").metrics == json.loads((run_dir / "metrics.json").read_text("utf-8"))
    assert {"config.toml", "curves.png", "epochs.jsonl"} <= {file.name for file in run_dir.iterdir()}
    alone, together = read_epochs(alone_dir), read_epochs(run_dir)
    assert [epoch.task for epoch in together] == [epoch.task for epoch in alone]
    for one, two in zip(alone, together, strict=True):
        assert two.loss == pytest.approx(one.loss, rel=0.1 if "towers" in one.task else 0.5), one.task
