"""Filters inside retrieval: items' attributes, the rows that an expression allows, search among these.

What a filter says is light to import; tables, masks and search, which need numpy and FAISS, are imported when named.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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
from index.filters.kinds import AttributeKind

if TYPE_CHECKING:
    from index.filters.attributes import AttributesInvalid, AttributeTable
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

_WHEN_NAMED = {
    "AttributeTable": "index.filters.attributes",
    "AttributesInvalid": "index.filters.attributes",
    "Mask": "index.filters.masks",
    "Masks": "index.filters.masks",
    "search_allowed": "index.filters.search",
}


def __getattr__(name: str) -> Any:
    if name in _WHEN_NAMED:
        return getattr(import_module(_WHEN_NAMED[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
