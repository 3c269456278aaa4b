"""Golden queries: what is stored is what is answered, and whatever differs is named by query."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from server.domain import RecommendAnswer, RecommendQuery, Source
from server.golden import GOLDEN_FILE, GoldenMismatch, check_golden, write_golden
from server.model import open_serving_model
from server.serving_model import ServingModel
from tests.conftest import SmallGeneration
from tests.server.real_engine import NOW_S, PLACEMENTS
from towers.recommender import Recommender, UserEmbedder


@pytest.fixture
def stored(small_generation: SmallGeneration) -> dict[str, Any]:
    """The generation's golden file, parsed."""
    path = small_generation.root / small_generation.generation_id / GOLDEN_FILE
    content: dict[str, Any] = json.loads(path.read_text())
    return content


@pytest.fixture
def check(serving: ServingModel, tmp_path: Path) -> Callable[[Any], None]:
    """Checks the generation against other golden queries."""

    def check_content(content: Any) -> None:
        path = tmp_path / GOLDEN_FILE
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        check_golden(serving, path)

    return check_content


def test_a_generation_gives_its_own_golden_answers(check: Callable[[Any], None], stored: dict[str, Any]) -> None:
    check(stored)
    queries = stored["queries"]
    assert len(queries) == 39  # twelve users and nobody, at three placements
    assert {query["placement"] for query in queries} == set(PLACEMENTS) - {"everything"}
    assert {query["exclude_bought"] for query in queries} == {True, False}
    assert all(len(query["item_ids"]) == 10 for query in queries)


def test_a_score_that_differs_is_named_with_its_query_and_place(
    check: Callable[[Any], None], stored: dict[str, Any]
) -> None:
    golden = stored["queries"][7]
    golden["scores"][2] += 0.01
    where = rf"query 7 \(user '{golden['user_id']}', placement {golden['placement']}\)"
    with pytest.raises(GoldenMismatch, match=rf"golden.json: {where}: score .* at place 2, expected"):
        check(stored)


@pytest.mark.parametrize(("place", "refused"), [(0, True), (2, True), (3, False)])
def test_what_another_process_examined_is_asked_once_at_each_placement(
    serving: ServingModel, stored: dict[str, Any], tmp_path: Path, place: int, refused: bool
) -> None:
    stored["queries"][place]["scores"][0] += 0.01
    path = tmp_path / GOLDEN_FILE
    path.write_text(json.dumps(stored))
    assert len({golden["placement"] for golden in stored["queries"][:3]}) == 3
    with pytest.raises(GoldenMismatch) if refused else nullcontext():
        check_golden(serving, path, examined=True)


def test_a_score_in_the_last_digits_passes(check: Callable[[Any], None], stored: dict[str, Any]) -> None:
    for golden in stored["queries"]:
        golden["scores"] = [score + 1e-5 * (1 - score) for score in golden["scores"]]
        golden["similarities"] = [similarity - 1e-5 for similarity in golden["similarities"]]
    check(stored)


def test_an_item_that_is_missing_is_named_with_its_query(check: Callable[[Any], None], stored: dict[str, Any]) -> None:
    golden = stored["queries"][5]
    golden["item_ids"][0] = "another-item"
    with pytest.raises(GoldenMismatch, match=r"query 5 .*item 'another-item' at place 0 is missing"):
        check(stored)


def test_an_item_offered_for_another_reason_is_named(check: Callable[[Any], None], stored: dict[str, Any]) -> None:
    golden = stored["queries"][0]
    golden["similarities"][3] += 0.01
    with pytest.raises(GoldenMismatch, match=rf"query 0 .*item '{golden['item_ids'][3]}' has similarity"):
        check(stored)
    golden["similarities"][3] -= 0.01
    golden["times_bought"][1] += 1
    with pytest.raises(GoldenMismatch, match=rf"query 0 .*item '{golden['item_ids'][1]}' was bought"):
        check(stored)


def test_items_of_equal_score_may_change_places_or_fall_off_the_end(
    check: Callable[[Any], None], stored: dict[str, Any], serving: ServingModel
) -> None:
    golden = stored["queries"][4]
    for column in ("item_ids", "similarities", "times_bought"):
        golden[column][8], golden[column][9] = golden[column][9], golden[column][8]
    check(stored)
    golden["item_ids"][9] = "one-that-scored-the-same"
    check(stored)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["queries"][1]["item_ids"].pop(), "query 1 .*columns differ in length"),
        (lambda content: content["queries"][1]["scores"].pop(), "query 1 .*columns differ in length"),
        (lambda content: content["queries"].clear(), "holds no query"),
        (lambda content: content["queries"][3].pop("user_id"), r"queries.3.user_id"),
        (lambda content: content.update(more=1), "more"),
        (lambda content: content["queries"][2]["scores"].__setitem__(0, float("nan")), "query 2 .*expected nan"),
    ],
)
def test_a_file_that_says_something_else_is_refused(
    check: Callable[[Any], None], stored: dict[str, Any], change: Callable[[Any], object], message: str
) -> None:
    change(stored)
    with pytest.raises(GoldenMismatch, match=f"(?s)golden.json.*{message}"):
        check(stored)


def test_what_is_no_json_is_refused(check: Callable[[Any], None]) -> None:
    with pytest.raises(GoldenMismatch, match=GOLDEN_FILE):
        check('{"queries": [')


def test_a_placement_that_only_the_builder_knows_is_refused(
    check: Callable[[Any], None], stored: dict[str, Any]
) -> None:
    stored["queries"][0]["placement"] = "basement"
    with pytest.raises(GoldenMismatch, match="basement"):
        check(stored)


@pytest.mark.parametrize("weight", ["from_request.weight", "from_pair.weight", "middle.weight", "out.bias"])
def test_a_model_whose_training_diverged_writes_no_golden_answers(
    small_generation: SmallGeneration, weight: str
) -> None:
    from index.generation import open_generation

    whole = open_serving_model(open_generation(small_generation.root, small_generation.generation_id))
    model, snapshot = whole.model, whole.snapshot
    with torch.no_grad():
        model.ranker.get_parameter(weight).view(-1)[0] = float("nan")
    embedder = UserEmbedder(model.user_tower, snapshot.items.vectors, model.settings.features.sequence_events_max)
    recommender = Recommender(embedder, model.ranker, snapshot.items, snapshot.item_part, whole.searcher)
    with pytest.raises(GoldenMismatch, match=r"query 0 .*no numbers"):
        write_golden(replace(whole, recommender=recommender), ["u01"], ["shoes-1"], NOW_S)


def test_golden_queries_ask_the_engine_itself(serving: ServingModel, stored: dict[str, Any]) -> None:
    from server.engine import Engine
    from server.golden import PLACEMENTS as GOLDEN_PLACEMENTS

    golden = stored["queries"][0]
    [answer], _ = Engine(serving, GOLDEN_PLACEMENTS).answer([query_of(golden)])
    assert isinstance(answer, RecommendAnswer)
    assert answer.item_ids == golden["item_ids"]
    np.testing.assert_allclose(answer.scores, golden["scores"], atol=1e-6)
    assert answer.sources[0] & Source.TWO_TOWER


def query_of(golden: dict[str, Any]) -> RecommendQuery:
    from tests.server.real_engine import recommend

    query = recommend(golden["user_id"], golden["placement"], request_time_s=golden["request_time_s"])
    return query._replace(page_size=10)
