"""A request's filter: protobuf in, an expression of `index.filters` out, every problem under its path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twinrank.v1 import filter_pb2 as pb

from index.filters import (
    AllOf,
    AnyOf,
    AttributeKind,
    Available,
    Equals,
    Expression,
    FilterLimits,
    In,
    Not,
    Range,
)
from index.filters.expressions import problems
from server.config import LimitsConfig
from server.errors import Violation
from server.fields import check_count, check_id, check_text

NO_ATTRIBUTES = (
    "this generation holds no attributes to filter by; publish one with `python -m index rebuild`, or send no filter"
)
_KINDS = "equals, is_in, range, all, any, negation, available"


class FilterDecoder:
    """Decodes filters for one generation."""

    def __init__(self, limits: LimitsConfig, kinds: Mapping[str, AttributeKind] | None) -> None:
        """`kinds`: the attributes of the generation's items, None where it has no table of them."""
        self._limits, self._kinds = limits, kinds
        self._sizes = FilterLimits(limits.filter_depth_max, limits.filter_conditions_max, limits.filter_values_max)

    def decode(self, message: pb.Filter, path: str, violations: list[Violation]) -> Expression | None:
        """The expression, or None and at least one violation."""
        if self._kinds is None:
            violations.append(Violation(path, NO_ATTRIBUTES))
            return None
        before = len(violations)
        expression = _Decoding(self._limits, violations, before).filter(message, path, 1)
        if expression is None or len(violations) > before:
            return None
        for problem in problems(expression, self._kinds, self._sizes):
            violations.append(Violation(f"{path}.{problem.path}" if problem.path else path, problem.description))
        return None if len(violations) > before else expression


class _Decoding:
    """One filter: what has been counted so far, and what was wrong."""

    def __init__(self, limits: LimitsConfig, violations: list[Violation], before: int) -> None:
        self._limits, self._violations, self._before = limits, violations, before
        self._count = 0

    def filter(self, message: pb.Filter, path: str, depth: int) -> Expression | None:
        """None once anything is wrong."""
        limits = self._limits
        self._count += 1
        if self._count > limits.filter_conditions_max:
            self._wrong(path, f"is one condition more than the {limits.filter_conditions_max} that are allowed")
            return None
        if depth > limits.filter_depth_max:
            self._wrong(path, f"lies deeper than the {limits.filter_depth_max} levels that are allowed")
            return None
        kind = message.WhichOneof("kind")
        if kind == "equals":
            attribute = self._attribute(message.equals.attribute, path + ".equals.attribute")
            value = self._value(message.equals.value, path + ".equals.value")
            return None if value is None else Equals(attribute, value)
        if kind == "is_in":
            return self._is_in(message.is_in, path + ".is_in")
        if kind == "range":
            return self._range(message.range, path + ".range")
        if kind == "all":
            parts = self._parts(message.all.filters, path + ".all.filters", depth)
            return None if parts is None else AllOf(parts)
        if kind == "any":
            parts = self._parts(message.any.filters, path + ".any.filters", depth)
            return None if parts is None else AnyOf(parts)
        if kind == "negation":
            negated = self.filter(message.negation.filter, path + ".negation.filter", depth + 1)
            return None if negated is None else Not(negated)
        if kind == "available":
            return Available(message.available)
        self._wrong(path, f"sets no condition; set one of {_KINDS}")
        return None

    def _wrong(self, path: str, description: str) -> None:
        self._violations.append(Violation(path, description))

    def _parts(self, filters: Sequence[pb.Filter], path: str, depth: int) -> tuple[Expression, ...] | None:
        parts = []
        for position, one in enumerate(filters):
            part = self.filter(one, f"{path}[{position}]", depth + 1)
            if part is None:
                return None  # one at a time: the rest of a large filter is not looked into
            parts.append(part)
        return tuple(parts)

    def _is_in(self, message: pb.InFilter, path: str) -> Expression | None:
        attribute = self._attribute(message.attribute, path + ".attribute")
        if not check_count(len(message.values), self._limits.filter_values_max, path + ".values", self._violations):
            return None
        values = [self._value(value, f"{path}.values[{at}]") for at, value in enumerate(message.values)]
        return In(attribute, tuple(value for value in values if value is not None))

    def _range(self, message: pb.RangeFilter, path: str) -> Expression:
        return Range(
            self._attribute(message.attribute, path + ".attribute"),
            message.minimum if message.HasField("minimum") else None,
            message.maximum if message.HasField("maximum") else None,
        )

    def _attribute(self, name: str, path: str) -> str:
        check_id(name, self._limits.filter_value_bytes_max, path, self._violations)
        return name

    def _value(self, message: pb.AttributeValue, path: str) -> str | float | None:
        kind = message.WhichOneof("kind")
        if kind == "text":
            check_text(message.text, self._limits.filter_value_bytes_max, path, self._violations)
            return message.text
        if kind == "number":
            return message.number
        self._wrong(path, "is not set; set text or number")
        return None
