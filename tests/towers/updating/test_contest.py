"""The best contender is published, and none that ranks worse than the current one by more than the margin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.conftest import SmallModel
from towers.model import TrainedModel, read_model
from towers.updating.contest import decide
from towers.updating.recipe import Recipe

RECIPE = Recipe(margin=0.01)


@pytest.fixture(scope="module")
def model(small_model: SmallModel) -> TrainedModel:
    return read_model(small_model.model_dir)


def scores(*values: float) -> Any:
    return np.array(values)


@pytest.mark.parametrize(
    ("new_data", "learned", "outcome"),
    [
        (0.50, 0.52, "learned"),
        (0.52, 0.51, "new data"),
        (0.495, 0.40, "new data"),  # within the margin
        (0.48, 0.47, "refused"),
        (0.30, 0.493, "learned"),
        (0.489, None, "refused"),
        (0.50, None, "new data"),
    ],
)
def test_the_best_wins_or_nobody(model: TrainedModel, new_data: float, learned: float | None, outcome: str) -> None:
    entries = {"current": scores(0.4, 0.6), "new data": scores(new_data - 0.1, new_data + 0.1)}
    models = {"current": model, "new data": model}
    if learned is not None:
        entries["learned"] = scores(learned, learned)
        models["learned"] = model
    verdict = decide(entries, models, {"questions": 2}, RECIPE)
    assert verdict.outcome == outcome
    assert verdict.figures["ndcg@20"]["current"] == 0.5
    assert verdict.figures["new data - current"][0] == pytest.approx(new_data - 0.5)
    if outcome == "refused":
        assert "worse than the current by more than 0.01" in verdict.reason
        assert "update" not in verdict.model.metrics
    else:
        assert verdict.model.metrics["update"]["ndcg@20"]["current"] == 0.5
