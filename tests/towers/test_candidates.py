from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.towers.exact_retriever import SortingRetriever
from tests.towers.random_logs import DAY_S, ITEM_COUNT, PURCHASE, Asked, asked, histories_of
from towers import candidates as module
from towers.candidates import BUY_AGAIN, POPULAR, SIMILAR, TWO_TOWER, Candidates, Exclusions, ItemTable, find_candidates
from towers.features.purchases import Purchases
from towers.settings import CandidateSettings

NOW = 100 * DAY_S
NOTHING: list[tuple[int, int]] = []


def table_of(vectors: np.ndarray, popular: list[int], retrievable: list[bool]) -> ItemTable:
    return ItemTable(
        vectors=vectors.astype(np.float32),
        statistics=np.zeros((len(vectors), 1), np.float32),
        affinity=np.zeros((len(vectors), 0), np.int32),
        affinity_counts=np.zeros(0, np.int64),
        popular=np.array([row for row in popular if retrievable[row]], np.int32),
        retrievable=np.array(retrievable),
    )


# Items on a line: a user at 1 likes item 6 best, then 5, …; a user at -1 the other way round.
LINE = table_of(np.linspace(-1, 1, ITEM_COUNT)[:, None], popular=[3, 0, 6, 1], retrievable=[True] * ITEM_COUNT)


def purchases_of(*baskets: list[tuple[int, float]]) -> Purchases:
    """One request for each list of (item row, days ago)."""
    users = [sorted(((row, PURCHASE, NOW - int(days * DAY_S)) for row, days in b), key=lambda e: e[2]) for b in baskets]
    count = len(users)
    return Purchases.of(Asked(histories_of(users), list(range(count)), [NOW] * count, [None] * count).batch())


def exclusions_of(pairs: list[tuple[int, int]], request_count: int) -> Exclusions:
    request, row = np.array(pairs, np.int64).reshape(-1, 2).T
    return Exclusions.of(request, row, request_count)


def found(candidates: Candidates) -> list[dict[int, int]]:
    """For each request its rows and the bits of their sources; the pads left out."""
    return [
        {row: bits for row, bits in zip(rows.tolist(), sources.tolist(), strict=True) if row >= 0}
        for rows, sources in zip(candidates.rows, candidates.sources, strict=True)
    ]


def settings_of(two_tower: int = 0, buy_again: int = 0, popular: int = 0, similar: int = 0) -> CandidateSettings:
    return CandidateSettings(two_tower=two_tower, buy_again=buy_again, popular=popular, similar=similar)


def find(
    settings: CandidateSettings,
    users: list[float],
    purchases: Purchases,
    excluded: list[tuple[int, int]] = NOTHING,
    seeds: list[list[int]] | None = None,
    items: ItemTable = LINE,
) -> Candidates:
    return find_candidates(
        np.array(users, np.float32)[:, None],
        purchases,
        items,
        SortingRetriever(items),
        settings,
        exclusions_of(excluded, len(users)),
        np.array(seeds, np.int32) if seeds is not None else None,
    )


def test_an_item_that_several_sources_bring_stands_once_with_all_their_bits() -> None:
    purchases = purchases_of([(6, 1), (2, 2)])
    candidates = find(settings_of(2, 2, 3, 2), [1.0], purchases, seeds=[[6, -1]])
    assert found(candidates) == [
        {
            0: POPULAR,
            2: BUY_AGAIN,
            3: POPULAR,
            5: TWO_TOWER | SIMILAR,
            6: TWO_TOWER | BUY_AGAIN | POPULAR | SIMILAR,
        }
    ]
    assert candidates.rows.tolist() == [[0, 2, 3, 5, 6]]


def test_pads_stand_at_the_end_and_the_width_is_that_of_the_fullest_request() -> None:
    candidates = find(settings_of(buy_again=5), [1.0, 1.0, 1.0], purchases_of([(4, 1)], [(5, 1), (1, 2), (2, 3)], []))
    assert candidates.rows.tolist() == [[4, -1, -1], [1, 2, 5], [-1, -1, -1]]
    assert candidates.rows.dtype == np.int32


def test_excluded_items_leave_their_places_to_the_next() -> None:
    purchases = purchases_of([(6, 1), (5, 2), (4, 3)], [(6, 1), (5, 2), (4, 3)])
    everything = settings_of(2, 2, 2, 2)
    excluded = [(0, 6), (0, 5), (0, 3), (0, 0)]
    candidates = found(find(everything, [1.0, 1.0], purchases, excluded, seeds=[[6, -1], [-1, -1]]))
    assert candidates[0] == {4: TWO_TOWER | BUY_AGAIN | SIMILAR, 2: TWO_TOWER | SIMILAR, 1: POPULAR}
    assert candidates[1] == {6: TWO_TOWER | BUY_AGAIN, 5: TWO_TOWER | BUY_AGAIN, 3: POPULAR, 0: POPULAR}


def test_popular_goes_on_behind_what_is_excluded() -> None:
    excluded = [(0, 3), (0, 0)]
    assert found(find(settings_of(popular=2), [1.0, 1.0], purchases_of([], []), excluded)) == [
        {6: POPULAR, 1: POPULAR},
        {3: POPULAR, 0: POPULAR},
    ]


def test_buy_again_takes_the_highest_decayed_frequency_and_equal_ones_by_row() -> None:
    # Halved every 60 days: item 1 has 1/2 + 1/4, item 5 the root of 1/2, items 2 and 4 have 1/2 each.
    purchases = purchases_of([(1, 120), (1, 60), (5, 30), (4, 60), (2, 60)])
    assert purchases.groups.item_row.tolist() == [1, 2, 4, 5]
    assert purchases.decayed_slow.tolist() == pytest.approx([0.75, 0.5, 0.5, 0.5**0.5])
    for count, rows in [(1, [1]), (2, [1, 5]), (3, [1, 2, 5]), (4, [1, 2, 4, 5])]:
        assert find(settings_of(buy_again=count), [1.0], purchases).rows.tolist() == [rows]


def test_items_that_may_not_be_recommended_come_from_no_source() -> None:
    items = table_of(LINE.vectors, popular=[3, 0, 6, 1], retrievable=[True, True, True, True, True, False, False])
    candidates = find(settings_of(2, 5, 2, 2), [1.0], purchases_of([(6, 1), (5, 1)]), seeds=[[6]], items=items)
    assert found(candidates) == [{0: POPULAR, 3: TWO_TOWER | POPULAR | SIMILAR, 4: TWO_TOWER | SIMILAR}]


def test_everything_excluded_leaves_no_candidate() -> None:
    excluded = [(0, row) for row in range(ITEM_COUNT)]
    candidates = find(settings_of(3, 3, 3, 3), [1.0], purchases_of([(6, 1)]), excluded, seeds=[[6]])
    assert candidates.rows.shape == (1, 0)
    assert candidates.sources.shape == (1, 0)


def test_no_source_and_no_request_are_no_candidates() -> None:
    assert find(settings_of(), [1.0, 1.0], purchases_of([(6, 1)], [])).rows.shape == (2, 0)
    nobody = find(settings_of(3, 3, 3), [], Purchases.of(Asked(histories_of([[]]), [], [], []).batch()))
    assert len(nobody.rows) == 0


def test_shoppers_who_exclude_more_than_the_search_is_deepened_for_get_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXCLUDED_EXTRA_MAX", 0)
    excluded = [(0, 6), (0, 5), (1, 6)]
    assert found(find(settings_of(two_tower=2), [1.0, 1.0], purchases_of([], []), excluded)) == [
        {},
        {5: TWO_TOWER},
    ]


def test_repeated_exclusions_count_once() -> None:
    pairs = [(1, 2), (1, 2), (0, 6)]
    exclusions = exclusions_of(pairs, 3)
    assert exclusions.count.tolist() == [1, 1, 0]
    assert exclusions.offsets.tolist() == [0, 1, 2, 2]
    assert exclusions.rows.tolist() == [6, 2]
    assert found(find(settings_of(popular=2, two_tower=1), [1.0, 1.0, 1.0], purchases_of([], [], []), pairs)) == [
        {5: TWO_TOWER, 3: POPULAR, 0: POPULAR},
        {6: TWO_TOWER, 3: POPULAR, 0: POPULAR},
        {6: TWO_TOWER, 3: POPULAR, 0: POPULAR},
    ]


def test_exclusions_are_ascending_and_each_stands_once_in_its_request() -> None:
    exclusions = exclusions_of([(2, 5), (0, 3), (2, 1), (2, 5), (0, 0)], 4)
    assert exclusions.offsets.tolist() == [0, 2, 2, 4, 4]
    assert exclusions.rows.tolist() == [0, 3, 1, 5]
    assert exclusions.count.tolist() == [2, 0, 2, 0]
    none = exclusions_of([], 2)
    assert (none.offsets.tolist(), none.rows.tolist()) == ([0, 0, 0], [])


def test_a_request_is_held_by_its_own_exclusions_and_by_no_other() -> None:
    purchases = purchases_of([(6, 1), (5, 2)], [(6, 1), (5, 2)])
    for excluded in ([(0, 6)], [(1, 6)]):
        candidates = found(find(settings_of(buy_again=2), [1.0, 1.0], purchases, excluded))
        [(request, row)] = excluded
        assert row not in candidates[request]
        assert candidates[1 - request] == {6: BUY_AGAIN, 5: BUY_AGAIN}


_ROWS = st.integers(0, ITEM_COUNT - 1)
_COUNTS = st.integers(0, ITEM_COUNT + 2)


@st.composite
def catalogues(draw: st.DrawFn) -> ItemTable:
    """A catalogue of which some may be recommended, in a random order of popularity."""
    random = np.random.default_rng(draw(st.integers(0, 1_000)))
    retrievable = draw(st.lists(st.booleans(), min_size=ITEM_COUNT, max_size=ITEM_COUNT))
    return table_of(random.normal(size=(ITEM_COUNT, 3)), draw(st.permutations(range(ITEM_COUNT))), retrievable)


@st.composite
def requests(draw: st.DrawFn) -> tuple[Asked, list[tuple[int, int]], np.ndarray, np.ndarray]:
    """A log and requests to it, what they exclude, their users' vectors and seeds."""
    case = draw(asked())
    count = len(case.user_rows)
    excluded = draw(st.lists(st.tuples(st.integers(0, count - 1), _ROWS), max_size=2 * ITEM_COUNT))
    random = np.random.default_rng(draw(st.integers(0, 1_000)))
    seeds = draw(
        st.lists(st.lists(st.integers(-1, ITEM_COUNT - 1), min_size=2, max_size=2), min_size=count, max_size=count)
    )
    return case, excluded, random.normal(size=(count, 3)).astype(np.float32), np.array(seeds, np.int32)


@given(catalogues(), requests(), st.builds(settings_of, _COUNTS, _COUNTS, _COUNTS, _COUNTS))
def test_a_loop_over_every_item_finds_the_same(
    items: ItemTable,
    request: tuple[Asked, list[tuple[int, int]], np.ndarray, np.ndarray],
    settings: CandidateSettings,
) -> None:
    case, excluded, vectors, seeds = request
    purchases = Purchases.of(case.batch())
    together = find_candidates(
        vectors, purchases, items, SortingRetriever(items), settings, exclusions_of(excluded, len(vectors)), seeds
    )
    for place, bits_of in enumerate(found(together)):
        forbidden = {row for owner, row in excluded if owner == place}
        brought = [
            (TWO_TOWER, nearest(items, vectors[place]), settings.two_tower),
            (BUY_AGAIN, most_bought(purchases, place), settings.buy_again),
            (POPULAR, items.popular.tolist(), settings.popular),
        ]
        present = [row for row in seeds[place].tolist() if row >= 0]
        if present:
            mean = items.vectors[present].sum(axis=0, dtype=np.float32)
            brought.append((SIMILAR, nearest(items, mean), settings.similar))
        expected: dict[int, int] = {}
        for bit, rows, k in brought:
            for row in [row for row in rows if items.retrievable[row] and row not in forbidden][:k]:
                expected[row] = expected.get(row, 0) | bit
        assert bits_of == expected


def nearest(items: ItemTable, vector: np.ndarray) -> list[int]:
    """All rows, by inner product."""
    scores = (items.vectors.astype(np.float64) * vector.astype(np.float64)).sum(axis=1).tolist()
    return sorted(range(ITEM_COUNT), key=lambda row: (-scores[row], row))


def most_bought(purchases: Purchases, request: int) -> list[int]:
    """The request's bought rows, by decayed frequency."""
    own = np.flatnonzero(purchases.groups.request == request)
    weights = dict(zip(purchases.groups.item_row[own].tolist(), purchases.decayed_slow[own].tolist(), strict=True))
    return sorted(weights, key=lambda row: (-weights[row], row))


@given(catalogues(), requests(), st.builds(settings_of, _COUNTS, _COUNTS, _COUNTS, _COUNTS))
def test_a_batch_is_its_single_requests(
    items: ItemTable,
    request: tuple[Asked, list[tuple[int, int]], np.ndarray, np.ndarray],
    settings: CandidateSettings,
) -> None:
    case, excluded, vectors, seeds = request
    retriever = SortingRetriever(items)
    together = find_candidates(
        vectors,
        Purchases.of(case.batch()),
        items,
        retriever,
        settings,
        exclusions_of(excluded, len(vectors)),
        seeds,
    )
    for place, bits_of in enumerate(found(together)):
        one = slice(place, place + 1)
        alone = find_candidates(
            vectors[one],
            Purchases.of(case.single(place)),
            items,
            retriever,
            settings,
            exclusions_of([(0, row) for owner, row in excluded if owner == place], 1),
            seeds[one] if (seeds[place] >= 0).any() else None,
        )
        assert found(alone) == [bits_of]
