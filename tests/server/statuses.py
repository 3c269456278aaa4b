"""Reads google.rpc details out of a failed call, as a client would."""

from __future__ import annotations

from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2


def details_of(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    metadata = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(metadata["grpc-status-details-bin"])
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    return status


def unpack(status: status_pb2.Status, kind: Any) -> Any:
    for detail in status.details:
        if detail.Is(kind.DESCRIPTOR):
            message = kind()
            detail.Unpack(message)
            return message
    raise AssertionError(f"no {kind.__name__} in {status}")


def fields_of(error: grpc.aio.AioRpcError) -> list[str]:
    bad_request = unpack(details_of(error), error_details_pb2.BadRequest)
    assert all(violation.description for violation in bad_request.field_violations)
    return [violation.field for violation in bad_request.field_violations]


def reason_of(error: grpc.aio.AioRpcError) -> str:
    info = unpack(details_of(error), error_details_pb2.ErrorInfo)
    assert info.domain == "twinrank"
    return str(info.reason)
