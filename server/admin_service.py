"""AdminService: what runs, and which generation answers. On a listener of its own; every call carries the token.

Generations are activated and rolled back on disk, by the functions that the command line uses too; the follower sees
the pointer change and swaps when it has loaded what it points at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import grpc
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio
from twinrank.v1 import admin_pb2 as pb
from twinrank.v1 import events_pb2

from index import generation as generations
from index.generation import read_key
from server.admin_token import admin_token, check_token
from server.call import Call, RequestIds
from server.catalogue.desk import CatalogueDesk
from server.catalogue.service import CATALOG_SERVICE
from server.config import ServerConfig
from server.errors import GenerationNotFound, GenerationRefused, InvalidRequest, Violation
from server.events.purging import PurgeService
from server.fields import check_id
from server.front_grpcio import EVENT_SERVICE, CallAdapter, add_service, bind, channel_options
from server.generations import FollowerStatus
from server.store.address import StoreAddress

ADMIN_SERVICE = pb.DESCRIPTOR.services_by_name["AdminService"].full_name
ADMIN_RPCS_MAX = 16
"""One operator and one monitor ask; verification of a generation reads all of it from disk."""

ADMIN_DEADLINE_S = 120.0
"""Of an admin call that brings no deadline: to activate a generation is to read all of it."""

RequestT = TypeVar("RequestT", bound=Message)
ResultT = TypeVar("ResultT")


class Follower(Protocol):
    """Whoever follows CURRENT: a server's own follower, or the workers' taken together."""

    @property
    def status(self) -> FollowerStatus:
        """What is served, and what was refused."""

    def look_now(self) -> None:
        """The pointer has changed."""


async def _nothing_to_refresh() -> None:
    """For facts that are always fresh."""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What GetStatus reports of the rest of the server."""

    started_at_s: float
    answered_count: Callable[[], int]
    in_flight_count: Callable[[], int]
    draining: Callable[[], bool]
    refresh: Callable[[], Awaitable[None]] = _nothing_to_refresh


class AdminService:
    """The operator's methods. `key` verifies signatures of generations where the configuration has one."""

    def __init__(
        self,
        root: Path,
        key: bytes | None,
        token: str,
        follower: Follower,
        facts: ServerFacts,
        id_bytes_max: int,
    ) -> None:
        self._root = root
        self._key = key
        self._token = token
        self._follower = follower
        self._facts = facts
        self._id_bytes_max = id_bytes_max
        self._request_ids = RequestIds()

    def authenticated(
        self, method: Callable[[RequestT], Awaitable[Message]]
    ) -> Callable[[RequestT, Call], Awaitable[Message]]:
        """The method behind the token."""

        async def guarded(request: RequestT, call: Call) -> Message:
            call.request_id = self._request_ids.of("")
            check_token(call, self._token)
            return await method(request)

        return guarded

    async def get_status(self, request: pb.GetStatusRequest) -> pb.GetStatusResponse:
        """What runs now."""
        del request
        await self._facts.refresh()
        status, facts = self._follower.status, self._facts
        return pb.GetStatusResponse(
            generation_id=status.serving_id,
            started_at=_timestamp(facts.started_at_s),
            generation_loaded_at=_timestamp(status.loaded_at_s) if status.serving_id else None,
            answered_count=facts.answered_count(),
            in_flight_count=facts.in_flight_count(),
            refused_generation_id=status.refused_id,
            refused_reason=status.refused_reason,
            draining=facts.draining(),
        )

    async def list_generations(self, request: pb.ListGenerationsRequest) -> pb.ListGenerationsResponse:
        """What is published, newest first; a generation whose manifest is damaged is listed by its id alone."""
        del request
        return pb.ListGenerationsResponse(generations=await _on_disk(self._list))

    async def activate_generation(self, request: pb.ActivateGenerationRequest) -> pb.ActivateGenerationResponse:
        """Verifies and points CURRENT. Raises `GenerationNotFound`, `GenerationRefused`."""
        violations: list[Violation] = []
        check_id(request.generation_id, self._id_bytes_max, "generation_id", violations)
        if violations:
            raise InvalidRequest(violations)
        try:
            await _on_disk(lambda: generations.activate(self._root, request.generation_id, self._key))
        except generations.GenerationIdInvalid as error:
            raise InvalidRequest([Violation("generation_id", str(error))]) from error
        self._follower.look_now()
        return pb.ActivateGenerationResponse(generation_id=request.generation_id)

    async def roll_back_generation(self, request: pb.RollBackGenerationRequest) -> pb.RollBackGenerationResponse:
        """Back to what was current before. Raises `GenerationRefused` when there is nothing to go back to."""
        del request
        generation_id = await _on_disk(lambda: generations.rollback(self._root, self._key))
        self._follower.look_now()
        return pb.RollBackGenerationResponse(generation_id=generation_id)

    def _list(self) -> list[pb.Generation]:
        current = generations.current_id(self._root)
        listed = []
        for generation_id in reversed(generations.list_generations(self._root)):
            entry = pb.Generation(generation_id=generation_id, current=generation_id == current)
            try:
                manifest = generations.read_manifest(self._root, generation_id, self._key)
            except generations.GenerationError:
                pass
            else:
                entry.created_at.FromDatetime(manifest.created_at)
                entry.parent_id = manifest.parent or ""
                item_count = manifest.metadata.get("item_count")
                if isinstance(item_count, int):
                    entry.item_count = item_count
            listed.append(entry)
        return listed


def build_admin_server(
    config: ServerConfig,
    service: AdminService,
    adapter: CallAdapter,
    purges: PurgeService,
    catalogue: CatalogueDesk | None,
) -> aio.Server:
    """The admin listener's server, not yet bound to a port."""
    guard = service.authenticated
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "GetStatus": adapter.unary("GetStatus", pb.GetStatusRequest, guard(service.get_status)),
        "ListGenerations": adapter.unary("ListGenerations", pb.ListGenerationsRequest, guard(service.list_generations)),
        "ActivateGeneration": adapter.unary(
            "ActivateGeneration", pb.ActivateGenerationRequest, guard(service.activate_generation)
        ),
        "RollBackGeneration": adapter.unary(
            "RollBackGeneration", pb.RollBackGenerationRequest, guard(service.roll_back_generation)
        ),
    }
    server: aio.Server = aio.server(
        options=channel_options(config, port_shared=False), maximum_concurrent_rpcs=ADMIN_RPCS_MAX
    )
    add_service(server, ADMIN_SERVICE, handlers)
    purge = adapter.unary("PurgeUser", events_pb2.PurgeUserRequest, guard(purges.purge_user))
    add_service(server, EVENT_SERVICE, {"PurgeUser": purge})
    if catalogue is not None:
        add_service(server, CATALOG_SERVICE, catalogue.handlers(adapter, guard))
    return server


async def start_admin(
    config: ServerConfig,
    follower: Follower,
    facts: ServerFacts,
    adapter: CallAdapter,
    store: StoreAddress | None,
    catalogue: CatalogueDesk | None = None,
) -> tuple[aio.Server, int]:
    """The admin listener, and its port. `catalogue`: who takes changes of it; None where there is no store.

    Raises:
        RuntimeError: the address is taken.
        ConfigError: the admin token cannot be had.
    """
    key_file = config.generations.signature_key_file
    service = AdminService(
        config.generations.root,
        read_key(key_file) if key_file is not None else None,
        admin_token(config.admin, config.generations.root),
        follower,
        facts,
        config.limits.id_bytes_max,
    )
    server = build_admin_server(config, service, adapter, PurgeService(config, store), catalogue)
    port = bind(server, config.admin.host, config.admin.port)
    await server.start()
    return server, port


async def _on_disk(work: Callable[[], ResultT]) -> ResultT:
    """Runs work on files beside the event loop, and names what went wrong in the domain's terms."""
    try:
        return await asyncio.to_thread(work)
    except generations.GenerationIdInvalid:
        raise
    except generations.GenerationNotFound as error:
        raise GenerationNotFound(str(error)) from error
    except generations.GenerationError as error:
        raise GenerationRefused(str(error)) from error


def _timestamp(seconds: float) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromMilliseconds(int(seconds * 1000))
    return timestamp
