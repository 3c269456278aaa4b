"""grpc.health.v1 for each service name, with watches that end when the server stops.

grpcio's own servicer leaves a Watch open for ever, and a stopping server waits for every open call: one health watcher
would turn each graceful stop into the full grace period. Here a Watch says NOT_SERVING last, and ends.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN

Context = aio.ServicerContext[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]


class Health:
    """NOT_SERVING from the start until `set_serving`, and again, for good, from `begin_drain` on."""

    def __init__(self, service_names: tuple[str, ...]) -> None:
        self._service_names = frozenset(("", *service_names))
        self._serving = False
        self._draining = False
        self._ended = False
        self._changed = asyncio.Event()

    def set_serving(self) -> None:
        """A generation answers."""
        self._serving = not self._draining
        self._announce()

    def begin_drain(self) -> None:
        """NOT_SERVING from here on."""
        self._draining = True
        self._serving = False
        self._announce()

    def end_watches(self) -> None:
        """Ends every Watch, now and later, once it has sent the last status."""
        self._ended = True
        self._announce()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> health_pb2.HealthCheckResponse:
        """The status of one service; NOT_FOUND for one that this server does not have."""
        if request.service not in self._service_names:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return health_pb2.HealthCheckResponse(status=SERVING if self._serving else NOT_SERVING)

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Context) -> None:
        """The status of one service now and whenever it changes."""
        sent: int | None = None
        while True:
            changed = self._changed
            known = request.service in self._service_names
            status: Any = (SERVING if self._serving else NOT_SERVING) if known else SERVICE_UNKNOWN
            if status != sent:
                await context.write(health_pb2.HealthCheckResponse(status=status))
                sent = status
            elif self._ended:
                return
            else:
                await changed.wait()

    def _announce(self) -> None:
        """Wakes every Watch; those that begin to wait after this wait for the next change."""
        self._changed.set()
        self._changed = asyncio.Event()
