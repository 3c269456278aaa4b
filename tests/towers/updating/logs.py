"""Logged events for tests: rows by EVENT_SCHEMA with what matters said and the rest absent."""

from __future__ import annotations

from typing import Any

import polars as pl

from towers.updating.archive import EVENT_SCHEMA

ABSENT: dict[str, Any] = {
    "user_id": "",
    "visitor_id": "",
    "signs_in": False,
    "item_id": "",
    "event_type": "purchase",
    "session_id": "",
    "quantity": 1.0,
    "value": None,
    "rating": None,
    "position": None,
    "dwell_s": None,
    "context": "",
}


def log_of(*events: dict[str, Any]) -> pl.DataFrame:
    """A log; each event says `time_s` and `position_ms` at least."""
    rows = [ABSENT | event for event in events]
    return pl.DataFrame({name: [row[name] for row in rows] for name in EVENT_SCHEMA}, schema=dict(EVENT_SCHEMA))
