"""Everything that a call may raise.

TwinrankError
├── InvalidRequest     INVALID_ARGUMENT, FAILED_PRECONDITION, OUT_OF_RANGE: `fields` says what is wrong
├── NotFound           NOT_FOUND: the item asked about does not exist
├── AccessDenied       UNAUTHENTICATED, PERMISSION_DENIED: credentials are missing or do not suffice
├── DeadlineExceeded   DEADLINE_EXCEEDED: no answer in time
├── Cancelled          CANCELLED: the call was cancelled, here or by the server
├── Overloaded         RESOURCE_EXHAUSTED: the server sheds load, and `retry_after_s` says for how long
├── Unavailable        UNAVAILABLE: no server answers at this address
└── InternalError      every other code: the server failed, or speaks another contract

A mistake that is seen before a call (a naive datetime, an id of the wrong type) is a ValueError or TypeError instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from grpc import StatusCode


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed call in plain values. `reason` is the server's UPPER_SNAKE word for it, empty when it gave none."""

    code: StatusCode
    message: str = ""
    reason: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    retry_after_s: float | None = None
    request_id: str = ""


class TwinrankError(Exception):
    """A call that failed. Its `__cause__` is gRPC's own error; one failed request of a stream has none."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure

    @property
    def code(self) -> StatusCode:
        """The canonical gRPC status code."""
        return self.failure.code

    @property
    def message(self) -> str:
        """What the server, or gRPC itself, says about it."""
        return self.failure.message

    @property
    def reason(self) -> str:
        """The server's UPPER_SNAKE word for it (google.rpc.ErrorInfo), empty when it gave none."""
        return self.failure.reason

    @property
    def request_id(self) -> str:
        """The id that finds this call in the server's log, empty when neither side gave one."""
        return self.failure.request_id

    def __str__(self) -> str:
        notes = [self.code.name]
        if self.reason:
            notes.append(self.reason)
        if self.request_id:
            notes.append(f"request_id {self.request_id}")
        wrong = "".join(f"; {name}: {description}" for name, description in self.failure.fields.items())
        return f"{self.message or 'no message'} ({', '.join(notes)}){wrong}"


class InvalidRequest(TwinrankError):
    """The request is wrong, and would fail again."""

    @property
    def fields(self) -> Mapping[str, str]:
        """Each wrong field, with what is wrong with it."""
        return self.failure.fields


class NotFound(TwinrankError):
    """The item asked about does not exist in the server's generation."""


class AccessDenied(TwinrankError):
    """Credentials are missing or do not suffice."""


class DeadlineExceeded(TwinrankError):
    """No answer within the call's `timeout_s`."""


class Cancelled(TwinrankError):
    """The call was cancelled: the client was closed, or the server gave it up."""


class Overloaded(TwinrankError):
    """The server sheds load, also after the retries."""

    @property
    def retry_after_s(self) -> float | None:
        """How long the server asks to be left alone, None when it does not say."""
        return self.failure.retry_after_s


class Unavailable(TwinrankError):
    """No server answers at this address, also after the retries."""


class InternalError(TwinrankError):
    """The server failed, or speaks another contract."""


_CLASSES: Mapping[StatusCode, type[TwinrankError]] = {
    StatusCode.INVALID_ARGUMENT: InvalidRequest,
    StatusCode.FAILED_PRECONDITION: InvalidRequest,
    StatusCode.OUT_OF_RANGE: InvalidRequest,
    StatusCode.NOT_FOUND: NotFound,
    StatusCode.UNAUTHENTICATED: AccessDenied,
    StatusCode.PERMISSION_DENIED: AccessDenied,
    StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    StatusCode.CANCELLED: Cancelled,
    StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    StatusCode.UNAVAILABLE: Unavailable,
}


def to_error(failure: Failure) -> TwinrankError:
    """The exception for a failure."""
    return _CLASSES.get(failure.code, InternalError)(failure)
