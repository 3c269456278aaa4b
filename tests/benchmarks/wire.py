"""HTTP/2 as a load needs it: one connection that sends gRPC calls and takes their answers for about 15 µs each.

grpc.aio spends several times that, so that one core of load could not fill a fast server. Header blocks are as those of
other clients: fields enter the dynamic table with the first call and are one byte each from then on (RFC 7541). Frames
are RFC 9113's. What no server here sends, such as padding or continuations, is refused and not guessed at.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

DATA, HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 5, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
HEADER_TABLE_SIZE, ENABLE_PUSH, INITIAL_WINDOW_SIZE = 1, 2, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WINDOW_MAX = 2**31 - 1
WINDOW_DEFAULT = 65_535
WINDOW_RENEWED_BYTES = 2**29
TABLE_SIZE_BYTES = 4_096
SETTLE_TIMEOUT_S = 5.0
_METHOD_POST, _SCHEME_HTTP = b"\x83", b"\x86"
_NAME_AUTHORITY, _NAME_PATH, _NAME_CONTENT_TYPE, _NEW_NAME = 1, 4, 31, 0
_FIRST_DYNAMIC = 62

Done = Callable[[bytes | None], None]
"""Takes a call's answer without gRPC's five bytes, or None when there was none."""
Message = Callable[[bytes], None]
"""Takes one message of a stream."""


class Refused(ConnectionError):
    """The server sent what this client does not read."""


@dataclass(slots=True)
class _Stream:
    """A call under way; one with `message` hands out each message as it comes."""

    done: Done
    message: Message | None = None
    received: bytearray = field(default_factory=bytearray)
    credit: int = WINDOW_DEFAULT


class Connection(asyncio.Protocol):
    """One connection. Failures of the connection answer every call under way with None."""

    def __init__(self, path: str, authority: str, deadline_s: float | None) -> None:
        fields = [
            _literal(_NAME_PATH, path),
            _literal(_NAME_AUTHORITY, authority),
            _literal(_NAME_CONTENT_TYPE, "application/grpc"),
            _literal(_NEW_NAME, "trailers", name="te"),
        ]
        if deadline_s is not None:
            fields.append(_literal(_NEW_NAME, f"{deadline_s * 1e3:.0f}m", name="grpc-timeout"))
        self._first_headers = _METHOD_POST + _SCHEME_HTTP + b"".join(fields)
        newest_last = range(_FIRST_DYNAMIC + len(fields) - 1, _FIRST_DYNAMIC - 1, -1)
        self._headers = _METHOD_POST + _SCHEME_HTTP + bytes(0x80 | index for index in newest_last)
        self._streams: dict[int, _Stream] = {}
        self._next_id = 1
        self._credit = WINDOW_DEFAULT
        self._stream_credit = WINDOW_DEFAULT
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._unread = b""
        self._taken_bytes = 0
        self._out: list[bytes] = []
        self._flushing = False
        self.settled = asyncio.get_running_loop().create_future()
        """Done when the server's settings have come."""

    # Calls

    def call(self, payload: bytes, done: Done) -> None:
        """One unary call; `done` is never called before this returns."""
        if self._transport.is_closing():
            asyncio.get_running_loop().call_soon(done, None)
            return
        stream_id = self._open(_Stream(done=done))
        self._send_data(stream_id, _prefixed(payload), END_STREAM)

    def stream(self, message: Message, ended: Done) -> int:
        """Opens a call with messages both ways and returns its number; `ended` learns of its end with None."""
        return self._open(_Stream(done=ended, message=message))

    def send(self, stream_id: int, payload: bytes) -> None:
        """One message of a stream. Raises ConnectionResetError when the stream has ended."""
        if stream_id not in self._streams:
            raise ConnectionResetError("the server has ended the stream")
        self._send_data(stream_id, _prefixed(payload), 0)

    def half_close(self, stream_id: int) -> None:
        """Says that no message follows."""
        self._write(_frame(DATA, END_STREAM, stream_id, b""))

    def close(self) -> None:
        """Ends the connection."""
        self._transport.close()

    def _open(self, stream: _Stream) -> int:
        stream_id, self._next_id = self._next_id, self._next_id + 2
        stream.credit = self._stream_credit
        self._streams[stream_id] = stream
        self._write(_frame(HEADERS, END_HEADERS, stream_id, self._headers if stream_id > 1 else self._first_headers))
        return stream_id

    def _send_data(self, stream_id: int, data: bytes, flags: int) -> None:
        """Sends as soon as both windows allow; a message here is smaller than any frame's limit."""
        stream = self._streams[stream_id]
        frame = _frame(DATA, flags, stream_id, data)
        if self._waiting or len(data) > self._credit or len(data) > stream.credit:
            self._waiting.append((stream_id, frame))
            return
        self._credit -= len(data)
        stream.credit -= len(data)
        self._write(frame)

    def _send_waiting(self) -> None:
        while self._waiting:
            stream_id, frame = self._waiting[0]
            stream, size = self._streams.get(stream_id), len(frame) - 9
            if stream is not None:
                if size > self._credit or size > stream.credit:
                    return
                self._credit -= size
                stream.credit -= size
                self._write(frame)
            self._waiting.popleft()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        wanted = struct.pack(">HIHI", ENABLE_PUSH, 0, INITIAL_WINDOW_SIZE, WINDOW_MAX)
        grown = struct.pack(">I", WINDOW_MAX - WINDOW_DEFAULT)
        self._transport.write(PREFACE + _frame(SETTINGS, 0, 0, wanted) + _frame(WINDOW_UPDATE, 0, 0, grown))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.settled.done():
            self.settled.set_exception(ConnectionResetError("the server closed before it said its settings"))
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.done(None)

    def data_received(self, data: bytes) -> None:
        unread = self._unread + data if self._unread else data
        place, end = 0, len(unread)
        while end - place >= 9:
            size = int.from_bytes(unread[place : place + 3], "big")
            begin, place_after = place + 9, place + 9 + size
            if place_after > end:
                break
            stream_id = int.from_bytes(unread[place + 5 : begin], "big")
            self._frame(unread[place + 3], unread[place + 4], stream_id, unread[begin:place_after])
            place = place_after
        self._unread = unread[place:]

    # Frames

    def _frame(self, kind: int, flags: int, stream_id: int, body: bytes) -> None:
        if kind == DATA:
            self._data(flags, stream_id, body)
        elif kind == HEADERS:
            if not flags & END_HEADERS or flags & PADDED:
                self._refuse("headers in parts or padded")
            if flags & END_STREAM:
                self._finish(stream_id)
        elif kind == RST_STREAM:
            self._finish(stream_id, failed=True)
        elif kind == SETTINGS:
            if not flags & ACK:
                self._settings(body)
        elif kind == PING:
            if not flags & ACK:
                self._write(_frame(PING, ACK, 0, body))
        elif kind == WINDOW_UPDATE:
            self._window_update(stream_id, int.from_bytes(body, "big"))
        elif kind in (PUSH_PROMISE, CONTINUATION):
            self._refuse(f"a frame of type {kind}")

    def _data(self, flags: int, stream_id: int, body: bytes) -> None:
        if flags & PADDED:
            self._refuse("padded data")
        self._taken_bytes += len(body)
        if self._taken_bytes >= WINDOW_RENEWED_BYTES:
            self._write(_frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", self._taken_bytes)))
            self._taken_bytes = 0
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        stream.received += body
        if stream.message is not None:
            _take_messages(stream.received, stream.message)
        if flags & END_STREAM:
            self._finish(stream_id)

    def _finish(self, stream_id: int, failed: bool = False) -> None:
        """A call has ended. One that fails has no message, or is reset; the server's own count confirms the rest."""
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            stream.done(bytes(stream.received[5:]) if len(stream.received) > 5 and not failed else None)

    def _settings(self, body: bytes) -> None:
        for name, value in struct.iter_unpack(">HI", body):
            if name == HEADER_TABLE_SIZE and value < TABLE_SIZE_BYTES:
                self._refuse(f"a header table of {value} bytes")
            if name == INITIAL_WINDOW_SIZE:
                for stream in self._streams.values():
                    stream.credit += value - self._stream_credit
                self._stream_credit = value
        self._write(_frame(SETTINGS, ACK, 0, b""))
        if not self.settled.done():
            self.settled.set_result(None)
        self._send_waiting()

    def _window_update(self, stream_id: int, size: int) -> None:
        if stream_id == 0:
            self._credit += size
        elif stream_id in self._streams:
            self._streams[stream_id].credit += size
        self._send_waiting()

    def _refuse(self, what: str) -> None:
        self._transport.abort()
        raise Refused(f"the server sent {what}, which this client does not read")

    def _write(self, data: bytes) -> None:
        """What one turn of the event loop writes goes out together."""
        self._out.append(data)
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if not self._transport.is_closing():
            self._transport.write(b"".join(self._out))
        self._out.clear()


async def connect(target: str, path: str, deadline_s: float | None = None) -> Connection:
    """A connection that is ready for calls of one method, each with the deadline if any. Raises OSError."""
    host, _, port = target.rpartition(":")
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: Connection(path, target, deadline_s), host, int(port))
    await asyncio.wait_for(connection.settled, SETTLE_TIMEOUT_S)
    return connection


def _frame(kind: int, flags: int, stream_id: int, body: bytes) -> bytes:
    return struct.pack(">IBI", len(body) << 8 | kind, flags, stream_id) + body


def _prefixed(payload: bytes) -> bytes:
    return struct.pack(">BI", 0, len(payload)) + payload


def _literal(name_index: int, value: str, name: str = "") -> bytes:
    """A header field that enters the dynamic table: its name by index, or in letters."""
    return bytes([0x40 | name_index]) + (_text(name) if name else b"") + _text(value)


def _text(value: str) -> bytes:
    encoded = value.encode("ascii")
    assert len(encoded) < 127, value
    return bytes([len(encoded)]) + encoded


def _take_messages(received: bytearray, message: Message) -> None:
    place = 0
    while len(received) - place >= 5:
        end = place + 5 + int.from_bytes(received[place + 1 : place + 5], "big")
        if end > len(received):
            break
        message(bytes(received[place + 5 : end]))
        place = end
    del received[:place]
