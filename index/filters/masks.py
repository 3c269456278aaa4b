"""From an expression to the rows that it allows: computed once, kept, and kept right when single rows change.

A mask of a million rows takes about a millisecond to compute and a megabyte to keep; the next request with the same
filter finds it. A row that changes is evaluated again in every mask that is kept, and in no other.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from index.filters.attributes import AttributeKind, AttributeTable, Value
from index.filters.expressions import AllOf, AnyOf, Available, Equals, Expression, In, Not, Range
from index.filters.search import EXACT_COUNT_MAX

MASKS_SIZE_BYTES_MAX = 64 * 2**20
"""Sixty-four filters of a million items; shops use some dozens."""

Bools = npt.NDArray[np.bool_]
_Rows = slice | npt.NDArray[np.int64]
_EVERY = slice(None)


class Mask:
    """The rows that one expression allows.

    Attributes:
        allowed: (n,) bool, for reading alone: it changes when rows do. count: how many rows are allowed.
    """

    __slots__ = ("_rows", "allowed", "count")

    def __init__(self, allowed: Bools) -> None:
        self.allowed = allowed
        self.count = int(np.count_nonzero(allowed))
        self._rows: npt.NDArray[np.int32] | None = None

    @property
    def rows(self) -> npt.NDArray[np.int32] | None:
        """The allowed rows, ascending, where there are so few that they are searched one by one; else None."""
        if self.count > EXACT_COUNT_MAX:
            return None
        rows = self._rows
        if rows is None:
            rows = self._rows = np.flatnonzero(self.allowed).astype(np.int32)
        return rows

    def change(self, where: npt.NDArray[np.int64], now: Bools) -> None:
        """The rows `where` (r,), each once, are allowed or not from now on."""
        self.count += int(np.count_nonzero(now)) - int(np.count_nonzero(self.allowed[where]))
        self.allowed[where] = now
        self._rows = None


class Masks:
    """The masks of one generation's table; safe from any thread."""

    def __init__(self, table: AttributeTable, retrievable: Bools, size_bytes_max: int = MASKS_SIZE_BYTES_MAX) -> None:
        """`retrievable` (n,): what may appear at all; the array that rows are taken off by, not a copy."""
        self._table, self._retrievable = table, retrievable
        self._size_bytes_max = size_bytes_max
        self._masks: OrderedDict[Expression, Mask] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._masks)

    @property
    def table(self) -> AttributeTable:
        """The attributes."""
        return self._table

    def of(self, expression: Expression) -> Mask:
        """The mask of an expression that has been checked against the table's attributes."""
        with self._lock:
            mask = self._masks.get(expression)
            if mask is not None:
                self._masks.move_to_end(expression)
                return mask
            mask = Mask(evaluate(expression, self._table, self._retrievable, _EVERY))
            self._masks[expression] = mask
            room = max(1, self._size_bytes_max // max(1, mask.allowed.nbytes))
            while len(self._masks) > room:
                self._masks.popitem(last=False)
            return mask

    def changed(self, rows: Sequence[int]) -> None:
        """Evaluates these rows again in every mask, after their attributes or `retrievable` changed."""
        where = np.unique(np.asarray(rows, np.int64))
        with self._lock:
            for expression, mask in self._masks.items():
                mask.change(where, evaluate(expression, self._table, self._retrievable, where))


def evaluate(expression: Expression, table: AttributeTable, retrievable: Bools, rows: _Rows) -> Bools:
    """(r,) which of the rows are retrievable and fit an expression that has been checked."""
    available = retrievable[rows]
    return _holds(expression, table, available, rows) & available


def _holds(expression: Expression, table: AttributeTable, available: Bools, rows: _Rows) -> Bools:
    if isinstance(expression, Equals):
        return _one_of(expression.attribute, (expression.value,), table, rows)
    if isinstance(expression, In):
        return _one_of(expression.attribute, expression.values, table, rows)
    if isinstance(expression, Range):
        numbers = table.numbers(expression.attribute)[rows]
        found: Bools = ~np.isnan(numbers)
        if expression.minimum is not None:
            found &= numbers >= _float32(expression.minimum)
        if expression.maximum is not None:
            found &= numbers <= _float32(expression.maximum)
        return found
    if isinstance(expression, AllOf):
        found = np.ones(len(available), np.bool_)
        for one in expression.filters:
            found &= _holds(one, table, available, rows)
        return found
    if isinstance(expression, AnyOf):
        found = np.zeros(len(available), np.bool_)
        for one in expression.filters:
            found |= _holds(one, table, available, rows)
        return found
    if isinstance(expression, Not):
        return ~_holds(expression.filter, table, available, rows)
    assert isinstance(expression, Available)
    return available.copy() if expression.value else ~available


def _one_of(name: str, values: tuple[Value, ...], table: AttributeTable, rows: _Rows) -> Bools:
    """Whether the rows' attribute is one of the values."""
    if table.kinds[name] is AttributeKind.CATEGORICAL:
        codes = table.codes(name)[rows]
        wanted = [code for code in (table.code(name, str(value)) for value in values) if code >= 0]
        if len(wanted) <= 1:
            return np.equal(codes, wanted[0] if wanted else -1)
        chosen: Bools = np.zeros(table.code_count(name), np.bool_)
        chosen[wanted] = True
        among: Bools = chosen[codes]
        return among
    numbers = table.numbers(name)[rows]
    return np.isin(numbers, np.array([_float32(float(value)) for value in values], np.float32))


def _float32(value: float) -> np.float32:
    """The number as the table keeps numbers, so that 19.9 equals the 19.9 of the catalogue; a huge one is infinite."""
    with np.errstate(over="ignore"):
        return np.float32(value)
