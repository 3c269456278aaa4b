"""Everything that may go wrong with a connector.

ConnectError
├── MappingInvalid     the mapping file says something that cannot be
├── SourceUnusable     the source cannot be read at all: no such file, topic or server, wrong kind
├── OffsetsInvalid     the offset file is damaged, or another connector uses it
├── DeliveryRefused    the server will never take these events: it needs a person
└── StrictStop         a bad row, and `--strict` was asked for

BadRow is one row that cannot become an event: quarantined, and the delivery goes on.
"""

from __future__ import annotations


class ConnectError(Exception):
    """The root of the tree; the message is for the operator."""


class MappingInvalid(ConnectError):
    """The mapping file cannot be read, or says something that cannot be."""


class SourceUnusable(ConnectError):
    """The source cannot be read at all."""


class OffsetsInvalid(ConnectError):
    """The offset file is damaged, of another version, or in use."""


class DeliveryRefused(ConnectError):
    """The server will not take events from here, however often they are sent."""


class StrictStop(ConnectError):
    """A row was bad, and the operator asked to stop at the first."""


class BadRow(ValueError):
    """A row that is no event. `reason` is a short fixed word, under which such rows are counted."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
