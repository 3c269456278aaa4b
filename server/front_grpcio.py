"""The front on grpc.aio: bytes and metadata of grpcio on one side, messages, calls and domain errors on the other.

Messages are parsed here and not by grpcio, which would answer bytes that do not parse with UNKNOWN and the parser's own
text.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf.message import Message
from grpc import aio
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer
from twinrank.v1 import events_pb2
from twinrank.v1 import recommendation_pb2 as pb

from server.call import Call
from server.config import ListenConfig, ServerConfig
from server.connections import end_connections
from server.decoding import parse
from server.errors import DeadlinePassed, ShuttingDown
from server.events.service import EventService
from server.events.streams import METHOD as EVENT_STREAM_METHOD
from server.events.streams import EventStreams
from server.health import Health
from server.logs import RequestLog
from server.metrics import Metrics
from server.service import RecommendationService
from server.status import ErrorStatus, encode_status, status_of
from server.streaming import METHOD as STREAM_METHOD
from server.streaming import StreamService

RECOMMENDATION_SERVICE = pb.DESCRIPTOR.services_by_name["RecommendationService"].full_name
EVENT_SERVICE = events_pb2.DESCRIPTOR.services_by_name["EventService"].full_name
HEALTH_SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
REFLECTION_SERVICE = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"].full_name
OTHER_RPCS_MAX = 200
"""Health and reflection calls that fit beside the recommendation calls under grpcio's own limit."""

SHUTDOWN_HOLD_S = 0.25
"""How long a call that comes too late waits for the end of its connection before it is refused."""

Context = aio.ServicerContext[bytes, bytes]
RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT")
_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


class CallAdapter:
    """Turns methods of a service into grpcio's handlers: parse, time, count, log, and map errors to statuses."""

    def __init__(self, metrics: Metrics, request_log: RequestLog, default_deadline_s: float) -> None:
        self._metrics = metrics
        self._request_log = request_log
        self._default_deadline_s = default_deadline_s

    def unary(
        self, name: str, request_type: type[RequestT], method: Callable[[RequestT, Call], Awaitable[Message | bytes]]
    ) -> grpc.RpcMethodHandler[bytes, bytes]:
        """The handler of a method with one request and one response, which it gives as a message or encoded."""

        async def handle(raw: bytes, context: Context) -> bytes:
            call = self._call(name, context)
            try:
                request = parse(request_type, raw)
                if context.time_remaining() is None:
                    response = await self._within_default_deadline(method(request, call))
                else:
                    response = await method(request, call)
                encoded = response if isinstance(response, bytes) else response.SerializeToString()
            except asyncio.CancelledError:  # the caller has gone, or its deadline has passed and grpcio ended the call
                now_s = time.monotonic()
                code = "DEADLINE_EXCEEDED" if now_s >= call.deadline_s else "CANCELLED"
                self._metrics.call_done(name, code, now_s - call.started_s)
                raise
            except ShuttingDown as error:
                # A call that is held here ends with its connection, and its retry goes elsewhere; one that is refused
                # at once would spend its attempts on this server.
                await asyncio.sleep(SHUTDOWN_HOLD_S)
                await self._fail(call, context, error)
            except Exception as error:
                await self._fail(call, context, error)
            seconds = time.monotonic() - call.started_s
            self._metrics.call_done(name, "OK", seconds)
            self._request_log.answered(call, seconds)
            return encoded

        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(handle)
        return handler

    def stream(self, name: str, streams: StreamService | EventStreams) -> grpc.RpcMethodHandler[bytes, bytes]:
        """The handler of a method with many of both. A stream without a deadline lives as long as its caller likes."""

        async def handle(messages: Any, context: Context) -> None:
            call = self._call(name, context, default_deadline_s=float("inf"))

            try:
                await streams.run(messages, context.write, call)
            except Exception as error:
                await self._fail(call, context, error)

        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(handle)
        return handler

    def _call(self, name: str, context: Context, default_deadline_s: float | None = None) -> Call:
        now_s = time.monotonic()
        remaining_s = context.time_remaining()
        if remaining_s is None:
            remaining_s = self._default_deadline_s if default_deadline_s is None else default_deadline_s
        return Call(name, now_s, now_s + remaining_s, lambda: context.invocation_metadata() or ())

    async def _within_default_deadline(self, answer: Awaitable[ResponseT]) -> ResponseT:
        """grpcio cancels a call whose own deadline passes; for a call that brought none we do."""
        try:
            async with asyncio.timeout(self._default_deadline_s):
                return await answer
        except TimeoutError as error:
            raise DeadlinePassed("the answer was ready") from error

    async def _fail(self, call: Call, context: Context, error: Exception) -> NoReturn:
        status = status_of(error, call.request_id)
        self._metrics.call_done(call.method, status.code_name, time.monotonic() - call.started_s)
        self._request_log.failed(call, status, error)
        await context.abort(_CODES[status.code], status.message, trailing_metadata(status, call.request_id))


def trailing_metadata(status: ErrorStatus, request_id: str) -> tuple[tuple[str, str | bytes], ...]:
    """The details of a status, and under overload the push-back that gRPC's own retries obey."""
    entries: list[tuple[str, str | bytes]] = [("grpc-status-details-bin", encode_status(status, request_id))]
    if status.retry_after_ms is not None:
        entries.append(("grpc-retry-pushback-ms", str(status.retry_after_ms)))
    return tuple(entries)


class GrpcioFront:
    """The public listener on grpc.aio. The port is known from the beginning."""

    def __init__(
        self,
        config: ServerConfig,
        service: RecommendationService,
        streams: StreamService,
        event_streams: EventStreams,
        health: Health,
        adapter: CallAdapter,
    ) -> None:
        self._server = build_server(config, streams, event_streams, health, adapter, service=service)
        self.port = _bind_public(self._server, config.listen)

    async def start(self) -> None:
        """Begins to answer."""
        await self._server.start()

    async def stop(self) -> None:
        """Ends the connections, then the server: whatever is still in flight fails with UNAVAILABLE."""
        end_connections(self.port)
        await self._server.stop(None)


def build_server(
    config: ServerConfig,
    streams: StreamService,
    event_streams: EventStreams,
    health: Health,
    adapter: CallAdapter,
    *,
    service: RecommendationService | None,
) -> aio.Server:
    """A server with streams, events, health and reflection, and with the unary methods of `service`; not yet bound."""
    handlers = {STREAM_METHOD: adapter.stream(STREAM_METHOD, streams)}
    limits = config.limits
    unary_rpcs_max = limits.concurrent_rpcs_max  # of events
    if service is not None:
        unary_rpcs_max += limits.concurrent_rpcs_max
        for method in service.methods:
            handlers[method.name] = adapter.unary(method.name, method.request_type, partial(service.answer, method))
    options = channel_options(config, port_shared=config.listen.port_shared)
    if config.listen.connection_age_s_max is not None:
        options.append(("grpc.max_connection_age_ms", int(config.listen.connection_age_s_max * 1000)))
        options.append(("grpc.max_connection_age_grace_ms", int(config.lifecycle.stop_grace_s * 1000)))
    server: aio.Server = aio.server(
        options=options,
        maximum_concurrent_rpcs=unary_rpcs_max + limits.streams_max + config.events.streams_max + OTHER_RPCS_MAX,
    )
    add_service(server, RECOMMENDATION_SERVICE, handlers)
    add_service(server, EVENT_SERVICE, _event_handlers(event_streams, adapter))
    add_service(server, HEALTH_SERVICE, _health_handlers(health))
    add_service(server, REFLECTION_SERVICE, _reflection_handlers())
    return server


def add_service(server: aio.Server, name: str, handlers: dict[str, grpc.RpcMethodHandler[Any, Any]]) -> None:
    """Registers the methods of a service by its full name."""
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))


def channel_options(config: ServerConfig, *, port_shared: bool) -> list[tuple[str, int]]:
    """grpcio's options for a listener under the configuration's limits."""
    limits, listen = config.limits, config.listen
    return [
        ("grpc.so_reuseport", int(port_shared)),
        ("grpc.max_receive_message_length", limits.message_size_bytes_max),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", limits.metadata_size_bytes_max),
        ("grpc.absolute_max_metadata_size", limits.metadata_size_bytes_max),
        ("grpc.max_concurrent_streams", limits.streams_per_connection_max),
        ("grpc.keepalive_time_ms", int(listen.keepalive_interval_s * 1000)),
        ("grpc.keepalive_timeout_ms", int(listen.keepalive_timeout_s * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", int(listen.client_ping_interval_s_min * 1000)),
    ]


def bind(server: aio.Server, host: str, port: int) -> int:
    """Binds the server to an address in the clear; returns the port. Raises `RuntimeError` when it is taken."""
    bound: int = server.add_insecure_port(address_of(host, port))
    return bound


def _bind_public(server: aio.Server, listen: ListenConfig) -> int:
    certificate, key = listen.tls_certificate_file, listen.tls_key_file
    if certificate is None or key is None:
        return bind(server, listen.host, listen.port)
    credentials = grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
    bound: int = server.add_secure_port(address_of(listen.host, listen.port), credentials)
    return bound


def address_of(host: str, port: int) -> str:
    """Host and port as gRPC writes them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _event_handlers(streams: EventStreams, adapter: CallAdapter) -> dict[str, grpc.RpcMethodHandler[bytes, bytes]]:
    service: EventService = streams.service
    return {
        "WriteEvents": adapter.unary("WriteEvents", events_pb2.WriteEventsRequest, service.write_events),
        "PurgeUser": adapter.unary("PurgeUser", events_pb2.PurgeUserRequest, service.purge_user),
        EVENT_STREAM_METHOD: adapter.stream(EVENT_STREAM_METHOD, streams),
    }


def _health_handlers(health: Health) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
    parse = health_pb2.HealthCheckRequest.FromString
    serialize = health_pb2.HealthCheckResponse.SerializeToString
    return {
        "Check": grpc.unary_unary_rpc_method_handler(health.Check, parse, serialize),
        "Watch": grpc.unary_stream_rpc_method_handler(health.Watch, parse, serialize),
    }


def _reflection_handlers() -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
    servicer: Any = ReflectionServicer((RECOMMENDATION_SERVICE, EVENT_SERVICE, HEALTH_SERVICE, REFLECTION_SERVICE))
    return {
        "ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(
            servicer.ServerReflectionInfo,
            reflection_pb2.ServerReflectionRequest.FromString,
            reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
    }
