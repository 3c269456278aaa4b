"""Filters inside retrieval: items' attributes, the rows that an expression allows, search among these."""

from index.filters.attributes import AttributeKind, AttributesInvalid, AttributeTable
from index.filters.expressions import (
    AllOf,
    AnyOf,
    Available,
    Equals,
    Expression,
    FilterInvalid,
    FilterLimits,
    In,
    Not,
    Range,
    check,
)
from index.filters.masks import Mask, Masks
from index.filters.search import search_allowed

__all__ = [
    "AllOf",
    "AnyOf",
    "AttributeKind",
    "AttributeTable",
    "AttributesInvalid",
    "Available",
    "Equals",
    "Expression",
    "FilterInvalid",
    "FilterLimits",
    "In",
    "Mask",
    "Masks",
    "Not",
    "Range",
    "check",
    "search_allowed",
]
