"""One open StreamEvents call: messages go in, what comes back is put into a queue that the owner reads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import grpc
from twinrank.v1 import events_pb2 as pb
from twinrank_client.errors import TwinrankError
from twinrank_client.status import error_from_rpc


@dataclass(frozen=True, slots=True)
class Heard:
    """What came from a stream: an acknowledgement, or its end (`error` None: the server ended it in peace)."""

    stream: EventStream
    response: pb.StreamEventsResponse | None = None
    error: TwinrankError | None = None


class EventStream:
    """Sends from the owner's thread, hears in a thread of its own. After its end it hears nothing more."""

    def __init__(self, stub: Any, heard: SimpleQueue[Heard]) -> None:
        self._requests: SimpleQueue[pb.StreamEventsRequest | None] = SimpleQueue()
        self._heard = heard
        self._sequence_number = 0
        self._call = stub.StreamEvents(self._feed())
        threading.Thread(target=self._listen, name="acknowledgements", daemon=True).start()

    def send(self, events: list[pb.Event]) -> int:
        """Queues one message; its sequence number."""
        self._sequence_number += 1
        self._requests.put(pb.StreamEventsRequest(sequence_number=self._sequence_number, events=events))
        return self._sequence_number

    def close(self) -> None:
        """Gives the call up at once."""
        self._requests.put(None)
        self._call.cancel()

    def _feed(self) -> Iterator[pb.StreamEventsRequest]:
        while (request := self._requests.get()) is not None:
            yield request

    def _listen(self) -> None:
        try:
            for response in self._call:
                self._heard.put(Heard(self, response))
        except grpc.RpcError as error:
            self._heard.put(Heard(self, error=error_from_rpc(error, "")))
        else:
            self._heard.put(Heard(self))
        finally:
            self._requests.put(None)
