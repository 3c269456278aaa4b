"""One table for the whole tree of errors."""

from __future__ import annotations

import re
from collections.abc import Iterator

from google.rpc import code_pb2

import server.errors
from server.errors import EngineFault, InvalidRequest, TwinrankError, Violation
from server.status import TABLE, status_of


def descendants(kind: type[TwinrankError]) -> Iterator[type[TwinrankError]]:
    for child in kind.__subclasses__():
        yield child
        yield from descendants(child)


def test_every_error_has_a_code_and_a_reason_of_its_own() -> None:
    assert set(descendants(TwinrankError)) == set(TABLE)
    reasons = [reason for _, reason in TABLE.values()]
    assert len(set(reasons)) == len(reasons)
    assert all(re.fullmatch(r"[A-Z][A-Z_]+[A-Z]", reason) for reason in reasons)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = re.findall(r"[├└]── (\w+)", server.errors.__doc__ or "")
    assert sorted(drawn) == sorted(kind.__name__ for kind in descendants(TwinrankError))


def test_what_is_not_in_the_tree_is_internal_and_silent() -> None:
    for error in (KeyError("secret"), EngineFault("secret"), AssertionError("secret")):
        status = status_of(error, "r-1")
        assert status.code == code_pb2.INTERNAL
        assert status.message == "internal error; request_id r-1"
        assert status.is_fault


def test_the_message_counts_what_it_does_not_say() -> None:
    error = InvalidRequest([Violation("a", "is wrong"), Violation("b", "is wrong too")])
    assert status_of(error, "r").message == "a: is wrong (and 1 more)"
