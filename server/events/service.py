"""EventService without a transport: messages and calls in, responses or domain errors out.

PurgeUser is not for the public: here it is refused, and `server.events.purging` answers it on the admin listener.
"""

from __future__ import annotations

import time

from twinrank.v1 import events_pb2 as pb

from server.admission import Admission
from server.call import Call, RequestIds
from server.config import ServerConfig
from server.errors import DeadlinePassed, InvalidRequest, NotHere, StoreIsOff, Violation
from server.events.decoding import EventDecoder
from server.events.writer import EventWriter
from server.fields import check_text
from server.state.token import make_token


class EventService:
    """The unary methods, and what streams share with them. Without a writer, events are refused."""

    def __init__(self, config: ServerConfig, writer: EventWriter | None) -> None:
        limits = config.limits
        self.decoder = EventDecoder(config)
        self.admission = Admission("event calls", limits.concurrent_rpcs_max, limits.retry_after_ms)
        self.request_ids = RequestIds()
        self._writer = writer
        self._id_bytes_max = limits.id_bytes_max

    @property
    def writer(self) -> EventWriter:
        """Writes to the store. Raises `StoreIsOff`."""
        if self._writer is None:
            raise StoreIsOff
        return self._writer

    async def write_events(self, request: pb.WriteEventsRequest, call: Call) -> pb.WriteEventsResponse:
        """All of the events or none. Raises domain errors."""
        call.request_id = self.request_ids.of(request.request_id)
        writer = self.writer
        if time.monotonic() >= call.deadline_s:
            raise DeadlinePassed("work could begin")
        self.admission.enter()
        try:
            violations: list[Violation] = []
            check_text(request.request_id, self._id_bytes_max, "request_id", violations)
            if violations:
                raise InvalidRequest(violations)
            receipt = await writer.write(self.decoder.decode(request.events, time.time()))
        finally:
            self.admission.leave()
        return pb.WriteEventsResponse(
            request_id=call.request_id,
            written_count=receipt.written_count,
            duplicate_count=receipt.duplicate_count,
            position_token=make_token(receipt.last_ms),
        )

    async def purge_user(self, request: pb.PurgeUserRequest, call: Call) -> pb.PurgeUserResponse:
        """Not here."""
        call.request_id = self.request_ids.of(request.request_id)
        raise NotHere("PurgeUser is answered on the admin listener, with the admin token; not on the public port")
