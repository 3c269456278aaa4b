"""From states to a generation's rows and codes: what is new to it, in time and in place."""

from __future__ import annotations

import numpy as np
import pytest

from index.generation.positions import LivePositions
from index.item_ids import ItemIds
from server.state.recent import ShopperStates
from server.state.resolve import StateResolver
from tests.server.state.states import Did, states

VIEW, PURCHASE = 0, 1
NOW_S = np.array([1_000, 1_000])
ITEMS = ItemIds.from_ids(["a", "b", "c"])
POSITIONS = LivePositions(files_until_s=500, log_until_ms=10_000, purges_until_ms=50)
RESOLVER = StateResolver.of(ITEMS, POSITIONS, ["view", "purchase"], [PURCHASE])

Found = list[tuple[int, int, int, bool]]


def found(given: ShopperStates, skew_s: float = 0.0) -> list[Found]:
    extra = RESOLVER.events(given, NOW_S[: len(given)], skew_s)
    if extra is None:
        return [[] for _ in range(len(given))]
    events = extra.events
    columns = (events.item_row, events.event_type, events.time_s, events.is_target)
    rows = list(zip(*(column.tolist() for column in columns), strict=True))
    return [rows[begin:end] for begin, end in zip(extra.offsets[:-1], extra.offsets[1:], strict=True)]


def test_events_become_rows_and_codes_of_their_own_shoppers() -> None:
    given = states(
        [Did("b", "purchase", 900, 20_000), Did("a", "view", 800, 20_001)],
        [Did("c", "view", 700, 20_002)],
    )
    assert found(given) == [[(1, PURCHASE, 900, True), (0, VIEW, 800, False)], [(2, VIEW, 700, False)]]


@pytest.mark.parametrize(
    "known",
    [
        Did("a", "view", 900, 10_000),  # read from the log
        Did("a", "view", 499, 20_000),  # it stood in the files
        Did("zz", "view", 900, 20_000),
        Did("", "view", 900, 20_000),
        Did("a", "remove_from_cart", 900, 20_000),
        Did("a", "view", 1_001, 20_000),  # the future of a replay
    ],
)
def test_what_the_generation_knows_or_cannot_know_is_left_out(known: Did) -> None:
    new = Did("a", "view", 500, 10_001)
    assert found(states([known, new], [known])) == [[(0, VIEW, 500, False)], []]


def test_an_event_ahead_within_the_skew_counts_as_now() -> None:
    ahead = Did("a", "view", 1_030, 20_000)
    assert found(states([ahead]), skew_s=30) == [[(0, VIEW, 1_000, False)]]
    assert found(states([ahead]), skew_s=29) == [[]]


def test_a_type_that_the_model_never_saw_is_a_signal_and_no_goal() -> None:
    assert found(states([Did("a", "add_to_cart", 900, 20_000)])) == [[(0, PURCHASE, 900, False)]]


def test_no_events_are_nothing() -> None:
    assert RESOLVER.events(states([], []), NOW_S, 0.0) is None


def test_history_is_hidden_from_a_purge_on_until_a_generation_without_the_person() -> None:
    assert RESOLVER.hides_history(states([], [], purged_ms=[51, 50])).tolist() == [True, False]


@pytest.mark.parametrize(
    ("moves", "rows"),
    [
        ([("a", "add_to_cart", 1), ("b", "add_to_cart", 1)], [0, 1]),
        ([("a", "add_to_cart", 2), ("a", "remove_from_cart", 1)], [0]),
        ([("a", "add_to_cart", 2), ("a", "remove_from_cart", 2)], []),
        ([("a", "add_to_cart", 2), ("a", "purchase", 1), ("c", "add_to_cart", 1)], [2]),
        ([("a", "remove_from_cart", 1), ("a", "view", 1)], []),
        ([("zz", "add_to_cart", 1), ("b", "add_to_cart", 1)], [1]),
    ],
)
def test_the_cart_is_what_was_put_there_and_neither_taken_out_nor_bought(
    moves: list[tuple[str, str, float]], rows: list[int]
) -> None:
    given = [Did(item, kind, 900 + place, 1, quantity) for place, (item, kind, quantity) in enumerate(moves)]
    [cart] = RESOLVER.carts(states(given), NOW_S[:1], days=1)
    assert cart.tolist() == rows


def test_the_cart_goes_by_the_time_of_its_changes_and_forgets_old_ones() -> None:
    late = [Did("a", "purchase", 950, 1), Did("a", "add_to_cart", 900, 2), Did("b", "add_to_cart", 100, 3)]
    assert RESOLVER.carts(states(late), NOW_S[:1], days=1)[0].tolist() == [1]
    assert RESOLVER.carts(states(late), np.array([100 + 86_401]), days=1)[0].tolist() == []


def test_a_part_of_the_states_is_taken_in_the_order_asked() -> None:
    given = states([Did("a", "view", 900, 20_000)], [], [Did("b", "view", 901, 20_000), Did("c", "view", 902, 20_000)])
    assert given.take([0, 1, 2]) is given
    part = given.take([2, 0])
    assert part.offsets.tolist() == [0, 2, 3]
    assert part.events["time_s"].tolist() == [901, 902, 900]
    assert given.take([1]).offsets.tolist() == [0, 0]


def test_what_no_generation_holds_stays_new_after_the_log_was_read() -> None:
    """An update reads the log and leaves out visitors, and types that the model never saw."""
    read, unknown_type = Did("a", "view", 900, 9_000), Did("b", "wish", 900, 9_000)
    extra = RESOLVER.events(states([read, unknown_type], [read]), NOW_S, 0.0, np.array([True, False]))
    assert extra is not None
    assert extra.offsets.tolist() == [0, 1, 2]
    assert extra.events.item_row.tolist() == [1, 0]
