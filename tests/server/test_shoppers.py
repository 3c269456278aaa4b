"""From ids to arrays: inline events, context items, unknown ids, and what stood in the log before the request."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from index.generation.positions import LivePositions
from index.item_ids import ItemIds
from server.config import ContextItems
from server.domain import RecentEvent, RecommendQuery, ScoreQuery
from server.serving_model import ServingModel
from server.shoppers import Readied, ShopperReader
from server.state.recent import ShopperStates
from tests.server.real_engine import recommend, score_as
from tests.server.state.states import Did, states
from towers.features.histories import Histories
from towers.features.vocabularies import Vocabulary
from towers.learning_data import UserTable

VIEW, CART, PURCHASE = 0, 1, 2
NOW_S = 1_000


def tiny_serving(event_types: tuple[str, ...] = ("view", "cart", "purchase")) -> ServingModel:
    """Items a, b, c, d; ann viewed a at 100 and bought b at 200, bob bought c at 300; codes of both made up."""
    encoders = SimpleNamespace(event_types=event_types, target_codes=(event_types.index("purchase"),))
    features = SimpleNamespace(history_events_max=4)
    histories = Histories.from_events(
        np.array([0, 0, 1], np.int32),
        np.array([0, 1, 2], np.int32),
        np.array([VIEW, event_types.index("purchase"), event_types.index("purchase")], np.uint8),
        np.array([100, 200, 300]),
        user_count=2,
        target_types=encoders.target_codes,
    )
    users = UserTable(np.array([5, 6], np.int32), np.array([[1, 2], [3, 4]], np.int32))
    serving = SimpleNamespace(
        model=SimpleNamespace(encoders=encoders, settings=SimpleNamespace(features=features)),
        snapshot=SimpleNamespace(histories=histories, users=users),
        item_ids=ItemIds.from_ids(["a", "b", "c", "d"]),
        user_ids=ItemIds.from_ids(["ann", "bob"]),
        positions=LivePositions(files_until_s=301, log_until_ms=5_000, purges_until_ms=4_000),
        contexts={"device": Vocabulary(("desk", "phone")), "place": Vocabulary(("home",))},
    )
    return cast(ServingModel, serving)


def read(
    *queries: RecommendQuery | ScoreQuery,
    role: ContextItems = ContextItems.IGNORE,
    serving: ServingModel | None = None,
    known: ShopperStates | None = None,
) -> Readied:
    return ShopperReader(serving or tiny_serving()).read(queries, role, known)


def ask(user_id: str = "", now_s: float = NOW_S, **fields: Any) -> RecommendQuery:
    return recommend(user_id, request_time_s=now_s, **fields)


def events_of(readied: Readied, request: int = 0) -> list[tuple[int, int, int, bool]]:
    """(item row, type, time, is target) of one request's history."""
    log = readied.shoppers.histories
    part = slice(int(log.offsets[request]), int(log.offsets[request + 1]))
    columns = (log.item_row[part], log.event_type[part], log.time_s[part], log.is_target[part])
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_the_log_is_read_up_to_the_request_s_own_time() -> None:
    readied = read(ask("ann"), ask("ann", 200), ask("ann", 201), ask("ann", 100), ask("bob"), ask("nobody"))
    assert [events_of(readied, request) for request in range(6)] == [
        [(0, VIEW, 100, False), (1, PURCHASE, 200, True)],
        [(0, VIEW, 100, False)],
        [(0, VIEW, 100, False), (1, PURCHASE, 200, True)],
        [],
        [(2, PURCHASE, 300, True)],
        [],
    ]


def test_users_have_their_codes_and_strangers_have_none() -> None:
    shoppers = read(ask("bob"), ask("nobody"), ask("ann"), ask()).shoppers
    assert shoppers.bucket.tolist() == [6, 0, 5, 0]
    assert shoppers.attribute.tolist() == [[3, 4], [0, 0], [1, 2], [0, 0]]


def test_context_columns_become_codes() -> None:
    shoppers = read(
        ask(context={"device": "phone"}), ask(), ask(context={"device": "fridge", "place": "home"}), ask()
    ).shoppers
    assert shoppers.context.tolist() == [[2, 0], [0, 0], [0, 1], [0, 0]]


def test_inline_events_join_the_log_in_order_of_time() -> None:
    inline = (RecentEvent("c", "view", 150.9), RecentEvent("d", "purchase", 999.0), RecentEvent("a", "cart", 50.0))
    assert events_of(read(ask("ann", recent_events=inline[:2]))) == [
        (0, VIEW, 100, False),
        (2, VIEW, 150, False),
        (1, PURCHASE, 200, True),
        (3, PURCHASE, 999, True),
    ]
    assert events_of(read(ask(recent_events=inline))) == [
        (0, CART, 50, False),
        (2, VIEW, 150, False),
        (3, PURCHASE, 999, True),
    ]


def test_inline_events_of_unknown_items_or_types_are_left_out_and_those_ahead_count_as_now() -> None:
    inline = (RecentEvent("zz", "view", 10), RecentEvent("a", "stare", 10), RecentEvent("b", "purchase", 1_300))
    assert events_of(read(ask(recent_events=inline))) == [(1, PURCHASE, NOW_S, True)]


def test_only_the_newest_events_are_kept_and_inline_ones_count() -> None:
    inline = tuple(RecentEvent("d", "view", 500 + place) for place in range(6))
    kept = [(time_s, is_target) for _, _, time_s, is_target in events_of(read(ask("ann", recent_events=inline)))]
    views = [time_s for time_s, is_target in kept if not is_target]
    assert views == [502, 503, 504, 505]
    assert [time_s for time_s, is_target in kept if is_target] == [200]  # many views push no purchase out


@pytest.mark.parametrize(
    ("role", "event_type"), [(ContextItems.CART, CART), (ContextItems.SEED, VIEW), (ContextItems.IGNORE, None)]
)
def test_context_items_are_events_of_this_moment_that_are_no_purchases(
    role: ContextItems, event_type: int | None
) -> None:
    readied = read(ask("bob", context_item_ids=("d", "zz", "a")), ask(), role=role)
    bought = [(2, PURCHASE, 300, True)]
    if event_type is None:
        assert events_of(readied) == bought
        assert readied.seeds is None
        assert readied.excluded_row.tolist() == []
    else:
        assert events_of(readied) == [*bought, (3, event_type, NOW_S, False), (0, event_type, NOW_S, False)]
        assert readied.seeds is not None
        assert readied.seeds.tolist() == [[3, 0], [-1, -1]]
        assert (readied.excluded_request.tolist(), readied.excluded_row.tolist()) == ([0, 0], [3, 0])
    assert events_of(readied, 1) == []


def test_a_shop_without_carts_and_views_takes_context_items_for_its_target_type_yet_not_as_bought() -> None:
    serving = tiny_serving(("purchase",))
    for role in (ContextItems.CART, ContextItems.SEED):
        readied = read(ask(context_item_ids=("a",)), role=role, serving=serving)
        assert events_of(readied) == [(0, 0, NOW_S, False)]
        assert len(readied.shoppers.purchases.groups.item_row) == 0


def test_excluded_items_are_pairs_of_request_and_row() -> None:
    readied = read(
        ask(exclude_item_ids=("b", "zz", "b")),
        score_as(ask(context_item_ids=("a",)), ["a"]),
        ask(exclude_item_ids=("c",), context_item_ids=("d",)),
        role=ContextItems.CART,
    )
    pairs = list(zip(readied.excluded_request.tolist(), readied.excluded_row.tolist(), strict=True))
    assert pairs == [(0, 1), (0, 1), (1, 0), (2, 2), (2, 3)]


def test_which_requests_have_a_known_context_item() -> None:
    reader = ShopperReader(tiny_serving())
    queries = [ask(context_item_ids=ids) for ids in ((), ("zz",), ("zz", "a"), ("b",))]
    assert reader.has_known_context(queries) == [False, False, True, True]
    assert reader.has_known_context([]) == []


def test_recent_states_join_the_log_and_inline_events_in_order_of_time() -> None:
    known = states([Did("d", "purchase", 700, 6_000), Did("c", "view", 500, 6_001)], [])
    inline = (RecentEvent("a", "cart", 600.0),)
    readied = read(ask("ann", recent_events=inline), ask(recent_events=inline), known=known)
    logged = [(0, VIEW, 100, False), (1, PURCHASE, 200, True)]
    assert events_of(readied) == [*logged, (2, VIEW, 500, False), (0, CART, 600, False), (3, PURCHASE, 700, True)]
    assert events_of(readied, 1) == [(0, CART, 600, False)]
    assert readied.shoppers.purchases.groups.item_row.tolist() == [1, 3]


def test_a_visitor_whom_no_generation_knows_has_the_state_alone() -> None:
    known = states([Did("d", "view", 700, 6_000)])
    assert events_of(read(ask(visitor_id="cookie"), known=known)) == [(3, VIEW, 700, False)]


def test_a_purged_person_is_a_stranger_who_begins_anew() -> None:
    known = states([Did("d", "view", 700, 6_000)], [], purged_ms=[5_900, 4_000])
    readied = read(ask("ann"), ask("bob"), known=known)
    assert events_of(readied) == [(3, VIEW, 700, False)]
    assert events_of(readied, 1) == [(2, PURCHASE, 300, True)]  # purged before the generation was built
    assert readied.shoppers.bucket.tolist() == [0, 6]


def test_the_cart_of_the_state_is_the_context_where_the_request_names_none() -> None:
    known = states(*[[Did("d", "add_to_cart", 700, 6_000)]] * 3)
    readied = read(ask(), ask(context_item_ids=("a",)), ask("ann"), role=ContextItems.CART, known=known)
    assert readied.seeds is not None
    assert readied.seeds.tolist() == [[3], [0], [3]]
    assert readied.excluded_row.tolist() == [3, 0, 3]
    ignoring = read(ask(), known=states([Did("d", "add_to_cart", 700, 6_000)]))
    assert ignoring.seeds is None
