"""A real gRPC EventService for the connectors' tests: keeps what it gets, knows ids, and refuses as it is told."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from twinrank.v1 import events_pb2 as pb
from twinrank.v1 import events_pb2_grpc as pb_grpc

Answer = Callable[[pb.StreamEventsRequest], pb.EventsError | None]


class EventServer(pb_grpc.EventServiceServicer):
    """Use it as a context. `refuse` decides about each message; `gate` holds acknowledgements back when cleared."""

    def __init__(self, address: str = "127.0.0.1:0") -> None:
        self.arrived: list[pb.Event] = []
        self.messages: list[int] = []
        self.stream_count = 0
        self.refuse: Answer = lambda _: None
        self.on_stream: Callable[[Any], None] = lambda _: None
        self.break_after: int | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = 0
        self._known: set[tuple[str, str]] = set()
        self._lock = threading.Lock()
        self._server = grpc.server(ThreadPoolExecutor(16))
        pb_grpc.add_EventServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        self.port = self._server.add_insecure_port(address)
        self.target = f"127.0.0.1:{self.port}"

    def __enter__(self) -> EventServer:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self._server.stop(0).wait()

    @property
    def ids(self) -> Counter[str]:
        """How often each event id was written, duplicates not counted twice."""
        return Counter(event_id for _, event_id in self._known)

    @property
    def written_count(self) -> int:
        """Events without those that came again."""
        return len(self._known)

    def event(self, event_id: str) -> pb.Event:
        """The first event of this id."""
        return next(event for event in self.arrived if event.event_id == event_id)

    def StreamEvents(
        self, requests: Iterator[pb.StreamEventsRequest], context: Any
    ) -> Iterator[pb.StreamEventsResponse]:
        self.stream_count += 1
        self.on_stream(context)
        for request in requests:
            if self.break_after is not None:
                self.break_after -= 1
                if self.break_after < 0:
                    self.break_after = None
                    context.abort(grpc.StatusCode.UNAVAILABLE, "the worker went away")
            self.waiting += 1
            self.gate.wait()
            self.waiting -= 1
            error = self.refuse(request)
            if error is not None:
                yield pb.StreamEventsResponse(sequence_number=request.sequence_number, error=error)
                continue
            yield self._write(request)

    def _write(self, request: pb.StreamEventsRequest) -> pb.StreamEventsResponse:
        with self._lock:
            self.messages.append(len(request.events))
            written = 0
            for event in request.events:
                key = (event.user_id or event.visitor_id, event.event_id)
                self.arrived.append(event)
                written += key not in self._known
                self._known.add(key)
        return pb.StreamEventsResponse(
            sequence_number=request.sequence_number,
            written_count=written,
            duplicate_count=len(request.events) - written,
        )


def invalid(*fields: str, message: str = "a field is wrong") -> pb.EventsError:
    """What a server answers to a message with wrong events."""
    return pb.EventsError(
        code=grpc.StatusCode.INVALID_ARGUMENT.value[0], message=message, reason="INVALID_ARGUMENT", fields=fields
    )


def full() -> pb.EventsError:
    """What a server answers that can take nothing at the moment."""
    return pb.EventsError(code=grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], message="the store is full")
