"""The wire of the load test: raw bytes over grpc.aio, no retries, and by default nothing but this machine."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from grpc import aio

from client.load.open_loop import OK, Send

METHOD = "/twinrank.v1.RecommendationService/Recommend"
CONNECT_TIMEOUT_S = 5.0
# Retries would hide errors, and equal channels would share one connection, which lands on one worker of the server.
OPTIONS: list[tuple[str, Any]] = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]


def is_loopback(target: str) -> bool:
    """Whether a gRPC target is this machine: a unix socket, `localhost` or a loopback address."""
    if target.startswith("unix:"):
        return True
    host = target.removeprefix("ipv4:").removeprefix("ipv6:").removeprefix("dns:///").rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@asynccontextmanager
async def connect(target: str, channel_count: int) -> AsyncIterator[list[aio.Channel]]:
    """Open channels, each with a connection of its own. Raises ConnectionError when the server does not answer."""
    channels = [aio.insecure_channel(target, options=OPTIONS) for _ in range(channel_count)]
    try:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                for channel in channels:
                    await channel.channel_ready()
        except TimeoutError as error:
            raise ConnectionError(f"no server answers at {target} within {CONNECT_TIMEOUT_S:g} s") from error
        yield channels
    finally:
        for channel in channels:
            await channel.close()


def sender(channels: Sequence[aio.Channel], requests: Sequence[bytes], timeout_s: float) -> Send:
    """Sends request `number` over the channels in turn."""
    rpcs: list[aio.UnaryUnaryMultiCallable[bytes, bytes]] = [channel.unary_unary(METHOD) for channel in channels]

    async def send(number: int) -> str:
        try:
            await rpcs[number % len(rpcs)](requests[number], timeout=timeout_s)
        except aio.AioRpcError as error:
            return error.code().name
        return OK

    return send
