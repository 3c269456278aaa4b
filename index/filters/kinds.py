"""Kinds of attributes. Light to import, as what a filter says is: processes that never search know both."""

from __future__ import annotations

from enum import StrEnum

Value = str | float


class AttributeKind(StrEnum):
    """What a filter may ask of an attribute."""

    CATEGORICAL = "categorical"
    """Equal to a text, or one of several."""
    NUMERIC = "numeric"
    """Equal to a number, one of several, or between two."""
    TEXT = "text"
    """Nothing: free text, nearly as many values as items, is not kept for filters."""
