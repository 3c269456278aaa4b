"""Single values of a row, as CSV, JSON, Parquet and Valkey hold them, into those of an event."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, tzinfo
from typing import Any

from server.connect.errors import BadRow
from server.connect.mapping import TimeFormat

TIME_S_MAX = 253_402_300_799.0
"""9999-12-31, the end of google.protobuf.Timestamp."""
AUTO_MS_MIN = 1e11
"""`auto` takes larger numbers as milliseconds: as seconds they would lie after the year 5138."""
SHOWN_CHARACTERS_MAX = 60


def shown(value: object) -> str:
    """A value as a message may quote it."""
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS_MAX else text[:SHOWN_CHARACTERS_MAX] + "…"


def text_of(field: str, value: Any) -> str:
    """An id or a label. Whole numbers are ids, too; what a float would make of an id is not guessed."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRow("wrong_type", f"{field} is {shown(value)}, expected text or a whole number")
    if isinstance(value, float):
        if not value.is_integer():
            raise BadRow("wrong_type", f"{field} is {shown(value)}, expected text or a whole number")
        value = int(value)
    return str(value)


def number_of(field: str, value: Any) -> float:
    """A finite number."""
    try:
        if isinstance(value, bool):
            raise ValueError
        number = float(value)
    except (TypeError, ValueError) as error:
        raise BadRow("no_number", f"{field} is {shown(value)}") from error
    if not math.isfinite(number):
        raise BadRow("no_number", f"{field} is {shown(value)}")
    return number


def place_of(field: str, value: Any) -> int:
    """A place in a list: a whole number from 0."""
    number = number_of(field, value)
    if not number.is_integer() or not 0 <= number < 2**32:
        raise BadRow("no_number", f"{field} is {shown(value)}, expected a whole number from 0")
    return int(number)


def time_of(value: Any, kind: TimeFormat, zone: tzinfo) -> float:
    """Seconds since the epoch. `zone` is for times that name none. Raises BadRow (`bad_time`)."""
    try:
        time_s = _time_of(value, kind, zone)
    except (ValueError, TypeError, OverflowError, OSError) as error:
        raise BadRow("bad_time", f"time is {shown(value)}, expected {_expected(kind)}") from error
    if not 0 <= time_s <= TIME_S_MAX:
        raise BadRow("bad_time", f"time is {shown(value)}, which is not from 1970 to 9999")
    return time_s


def _time_of(value: Any, kind: TimeFormat, zone: tzinfo) -> float:
    if isinstance(value, datetime):
        return _in_zone(value, zone)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=zone).timestamp()
    if kind is TimeFormat.ISO8601 or (kind is TimeFormat.AUTO and not _is_number(value)):
        if not isinstance(value, str):
            raise TypeError
        return _in_zone(datetime.fromisoformat(value.strip()), zone)
    number = float(value)
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError
    if kind is TimeFormat.EPOCH_MS or (kind is TimeFormat.AUTO and number >= AUTO_MS_MIN):
        return number / 1000
    return number


def _in_zone(moment: datetime, zone: tzinfo) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp()


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        # A date such as 20240131 is ISO 8601, too; only longer figures can be times since the epoch.
        return value.strip().replace(".", "", 1).isdigit() and len(value.strip()) > len("20240131")
    return isinstance(value, int | float)


def _expected(kind: TimeFormat) -> str:
    return {
        TimeFormat.AUTO: "ISO 8601, or seconds or milliseconds since 1970",
        TimeFormat.ISO8601: "ISO 8601, such as 2026-11-21T15:30:00Z",
        TimeFormat.EPOCH_S: "seconds since 1970",
        TimeFormat.EPOCH_MS: "milliseconds since 1970",
    }[kind]


def epoch(time_s: float) -> datetime:
    """The moment as an aware datetime."""
    return datetime.fromtimestamp(time_s, UTC)
