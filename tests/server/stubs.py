"""Stubs on an asyncio channel; what the generators and their type stubs say of them differs, so they are Any here."""

from __future__ import annotations

from typing import Any

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc
from twinrank.v1 import admin_pb2_grpc, events_pb2_grpc, recommendation_pb2_grpc

_RECOMMENDATION: Any = recommendation_pb2_grpc.RecommendationServiceStub
_ADMIN: Any = admin_pb2_grpc.AdminServiceStub
_EVENTS: Any = events_pb2_grpc.EventServiceStub
_HEALTH: Any = health_pb2_grpc.HealthStub
_REFLECTION: Any = reflection_pb2_grpc.ServerReflectionStub


def recommendation_stub(channel: aio.Channel) -> Any:
    return _RECOMMENDATION(channel)


def admin_stub(channel: aio.Channel | grpc.Channel) -> Any:
    return _ADMIN(channel)


def event_stub(channel: aio.Channel) -> Any:
    return _EVENTS(channel)


def health_stub(channel: aio.Channel) -> Any:
    return _HEALTH(channel)


def reflection_stub(channel: aio.Channel) -> Any:
    return _REFLECTION(channel)


def raw_unary(channel: aio.Channel, method: str) -> Any:
    """A unary method of RecommendationService on bytes."""
    return channel.unary_unary(f"/twinrank.v1.RecommendationService/{method}")


def raw_stream(channel: aio.Channel) -> Any:
    """StreamRecommend on bytes, opened."""
    return channel.stream_stream("/twinrank.v1.RecommendationService/StreamRecommend")()
