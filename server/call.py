"""What the service knows of one call besides its message: time, identity, and where to look for more.

The front fills it from its transport; nothing here knows which one that is.
"""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from server.waiting import Answered

ID_CHARACTERS_MAX = 128
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

Metadata = Iterable[tuple[str, str | bytes]]


@dataclass(slots=True)
class Call:
    """One call (or one message of a stream). Times are `time.monotonic()` seconds."""

    method: str
    started_s: float
    deadline_s: float
    metadata: Callable[[], Metadata]
    """Reads the request headers; costs microseconds, so only logs and the admin ask."""
    request_id: str = ""
    answered: Answered | None = None
    """What the engine answered, for the log of a slow call."""

    def traceparent(self) -> str | None:
        """The caller's W3C trace context, when it is well-formed."""
        for key, value in self.metadata():
            if key == "traceparent" and isinstance(value, str) and _TRACEPARENT.fullmatch(value):
                return value
        return None


class RequestIds:
    """Ids for requests that bring none: unique across servers and restarts, cheap to make."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(6)
        self._numbers = itertools.count(1)

    def of(self, given: str) -> str:
        """The caller's id, or a new one when it is empty or too long to be repeated in logs and errors."""
        if 0 < len(given) <= ID_CHARACTERS_MAX:
            return given
        return f"{self._prefix}-{next(self._numbers):x}"
