"""A failed call on the wire: gRPC's status, with google.rpc details in the trailing metadata, to and from a Failure.

grpcio-status would do the parsing, but is a dependency more for four lines.
"""

from __future__ import annotations

from collections.abc import Iterable

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from twinrank_client.errors import Failure, TwinrankError, to_error

DETAILS_KEY = "grpc-status-details-bin"
PUSHBACK_KEY = "grpc-retry-pushback-ms"
ERROR_DOMAIN = "twinrank"

Metadata = tuple[tuple[str, str | bytes], ...]

_CODES = {code.value[0]: code for code in grpc.StatusCode}


def status_code(number: int) -> grpc.StatusCode:
    """The gRPC code of a google.rpc.Code; UNKNOWN for a number that does not exist."""
    return _CODES.get(number, grpc.StatusCode.UNKNOWN)


def error_from_rpc(error: grpc.RpcError, request_id: str) -> TwinrankError:
    """The exception for an error that gRPC raised, sync or asyncio; the caller raises it `from` that error."""
    metadata: Iterable[tuple[str, str | bytes]] = error.trailing_metadata() or ()  # type: ignore[assignment]
    return to_error(read_failure(error.code(), error.details() or "", metadata, request_id))


def read_failure(
    code: grpc.StatusCode, message: str, metadata: Iterable[tuple[str, str | bytes]], request_id: str
) -> Failure:
    """What the status, its message and the trailing metadata say; details that cannot be parsed are passed over."""
    reason, fields = "", dict[str, str]()
    retry_after_s: float | None = None
    for key, value in metadata:
        if key != DETAILS_KEY or not isinstance(value, bytes):
            continue
        try:
            details = status_pb2.Status.FromString(value).details
        except DecodeError:
            continue
        bad_request, retry_info = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        error_info = error_details_pb2.ErrorInfo()
        for detail in details:
            if detail.Unpack(bad_request):
                fields.update((violation.field, violation.description) for violation in bad_request.field_violations)
            elif detail.Unpack(retry_info):
                retry_after_s = retry_info.retry_delay.ToTimedelta().total_seconds()
            elif detail.Unpack(error_info):
                reason = error_info.reason
                request_id = error_info.metadata.get("request_id", request_id)
    return Failure(code, message, reason, fields, retry_after_s, request_id)


def write_details(failure: Failure) -> Metadata:
    """The trailing metadata that carries a failure: the inverse of `read_failure`, as a Twinrank server sends it.

    `retry_after_s` goes out twice: as RetryInfo for people, and as the pushback that gRPC's own retries obey.
    """
    status = status_pb2.Status(code=failure.code.value[0], message=failure.message)
    metadata: Metadata = ()
    if failure.reason or failure.request_id:
        error_info = error_details_pb2.ErrorInfo(reason=failure.reason, domain=ERROR_DOMAIN)
        if failure.request_id:
            error_info.metadata["request_id"] = failure.request_id
        status.details.add().Pack(error_info)
    if failure.fields:
        bad_request = error_details_pb2.BadRequest()
        for name, description in failure.fields.items():
            bad_request.field_violations.add(field=name, description=description)
        status.details.add().Pack(bad_request)
    if failure.retry_after_s is not None:
        retry_after_ms = round(failure.retry_after_s * 1000)
        retry_info = error_details_pb2.RetryInfo()
        retry_info.retry_delay.FromMilliseconds(retry_after_ms)
        status.details.add().Pack(retry_info)
        metadata += ((PUSHBACK_KEY, str(retry_after_ms)),)
    return (*metadata, (DETAILS_KEY, status.SerializeToString()))
