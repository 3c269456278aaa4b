"""Candidates of requests with filters, against a loop over every item."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.towers.exact_retriever import SortingRetriever
from tests.towers.random_logs import ITEM_COUNT, Asked
from tests.towers.test_candidates import (
    LINE,
    catalogues,
    exclusions_of,
    found,
    most_bought,
    nearest,
    purchases_of,
    requests,
    settings_of,
    table_of,
)
from towers.candidates import BUY_AGAIN, POPULAR, SIMILAR, TWO_TOWER, Candidates, ItemTable, find_candidates
from towers.features.purchases import Purchases
from towers.retrieval import Allowed, Confined
from towers.settings import CandidateSettings

Mask = np.ndarray
NOBODY = np.zeros(ITEM_COUNT, np.bool_)


def confined(items: ItemTable, rows: Mask) -> Confined:
    return Confined(rows, SortingRetriever(replace(items, retrievable=items.retrievable & rows)))


def allowed_of(items: ItemTable, masks: list[Mask], of_request: list[int], wanted: list[int]) -> Allowed:
    return Allowed(
        tuple(confined(items, mask) for mask in masks), np.array(of_request, np.int64), np.array(wanted, np.int64)
    )


def find(
    settings: CandidateSettings, masks: list[Mask], of_request: list[int], wanted: int = 1, items: ItemTable = LINE
) -> Candidates:
    """A user at 1 for each request, who bought items 6 and 2; the first excludes item 5."""
    count = len(of_request)
    return find_candidates(
        np.ones((count, 1), np.float32),
        purchases_of(*[[(6, 1), (2, 2)]] * count),
        items,
        SortingRetriever(items),
        settings,
        exclusions_of([(0, 5)], count),
        None,
        allowed_of(items, masks, of_request, [wanted] * count),
    )


def rows_of(*rows: int) -> Mask:
    mask = NOBODY.copy()
    mask[list(rows)] = True
    return mask


def test_every_source_brings_what_the_request_s_filter_allows() -> None:
    candidates = find(settings_of(2, 2, 2), [rows_of(1, 2, 5), rows_of(0, 6)], [0, -1, 1])
    assert found(candidates) == [
        {1: TWO_TOWER | POPULAR, 2: TWO_TOWER | BUY_AGAIN},
        {6: TWO_TOWER | BUY_AGAIN, 5: TWO_TOWER, 2: BUY_AGAIN, 3: POPULAR, 0: POPULAR},
        {6: TWO_TOWER | BUY_AGAIN | POPULAR, 0: TWO_TOWER | POPULAR},
    ]


def test_a_filtered_page_is_filled_by_the_two_towers_where_too_few_popular_items_fit() -> None:
    candidates = find(settings_of(popular=3), [rows_of(1, 2, 4, 5), NOBODY], [0, -1, 1], wanted=3)
    assert found(candidates) == [
        {1: TWO_TOWER | POPULAR, 2: TWO_TOWER, 4: TWO_TOWER},
        {3: POPULAR, 0: POPULAR, 6: POPULAR},
        {},
    ]


def test_popular_is_walked_as_deep_as_it_takes() -> None:
    items = table_of(LINE.vectors, popular=[6, 5, 4, 3, 2, 1, 0], retrievable=[True] * ITEM_COUNT)
    candidates = find(settings_of(popular=1), [rows_of(0)], [0], wanted=0, items=items)
    assert found(candidates) == [{0: POPULAR}]


def test_rows_that_are_not_retrievable_any_more_come_from_no_source() -> None:
    live = LINE.retrievable.copy()
    items = replace(LINE, retrievable=live)
    retriever = SortingRetriever(items)  # as an index that was built before
    live[[6, 3]] = False
    candidates = find_candidates(
        np.ones((1, 1), np.float32),
        purchases_of([(6, 1), (2, 2)]),
        items,
        retriever,
        settings_of(3, 3, 3, 3),
        exclusions_of([], 1),
        np.array([[6]], np.int32),
    )
    assert found(candidates)[0].keys() == {5, 4, 2, 0, 1}
    assert candidates.sources[0][candidates.rows[0] == 1] == POPULAR


@st.composite
def filters(draw: st.DrawFn, count: int) -> tuple[list[Mask], list[int], list[int]]:
    rows = st.lists(st.booleans(), min_size=ITEM_COUNT, max_size=ITEM_COUNT).map(np.array)
    masks = draw(st.lists(rows, max_size=3))
    of_request = draw(st.lists(st.integers(-1, len(masks) - 1), min_size=count, max_size=count))
    return masks, of_request, draw(st.lists(st.integers(1, ITEM_COUNT), min_size=count, max_size=count))


@given(
    catalogues(),
    requests(),
    st.builds(settings_of, *[st.integers(0, ITEM_COUNT + 2)] * 4),
    st.data(),
)
def test_a_loop_over_every_item_finds_the_same(
    items: ItemTable,
    request: tuple[Asked, list[tuple[int, int]], np.ndarray, np.ndarray],
    settings: CandidateSettings,
    data: st.DataObject,
) -> None:
    case, excluded, vectors, seeds = request
    purchases = Purchases.of(case.batch())
    masks, of_request, wanted = data.draw(filters(len(vectors)))
    together = found(
        find_candidates(
            vectors,
            purchases,
            items,
            SortingRetriever(items),
            settings,
            exclusions_of(excluded, len(vectors)),
            seeds,
            allowed_of(items, masks, of_request, wanted),
        )
    )
    for place, bits_of in enumerate(together):
        mask = masks[of_request[place]] if of_request[place] >= 0 else ~NOBODY
        forbidden = {row for owner, row in excluded if owner == place}
        present = [row for row in seeds[place].tolist() if row >= 0]
        near_count = settings.two_tower
        if of_request[place] >= 0 and not (present and wanted[place] <= settings.similar):
            near_count = max(near_count, wanted[place])
        brought = [
            (TWO_TOWER, nearest(items, vectors[place]), near_count),
            (BUY_AGAIN, most_bought(purchases, place), settings.buy_again),
            (POPULAR, items.popular.tolist(), settings.popular),
        ]
        if present:
            mean = items.vectors[present].sum(axis=0, dtype=np.float32)
            brought.append((SIMILAR, nearest(items, mean), settings.similar))
        expected: dict[int, int] = {}
        may = [row for row in range(ITEM_COUNT) if items.retrievable[row] and mask[row] and row not in forbidden]
        for bit, rows, k in brought:
            for row in [row for row in rows if row in may][:k]:
                expected[row] = expected.get(row, 0) | bit
        assert bits_of == expected
        if of_request[place] >= 0:
            assert len(bits_of) >= min(wanted[place], len(may))
