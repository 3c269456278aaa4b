"""How long an outage was, from the answers of new connections."""

from __future__ import annotations

from tests.benchmarks.freshness.probes import Probe, recovery_s, successes_in_a_row


def probe(began_s: float, failure: str = "", took_s: float = 0.5) -> Probe:
    return Probe(began_s, began_s + took_s, failure)


def test_without_a_failure_the_first_success_ends_it() -> None:
    assert recovery_s(10.0, [probe(11.0), probe(12.0)]) == 1.5


def test_a_success_before_the_last_failure_does_not() -> None:
    assert recovery_s(10.0, [probe(10.25), probe(11.0, "down"), probe(12.0), probe(13.0)]) == 2.5


def test_probes_that_began_before_the_kill_or_after_the_next_one_do_not_count() -> None:
    assert recovery_s(10.0, [probe(9.75, "down"), probe(11.0), probe(12.0, "down")], until_s=12.0) == 1.5


def test_a_service_that_has_not_come_back_has_no_time() -> None:
    assert recovery_s(10.0, [probe(11.0), probe(12.0, "down")]) is None
    assert recovery_s(10.0, []) is None


def test_probes_end_in_another_order_than_they_began() -> None:
    late = Probe(11.0, 13.0, "deadline")
    assert recovery_s(10.0, [Probe(11.5, 12.0, ""), late]) == 2.0


def test_successes_are_counted_back_to_the_last_failure_or_the_kill() -> None:
    probes = [probe(9.0), probe(10.0), probe(11.0, "down"), probe(12.0), probe(13.0)]
    assert successes_in_a_row(10.0, probes) == 2
    assert successes_in_a_row(12.5, probes) == 1
    assert successes_in_a_row(14.0, probes) == 0
