"""The comparison that decides whether the store lost or doubled something: it must see every kind of both."""

from __future__ import annotations

import pytest

from tests.benchmarks.freshness.ledger import Difference, Kept, Ledger, SentEvent, compare

STATE, USER, VISITOR = "tr:{00}:u:ann", "tr:{01}:u:bob", "tr:{02}:v:cookie"


def ledger_of(acknowledged: bool = True, keys: tuple[str, ...] = (STATE,)) -> Ledger:
    ledger = Ledger()
    ledger.add(SentEvent("e", 7, keys))
    if acknowledged:
        ledger.acknowledge(["e"], 10.0)
    return ledger


def kept(logged: int, **states: list[float]) -> Kept:
    names = {"state": STATE, "user": USER, "visitor": VISITOR}
    return Kept({"e": logged} if logged else {}, {names[name]: {7: found} for name, found in states.items()})


def nothing_but(**found: tuple[str, ...]) -> Difference:
    fields = dict.fromkeys(("lost", "doubled", "torn", "unacknowledged_kept", "in_both"), ())
    return Difference(**{**fields, **found})


def test_what_is_once_in_log_and_state_is_as_it_should_be() -> None:
    assert compare(ledger_of(), kept(1, state=[3.0])) == nothing_but()


@pytest.mark.parametrize("found", [kept(0), kept(1), kept(0, state=[3.0])])
def test_what_was_acknowledged_and_is_not_in_both_is_lost(found: Kept) -> None:
    assert compare(ledger_of(), found) == nothing_but(lost=("e",))


@pytest.mark.parametrize("acknowledged", [True, False])
@pytest.mark.parametrize("found", [kept(2, state=[3.0]), kept(1, state=[3.0, 4.0]), kept(1, state=[3.0, 3.0])])
def test_twice_is_too_much_acknowledged_or_not(found: Kept, acknowledged: bool) -> None:
    assert compare(ledger_of(acknowledged), found).doubled == ("e",)


def test_what_was_not_acknowledged_may_be_there_once_or_not_at_all_but_not_in_halves() -> None:
    assert compare(ledger_of(False), kept(0)) == nothing_but()
    assert compare(ledger_of(False), kept(1, state=[3.0])) == nothing_but(unacknowledged_kept=("e",))
    assert compare(ledger_of(False), kept(1)) == nothing_but(torn=("e",))
    assert compare(ledger_of(False), kept(0, state=[3.0])) == nothing_but(torn=("e",))


def test_who_signs_in_has_an_event_in_either_state_and_one_record_in_both_is_told_apart() -> None:
    ledger = ledger_of(keys=(USER, VISITOR))
    assert compare(ledger, kept(1, user=[3.0])) == nothing_but()
    assert compare(ledger, kept(1, visitor=[3.0])) == nothing_but()
    assert compare(ledger, kept(1, visitor=[3.0], user=[3.0])) == nothing_but(in_both=("e",))
    assert compare(ledger, kept(1, visitor=[3.0], user=[4.0])) == nothing_but(doubled=("e",))
    assert compare(ledger, kept(1, state=[3.0])) == nothing_but(lost=("e",))


def test_acknowledgements_after_the_moment_do_not_count() -> None:
    assert compare(ledger_of(), kept(0), until_s=10.0) == nothing_but()
    assert compare(ledger_of(), kept(0), until_s=10.1) == nothing_but(lost=("e",))


def test_the_first_acknowledgement_counts_and_an_event_is_added_once() -> None:
    ledger = ledger_of()
    ledger.acknowledge(["e"], 20.0)
    assert ledger.acknowledged_s == {"e": 10.0}
    assert ledger.state_keys == {STATE}
    with pytest.raises(ValueError, match="twice"):
        ledger.add(SentEvent("e", 8, (STATE,)))
