"""The one table from domain errors to canonical codes, and their form on the wire (google.rpc.Status with details).

An exception that is not in the tree becomes INTERNAL with the request's id and nothing else: its text is for the log.
"""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from server.errors import (
    CatalogueBusy,
    CatalogueDown,
    CatalogueFull,
    DeadlinePassed,
    EngineFault,
    GenerationNotFound,
    GenerationRefused,
    InvalidRequest,
    ItemNotFound,
    MalformedMessage,
    MessageTooLarge,
    NoGeneration,
    NotFound,
    NotHere,
    Overloaded,
    QueueFull,
    ShuttingDown,
    StoreIsDown,
    StoreIsFull,
    StoreIsOff,
    TooManyInFlight,
    TwinrankError,
    Unauthenticated,
    Unavailable,
)

ERROR_DOMAIN = "twinrank"
INTERNAL: int = code_pb2.INTERNAL

TABLE: dict[type[TwinrankError], tuple[int, str]] = {
    InvalidRequest: (code_pb2.INVALID_ARGUMENT, "INVALID_FIELD"),
    MalformedMessage: (code_pb2.INVALID_ARGUMENT, "MALFORMED_MESSAGE"),
    MessageTooLarge: (code_pb2.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE"),
    Unauthenticated: (code_pb2.UNAUTHENTICATED, "TOKEN_INVALID"),
    NotFound: (code_pb2.NOT_FOUND, "NOT_FOUND"),
    ItemNotFound: (code_pb2.NOT_FOUND, "ITEM_NOT_FOUND"),
    GenerationNotFound: (code_pb2.NOT_FOUND, "GENERATION_NOT_FOUND"),
    GenerationRefused: (code_pb2.FAILED_PRECONDITION, "GENERATION_REFUSED"),
    Overloaded: (code_pb2.RESOURCE_EXHAUSTED, "OVERLOADED"),
    TooManyInFlight: (code_pb2.RESOURCE_EXHAUSTED, "TOO_MANY_IN_FLIGHT"),
    QueueFull: (code_pb2.RESOURCE_EXHAUSTED, "QUEUE_FULL"),
    CatalogueFull: (code_pb2.RESOURCE_EXHAUSTED, "CATALOGUE_FULL"),
    CatalogueBusy: (code_pb2.ABORTED, "CATALOGUE_BUSY"),
    DeadlinePassed: (code_pb2.DEADLINE_EXCEEDED, "DEADLINE_PASSED"),
    Unavailable: (code_pb2.UNAVAILABLE, "UNAVAILABLE"),
    CatalogueDown: (code_pb2.UNAVAILABLE, "CATALOGUE_DOWN"),
    NoGeneration: (code_pb2.UNAVAILABLE, "NO_GENERATION"),
    ShuttingDown: (code_pb2.UNAVAILABLE, "SHUTTING_DOWN"),
    StoreIsDown: (code_pb2.UNAVAILABLE, "STORE_DOWN"),
    StoreIsFull: (code_pb2.RESOURCE_EXHAUSTED, "STORE_FULL"),
    StoreIsOff: (code_pb2.FAILED_PRECONDITION, "STORE_OFF"),
    NotHere: (code_pb2.UNIMPLEMENTED, "NOT_HERE"),
    EngineFault: (code_pb2.INTERNAL, "INTERNAL"),
}


@dataclass(frozen=True, slots=True)
class ErrorStatus:
    """What a caller is told: a google.rpc.Code, a message, an UPPER_SNAKE reason, and what each detail needs."""

    code: int
    message: str
    reason: str
    fields: tuple[tuple[str, str], ...] = ()
    retry_after_ms: int | None = None

    @property
    def code_name(self) -> str:
        """The code as metrics and logs write it, such as `INVALID_ARGUMENT`."""
        name: str = code_pb2.Code.Name(self.code)
        return name

    @property
    def is_fault(self) -> bool:
        """Whether the server is to blame: such an error is logged with its traceback, always."""
        return self.code == INTERNAL


def status_of(error: Exception, request_id: str) -> ErrorStatus:
    """The status of any exception; `request_id` is what the caller may quote when the fault is ours."""
    if not isinstance(error, TwinrankError) or isinstance(error, EngineFault):
        return ErrorStatus(INTERNAL, f"internal error; request_id {request_id}", "INTERNAL")
    code, reason = next(TABLE[kind] for kind in type(error).__mro__ if kind in TABLE)
    fields = (
        tuple((violation.field, violation.description) for violation in error.violations)
        if isinstance(error, InvalidRequest)
        else ()
    )
    retry_after_ms = error.retry_after_ms if isinstance(error, Overloaded | StoreIsDown) else None
    return ErrorStatus(code, str(error), reason, fields, retry_after_ms)


def encode_status(status: ErrorStatus, request_id: str) -> bytes:
    """A serialised google.rpc.Status for the trailing metadata `grpc-status-details-bin`."""
    info = error_details_pb2.ErrorInfo(reason=status.reason, domain=ERROR_DOMAIN)
    if request_id:
        info.metadata["request_id"] = request_id
    details: list[Message] = [info]
    if status.fields:
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=field, description=description)
            for field, description in status.fields
        ]
        details.append(error_details_pb2.BadRequest(field_violations=violations))
    if status.retry_after_ms is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(status.retry_after_ms)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    message = status_pb2.Status(code=status.code, message=status.message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        message.details.append(packed)
    encoded: bytes = message.SerializeToString()
    return encoded
