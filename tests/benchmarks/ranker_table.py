"""Tables of ranker variants on the examples that `ranker_examples` wrote; NDCG@20 of the validation month.

python -m tests.benchmarks.ranker_table DIRECTORY variants      losses, sampling, class weights, widths, cuts
python -m tests.benchmarks.ranker_table DIRECTORY compressed    half, 8-bit, pruned, distilled
python -m tests.benchmarks.ranker_table DIRECTORY lightgbm      the yardstick on the same examples; needs `bench`
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from rich.progress import Progress

from tests.benchmarks.ranker_compression import Cost, pruned, with_half_item_part, with_int8_weights
from tests.benchmarks.ranker_examples import Examples
from towers.features.histories import FloatArray
from towers.models.ranker import Ranker, RankerShape
from towers.settings import RankerSettings
from towers.training.cuts import CutExamples
from towers.training.loop import Schedule, fit
from towers.training.ranker_calibration import Reliability, calibrate
from towers.training.ranker_outputs import ranker_logits
from towers.training.ranker_task import RankerLoss, RankerTask

CPU = torch.device("cpu")
NEGATIVES = 60
"""Of each request, for the trees: they keep all examples in memory at once."""
VARIANTS: dict[str, dict[str, Any]] = {
    "binary": {},
    "binary, another seed": {"seed": 18},
    "binary, 40 negatives a request": {"negatives_max": 40},
    "binary, positives count 4": {"positive_weight": 4.0},
    "listwise": {"loss": "listwise"},
    "listwise, another seed": {"loss": "listwise", "seed": 18},
    "listwise, 40 negatives a request": {"loss": "listwise", "negatives_max": 40},
    "listwise, dropout 0.1": {"loss": "listwise", "dropout": 0.1},
    "listwise, decay 0.1": {"loss": "listwise", "weight_decay": 0.1},
    "listwise, 128 and 64 units": {"loss": "listwise", "hidden": (128, 64)},
    "listwise, 32 and 16 units": {"loss": "listwise", "hidden": (32, 16)},
    "listwise, 16 and 8 units": {"loss": "listwise", "hidden": (16, 8)},
}


def trained(examples: Examples, vector: int, seed: int = 17, **changes: Any) -> Ranker:
    """A ranker of the examples' widths by `[ranker]` with three epochs and the changes."""
    settings = RankerSettings(**{"epochs_max": 3, **changes})
    first = examples.cuts[0]
    torch.manual_seed(seed)
    ranker = Ranker(
        RankerShape(
            first.request.shape[1],
            first.item.shape[1],
            first.pair.shape[1],
            settings.hidden,
            vector,
            dropout=settings.dropout,
        )
    )
    loss = RankerLoss.of(settings)
    task = RankerTask(ranker, examples.cuts, examples.held_out, settings.batch_size, seed, CPU, loss=loss)
    schedule = Schedule(
        settings.epochs_max,
        settings.patience,
        settings.learning_rate,
        settings.weight_decay,
        settings.gradient_norm_max,
    )
    fit(task, schedule, seed, None, Progress(disable=True))
    return ranker


def judged(examples: Examples, ranker: Ranker) -> str:
    """NDCG@20, and the calibration error on the half that the calibration has not seen."""
    ndcg = examples.ndcg(ranker_logits(ranker, examples.held_out, CPU))
    calibrate(ranker, examples.held_out.of_users(0), CPU)
    half = examples.held_out.of_users(1)
    error = Reliability.of(ranker_logits(ranker, half, CPU), half.label).expected_error
    return f"NDCG@20 {ndcg:.4f}  calibration error {error:.4f}"


def variants(examples: Examples, vector: int) -> Iterator[tuple[str, str]]:
    """One row a variant, all cuts; then fewer and more cuts of the default."""
    for name, changes in VARIANTS.items():
        yield name, judged(examples, trained(examples, vector, **changes))
    for count in range(1, len(examples.cuts)):
        some = replace(examples, cuts=examples.cuts[:count])
        yield f"binary, the newest {count} cuts", judged(some, trained(some, vector))


def compressed(examples: Examples, vector: int) -> Iterator[tuple[str, str]]:
    """Variants of one trained ranker, and small ones that learned from its scores or from the labels."""
    teacher = trained(examples, vector, loss="listwise")

    def row(name: str, ranker: Ranker, cost: Cost) -> tuple[str, str]:
        sizes = f"weights {cost.weight_bytes:,} B  item {cost.item_bytes} B  products {cost.products:,}"
        return name, f"{judged(examples, ranker)}  {sizes}"

    yield row("as trained", teacher, Cost.of(teacher))
    half, int8 = with_half_item_part(teacher), with_int8_weights(teacher)
    yield row("float16 item part", half, Cost.of(half, item_bits=16))
    yield row("int8 weights", int8, Cost.of(int8, weight_bits=8))
    for kept in (48, 32, 16):
        small = pruned(teacher, kept, _sample(examples.cuts[0]))
        yield row(f"pruned to {kept} units", small, Cost.of(small))
    soft = [_softened(cut, teacher) for cut in examples.cuts]
    for hidden in ((32, 16), (16, 8)):
        small = trained(replace(examples, cuts=soft), vector, hidden=hidden)
        yield row(f"distilled to {hidden}", small, Cost.of(small))
        small = trained(examples, vector, hidden=hidden, loss="listwise")
        yield row(f"trained as {hidden}", small, Cost.of(small))


def lightgbm(examples: Examples, vector: int) -> Iterator[tuple[str, str]]:
    """Boosted trees on the same inputs but the embeddings' coordinates; the best round is chosen on validation too."""
    import lightgbm as trees

    random = np.random.default_rng(1)
    rows = [_sampled(cut, random) for cut in examples.cuts]
    inputs = np.concatenate([_matrix(cut, chosen, vector) for cut, chosen in zip(examples.cuts, rows, strict=True)])
    label = np.concatenate([cut.label[chosen] for cut, chosen in zip(examples.cuts, rows, strict=True)])
    sizes = np.concatenate(
        [
            np.unique(cut.candidate_user[chosen], return_counts=True)[1]
            for cut, chosen in zip(examples.cuts, rows, strict=True)
        ]
    )
    held_out = examples.held_out
    asked = _matrix(held_out, np.arange(len(held_out.label)), vector)
    for objective in ("lambdarank", "binary"):
        settings = {
            "objective": objective,
            "learning_rate": 0.05,
            "num_leaves": 31,
            "min_data_in_leaf": 200,
            "feature_fraction": 0.7,
            "bagging_fraction": 0.8,
            "bagging_freq": 1,
            "lambda_l2": 5,
            "num_threads": 1,
            "max_bin": 127,
            "verbose": -1,
            "seed": 1,
        }
        booster = trees.Booster(settings, trees.Dataset(inputs, label.astype(int), group=sizes, free_raw_data=False))
        best = (0.0, 0)
        for rounds in range(1, 301):
            booster.update()
            if rounds % 50 == 0:
                best = max(best, (examples.ndcg(booster.predict(asked)), rounds))
        yield f"LightGBM, {objective}, {best[1]} rounds", f"NDCG@20 {best[0]:.4f}"


def _matrix(cut: CutExamples, rows: np.ndarray, vector: int) -> FloatArray:
    request, item = cut.request[:, vector:], cut.item[:, vector:]
    return np.concatenate([request[cut.candidate_user[rows]], item[cut.candidate_item[rows]], cut.pair[rows]], axis=1)


def _sampled(cut: CutExamples, random: np.random.Generator) -> np.ndarray:
    """All positives and NEGATIVES of each request, by request."""
    negative = np.flatnonzero(~cut.label)
    negative = negative[np.lexsort((random.random(len(negative)), cut.candidate_user[negative]))]
    owner = cut.candidate_user[negative]
    kept = negative[np.arange(len(owner)) - np.searchsorted(owner, owner) < NEGATIVES]
    rows = np.sort(np.concatenate([np.flatnonzero(cut.label), kept]))
    return rows[np.argsort(cut.candidate_user[rows], kind="stable")]


def _sample(cut: CutExamples) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rows = np.linspace(0, len(cut.label) - 1, 20_000).astype(np.int64)
    arrays = cut.request[cut.candidate_user[rows]], cut.item[cut.candidate_item[rows]], cut.pair[rows]
    request, item, pair = map(torch.from_numpy, arrays)
    return request, item, pair


def _softened(cut: CutExamples, teacher: Ranker) -> CutExamples:
    """The cut with the teacher's probabilities as labels."""
    return replace(cut, label=torch.from_numpy(ranker_logits(teacher, cut, CPU)).sigmoid().numpy())


def main(directory: Path, tables: list[str], vector: int = 64) -> None:
    """Prints the rows as they come; `vector` is the towers' dimension, 0 where the ranker reads no vectors."""
    torch.set_num_threads(1)
    examples = Examples.read(directory)
    for table in tables:
        for name, figures in {"variants": variants, "compressed": compressed, "lightgbm": lightgbm}[table](
            examples, vector
        ):
            typer.echo(f"{table:12} {name:40} {figures}")


if __name__ == "__main__":
    typer.run(main)
