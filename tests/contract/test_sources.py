"""One suite over every further source, against dense numpy over the arrays that it keeps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.contract.dense_scores import dense_scores
from tests.contract.source_world import (
    COLD_COUNT,
    ITEM_COUNT,
    UNTIL_S,
    everything,
    may_be_shown,
    requests,
    shop,
    single,
    some,
    with_rows,
)
from towers.sources.base import Asked, CandidateSource, Shown, SourceInvalid
from towers.sources.factors import ItemFactors
from towers.sources.folded_factors import FoldedFactors
from towers.sources.log import SourceLog
from towers.sources.registry import KINDS, NAMES, fit_sources, source_arrays, sources_from_arrays
from towers.sources.settings import ProfileSettings, SourceSettings

_PRODUCTS = (ItemFactors, FoldedFactors)  # chosen by sums in another order than those of `write_scores`
_RECENT = ProfileSettings(items_max=4, half_life_items=1.5, half_life_days=20)


def _settings(**sections: dict[str, object]) -> SourceSettings:
    return SourceSettings.model_validate(sections)


_SEGMENTS = {"attributes": ["age"], "users_min": 4}
CASES: dict[str, tuple[str, SourceSettings]] = {
    **{name: (name, _settings(segment=_SEGMENTS)) for name in NAMES},  # a new source is in the suite by its name
    "item_item, pearson": ("item_item", _settings(item_item={"similarity": "pearson", "profile": _RECENT})),
    "item_item, tfidf": ("item_item", _settings(item_item={"similarity": "tfidf", "neighbours": 5, "power": 2})),
    "item_item, bm25": ("item_item", _settings(item_item={"similarity": "bm25", "neighbours": 3})),
    "bought_next, both ways": ("bought_next", _settings(bought_next={"backward": 0.4, "distance_half_life": 2})),
    "user_user, short lists": (
        "user_user",
        _settings(
            user_user={
                "neighbours": 4,
                "users_per_item_max": 5,
                "items_per_user_max": 3,
                "weighting": "inverse",
                "likeness_power": 2,
                "profile": _RECENT,
            }
        ),
    ),
    "user_user, near": ("user_user", _settings(user_user={"nearness_half_life": 1.5, "profile": _RECENT})),
    "content, numbers": ("content", _settings(content={"number_bins": 4, "word_weight": 0.5, "neighbours": 8})),
    "als, counts": ("als", _settings(als={"dimension": 5, "counts": True, "regularization": 0.5, "profile": _RECENT})),
    "bpr, recent": ("bpr", _settings(bpr={"dimension": 5, "epochs": 3, "profile": _RECENT})),
    "graph_filter, recent": (
        "graph_filter",
        _settings(graph_filter={"dimension": 4, "sharpening": 2, "neighbours": 6, "profile": _RECENT}),
    ),
    "trending, of all events": ("trending", _settings(trending={"events": "all", "depth": 7})),
    "segment, two attributes": ("segment", _settings(segment={"attributes": ["home", "age"], "users_min": 2})),
}
_DATA = shop()
_LOG = SourceLog.of(_DATA, UNTIL_S)
_REQUEST = requests(_DATA)
_COUNT = len(_REQUEST.histories)


def _fit(case: str, log: SourceLog) -> CandidateSource:
    if case == "factors":
        brings, items = np.random.default_rng(1).normal(size=(2, ITEM_COUNT, 6)).astype(np.float32)
        return ItemFactors(brings, items, _RECENT)
    name, settings = CASES[case]
    return fit_sources(log, (name,), settings, seed=3)[name]


@pytest.fixture(params=[*CASES, "factors"], scope="module")
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def source(case: str) -> CandidateSource:
    return _fit(case, _LOG)


def scores_of(asked: Asked, request_count: int, item_count: int = ITEM_COUNT) -> np.ndarray:
    """(B, n) its score of every item."""
    rows = np.tile(np.arange(item_count, dtype=np.int32), (request_count, 1))
    out = np.zeros(rows.shape, np.float32)
    asked.write_scores(rows, out)
    return out


def assert_best(best: np.ndarray, scores: np.ndarray, shown: Shown, k: int) -> None:
    """The k highest scores of what may be shown, each row once; ties may be broken either way by a rounding."""
    allowed = np.where(may_be_shown(shown), scores, 0)
    assert best.shape == (len(scores), k)
    assert best.dtype == np.int32
    for place, rows in enumerate(best):
        brought = rows[rows >= 0]
        assert (rows[len(brought) :] == -1).all()
        assert len(np.unique(brought)) == len(brought) == min(k, (allowed[place] > 0).sum())
        expected = -np.sort(-allowed[place])[: len(brought)]
        np.testing.assert_allclose(allowed[place, brought], expected, rtol=2e-5, atol=1e-6)


def test_scores_are_those_of_dense_arrays(source: CandidateSource) -> None:
    scores = scores_of(source.ask(_REQUEST), _COUNT)
    np.testing.assert_allclose(scores, dense_scores(source, _REQUEST), rtol=2e-5, atol=1e-6)
    assert (scores > 0).any()


@pytest.mark.parametrize("k", [0, 1, 5, ITEM_COUNT + 4])
def test_best_are_the_highest_scores_of_what_may_be_shown(source: CandidateSource, k: int) -> None:
    asked, expected = source.ask(_REQUEST), dense_scores(source, _REQUEST)
    for shown in (everything(_COUNT), some(_COUNT)):
        assert_best(asked.best(k, shown), expected, shown, k)


def test_of_equal_scores_the_lowest_rows_are_brought(source: CandidateSource) -> None:
    asked, shown = source.ask(_REQUEST), some(_COUNT)
    scores = np.where(may_be_shown(shown), scores_of(asked, _COUNT), 0)
    for place, rows in enumerate(asked.best(6, shown)):
        brought = rows[rows >= 0]
        kept = scores[place, brought]
        assert all(kept[i] > kept[i + 1] or brought[i] < brought[i + 1] for i in range(len(kept) - 1)) or isinstance(
            source, _PRODUCTS
        )
        if len(kept) == 6 and not isinstance(source, _PRODUCTS):
            left_out = np.setdiff1d(np.flatnonzero(scores[place] == kept[-1]), brought)
            assert (left_out > brought[kept == kept[-1]].max()).all()


def test_a_batch_answers_as_each_request_alone(source: CandidateSource) -> None:
    asked, shown = source.ask(_REQUEST), some(_COUNT)
    scores, best = scores_of(asked, _COUNT), asked.best(5, shown)
    for place in range(_COUNT):
        alone = source.ask(single(_REQUEST, place))
        np.testing.assert_allclose(scores_of(alone, 1)[0], scores[place], rtol=1e-6, atol=1e-7)
        own = slice(shown.excluded_offsets[place], shown.excluded_offsets[place + 1])
        shown_alone = Shown(
            shown.retrievable,
            np.array([0, own.stop - own.start], np.int64),
            shown.excluded_rows[own],
            shown.masks,
            shown.mask_of[place : place + 1],
        )
        np.testing.assert_allclose(scores[place, alone.best(5, shown_alone)[0]], scores[place, best[place]], rtol=1e-5)


def test_an_empty_batch_is_answered(source: CandidateSource) -> None:
    nobody = single(_REQUEST, 0)
    histories = replace(
        nobody.histories,
        offsets=np.zeros(1, np.int64),
        item_row=np.zeros(0, np.int32),
        time_s=np.zeros(0, np.int64),
        as_of_s=np.zeros(0, np.int64),
    )
    asked = source.ask(replace(nobody, histories=histories, attribute=nobody.attribute[:0]))
    assert asked.best(5, everything(0)).shape == (0, 5)
    asked.write_scores(np.zeros((0, 3), np.int32), np.zeros((0, 3), np.float32))


def test_rows_asked_for_twice_and_pads_are_scored_right(source: CandidateSource) -> None:
    asked = source.ask(_REQUEST)
    scores = scores_of(asked, _COUNT)
    rng = np.random.default_rng(2)
    rows = rng.integers(-1, ITEM_COUNT, (_COUNT, 50)).astype(np.int32)
    out = np.zeros(rows.shape, np.float32)
    asked.write_scores(rows, out)
    expected = np.where(rows >= 0, np.take_along_axis(scores, np.maximum(rows, 0), axis=1), 0)
    np.testing.assert_array_equal(out, expected)


def test_scores_are_written_into_columns_of_a_wider_array(source: CandidateSource) -> None:
    asked = source.ask(_REQUEST)
    rows = np.tile(np.arange(ITEM_COUNT, dtype=np.int32), (_COUNT, 1))
    wider = np.zeros((_COUNT, ITEM_COUNT, 3), np.float32)
    asked.write_scores(rows, wider[:, :, 1])
    np.testing.assert_array_equal(wider[:, :, 1], scores_of(asked, _COUNT))
    assert not wider[:, :, [0, 2]].any()


def test_arrays_come_back_as_the_same_source(case: str, source: CandidateSource) -> None:
    kept = {key: array.copy() for key, array in source.arrays().items()}
    for array in kept.values():
        array.flags.writeable = False  # as mapped from a file
    again = type(source).from_arrays(kept)
    assert sorted(again.arrays()) == sorted(kept)
    for key, array in again.arrays().items():
        np.testing.assert_array_equal(array, kept[key])
        assert array.dtype == kept[key].dtype
    ours, theirs = source.ask(_REQUEST), again.ask(_REQUEST)
    np.testing.assert_array_equal(scores_of(theirs, _COUNT), scores_of(ours, _COUNT))
    np.testing.assert_array_equal(theirs.best(9, some(_COUNT)), ours.best(9, some(_COUNT)))
    if case in CASES:
        assert type(source) is KINDS[CASES[case][0]].form


def _damaged(array: np.ndarray) -> dict[str, np.ndarray]:
    """The array with one thing wrong."""
    other = np.float32 if array.dtype != np.float32 else np.int32
    damaged = {"type": array.astype(other), "axes": array[None]}
    if array.size:
        first = array.copy()
        first.flat[0] = np.nan if array.dtype.kind == "f" else -1
        damaged["value"] = first
        damaged["length"] = array[1:]
    return damaged


def test_damaged_arrays_are_refused_by_name(source: CandidateSource) -> None:
    whole = source.arrays()
    for name, array in whole.items():
        with pytest.raises(SourceInvalid, match=name):
            type(source).from_arrays({key: value for key, value in whole.items() if key != name})
        for damage, wrong in _damaged(array).items():
            assert _is_refused(source, {**whole, name: wrong}), f"array {name} with a wrong {damage} was taken"


def _is_refused(source: CandidateSource, arrays: dict[str, np.ndarray]) -> bool:
    try:
        type(source).from_arrays(arrays)
    except SourceInvalid as error:
        return "array" in str(error)
    return False


def test_rows_that_are_not_there_are_refused(source: CandidateSource) -> None:
    whole = source.arrays()
    for name, array in whole.items():
        if array.dtype == np.int32 and array.size and name != "codes":
            wrong = array.copy()
            wrong.flat[-1] = 1_000_000
            with pytest.raises(SourceInvalid, match=name):
                type(source).from_arrays({**whole, name: wrong})


def test_in_another_order_it_gives_the_same_answers(source: CandidateSource) -> None:
    order = np.random.default_rng(4).permutation(ITEM_COUNT).astype(np.int32)
    place = np.empty(ITEM_COUNT, np.int32)
    place[order] = np.arange(ITEM_COUNT, dtype=np.int32)
    other = source.reordered(order, place)
    asked = other.ask(with_rows(_REQUEST, place[_REQUEST.histories.item_row]))
    before = scores_of(source.ask(_REQUEST), _COUNT)
    np.testing.assert_array_equal(scores_of(asked, _COUNT)[:, place], before)
    best, shown = asked.best(8, everything(_COUNT)), everything(_COUNT)
    assert_best(np.where(best >= 0, order[best], -1).astype(np.int32), before, shown, 8)
    for name, array in other.reordered(place, order).arrays().items():
        np.testing.assert_array_equal(array, source.arrays()[name])
    type(source).from_arrays(other.arrays())


def test_rows_that_no_old_row_stands_for_have_no_scores(source: CandidateSource) -> None:
    order = np.concatenate([[ITEM_COUNT], np.arange(ITEM_COUNT), [ITEM_COUNT + 1]]).astype(np.int32)
    wider = source.reordered(order, np.arange(1, ITEM_COUNT + 1, dtype=np.int32))
    rows = (_REQUEST.histories.item_row + 1).astype(np.int32)
    rows[::5] = 0  # the new item is in the histories, too
    asked = wider.ask(with_rows(_REQUEST, rows))
    scores = scores_of(asked, _COUNT, ITEM_COUNT + 2)
    assert not scores[:, [0, -1]].any()
    assert_best(asked.best(7, everything(_COUNT, ITEM_COUNT + 2)), scores, everything(_COUNT, ITEM_COUNT + 2), 7)


def test_rows_that_appeared_later_are_ignored(source: CandidateSource) -> None:
    """A generation serves on while items are added behind its own; histories and candidates then name them."""
    rows = _REQUEST.histories.item_row.copy()
    rows[::3] += 1_000
    mixed = with_rows(_REQUEST, rows)
    asked, count = source.ask(mixed), ITEM_COUNT + 1_000
    np.testing.assert_allclose(scores_of(asked, _COUNT), dense_scores(source, mixed), rtol=2e-5, atol=1e-6)
    wide = scores_of(asked, _COUNT, count)
    assert not wide[:, ITEM_COUNT:].any()
    assert_best(asked.best(6, some(_COUNT, item_count=count)), wide, some(_COUNT, item_count=count), 6)


def test_fitting_twice_gives_the_same(case: str, source: CandidateSource) -> None:
    for name, array in _fit(case, SourceLog.of(shop(), UNTIL_S)).arrays().items():
        np.testing.assert_array_equal(array, source.arrays()[name])


def test_what_happens_from_until_s_on_is_not_seen(case: str, source: CandidateSource) -> None:
    for name, array in _fit(case, SourceLog.of(shop(with_later=False), UNTIL_S)).arrays().items():
        np.testing.assert_array_equal(array, source.arrays()[name])


@pytest.mark.parametrize("name", NAMES)
def test_a_log_without_events_is_fitted(name: str) -> None:
    settings = _settings(segment=_SEGMENTS)
    source = fit_sources(SourceLog.of(_DATA, -1), (name,), settings, seed=3)[name]
    type(source).from_arrays(source.arrays())
    asked = source.ask(_REQUEST)
    scores = scores_of(asked, _COUNT)
    np.testing.assert_allclose(scores, dense_scores(source, _REQUEST), rtol=2e-5, atol=1e-6)
    assert_best(asked.best(4, everything(_COUNT)), scores, everything(_COUNT), 4)


def test_items_without_events_are_reached_by_what_the_catalogue_says() -> None:
    content = _fit("content", _LOG)
    assert scores_of(content.ask(_REQUEST), _COUNT)[:, -COLD_COUNT:].any()
    assert not scores_of(_fit("item_item", _LOG).ask(_REQUEST), _COUNT)[:, -COLD_COUNT:].any()


def test_all_sources_travel_in_one_file_of_arrays() -> None:
    settings = _settings(segment=_SEGMENTS)
    fitted = fit_sources(_LOG, NAMES, settings, seed=3)
    again = sources_from_arrays(source_arrays(fitted))
    assert list(again) == list(fitted) == list(NAMES)
    for name, source in fitted.items():
        for key, array in source.arrays().items():
            np.testing.assert_array_equal(again[name].arrays()[key], array)
    with pytest.raises(SourceInvalid, match=r"no sources \['weather'\]"):
        sources_from_arrays({"weather/rows": np.zeros(1)})
    with pytest.raises(SourceInvalid, match="source item_item: array rows"):
        sources_from_arrays({key: array for key, array in source_arrays(fitted).items() if key != "item_item/rows"})
