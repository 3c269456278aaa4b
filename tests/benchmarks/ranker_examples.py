"""The ranker's examples of a shop's validation phase, as files: built once, read by the tables of ranker variants.

    python -m tests.benchmarks.ranker_examples towers/shops/complete_journey.toml DIRECTORY

DIRECTORY gets `held_out.npz` (the validation month) and `cut_0.npz` … (the training cuts, newest first), and
`relevant.npz`: what every asked user bought in that month, by the protocol of the test.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

import numpy as np
import scipy.sparse as sp
import typer
from rich.progress import Progress

from towers.commands.train import exact_search
from towers.evaluation import split_by_time, target_interactions
from towers.features.histories import FloatArray, Int32Array
from towers.model import ranker_shape
from towers.models.ranker import Ranker
from towers.schema import load_dataset, read_shop_config
from towers.training.cuts import DAY_S, CutExamples
from towers.training.run import TrainingRun

K = 20


@dataclass(frozen=True)
class Examples:
    """Training cuts, the validation month, and what is right in it: CSR (U, items) for the users `asked` (U,)."""

    cuts: list[CutExamples]
    held_out: CutExamples
    asked: Int32Array
    relevant: sp.csr_array

    @classmethod
    def read(cls, directory: Path) -> Examples:
        """From the files."""
        cuts = [_read_cut(path) for path in sorted(directory.glob("cut_*.npz"))]
        right = np.load(directory / "relevant.npz")
        relevant = sp.csr_array((right["data"], right["indices"], right["indptr"]), shape=tuple(right["shape"]))
        return cls(cuts, _read_cut(directory / "held_out.npz"), right["asked"], relevant)

    def ndcg(self, score: FloatArray) -> float:
        """NDCG@20 of the held-out candidates (n,) by the protocol: what no source brought counts as missed."""
        cut, item_count = self.held_out, self.relevant.shape[1]
        place_of = np.full(int(max(cut.user_row.max(), self.asked.max())) + 1, -1)
        place_of[self.asked] = np.arange(len(self.asked))
        own = np.flatnonzero(place_of[cut.user_row[cut.candidate_user]] >= 0)
        user, item = place_of[cut.user_row[cut.candidate_user[own]]], cut.candidate_item[own]
        order = np.lexsort((-score[own], user))
        user, item = user[order], item[order]
        counts = np.diff(self.relevant.indptr)
        right = np.repeat(np.arange(len(counts), dtype=np.int64), counts) * item_count + self.relevant.indices
        hit = np.isin(user.astype(np.int64) * item_count + item, right)
        place = np.arange(len(user)) - np.searchsorted(user, user)
        gain = np.bincount(user, np.where(place < K, hit / np.log2(place + 2), 0), len(counts))
        ideal = np.cumsum(1 / np.log2(np.arange(K) + 2))[np.minimum(counts, K) - 1]
        return float((gain / ideal).mean())


def _read_cut(path: Path) -> CutExamples:
    arrays = np.load(path)
    return CutExamples(**{name: arrays[name] for name in arrays.files})


def _write_cut(cut: CutExamples, path: Path) -> None:
    np.savez(path, **{field.name: getattr(cut, field.name) for field in fields(cut) if field.name != "further"})


def main(
    config: Path, directory: Annotated[Path, typer.Argument(help="Where the files go; outside the project.")]
) -> None:
    """Trains the towers as the validation phase does, and asks all users at every cut."""
    directory.mkdir(parents=True, exist_ok=True)
    shop = read_shop_config(config)
    dataset, settings = load_dataset(shop.dataset_dir), shop.learning
    run = TrainingRun(dataset, settings, exact_search, directory, Progress(disable=True), print)
    end_s, ranker = run.train_end_s(), settings.ranker
    begin_s = end_s - settings.training.validation_days * DAY_S
    newest = begin_s - ranker.horizon_days * DAY_S
    times = [newest - place * ranker.cut_every_days * DAY_S for place in range(ranker.cuts)]
    stage, model = run._stage("examples", times[-1], None), Ranker(ranker_shape(settings))
    for place, cut_s in enumerate(times):
        _write_cut(run._cut("cut", stage, model, cut_s), directory / f"cut_{place:02d}.npz")
    _write_cut(run._cut("held out", stage, model, begin_s), directory / "held_out.npz")
    asked = split_by_time(
        target_interactions(dataset),
        train_end_s=begin_s,
        test_end_s=end_s,
        item_users_min=max(settings.training.item_users_min, 1),
    ).evaluation_set
    right = asked.relevant
    np.savez(
        directory / "relevant.npz",
        asked=asked.user_rows,
        data=right.data,
        indices=right.indices,
        indptr=right.indptr,
        shape=np.array(right.shape),
    )


if __name__ == "__main__":
    typer.run(main)
