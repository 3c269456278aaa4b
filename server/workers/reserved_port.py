"""Keeps a port for the workers: bound by the supervisor, never listening, shared by SO_REUSEPORT.

The port stays taken while every worker is being replaced, and port 0 becomes one number for all of them. The kernel
gives connections to listening sockets only, so none comes here.
"""

from __future__ import annotations

import os
import socket


class ReservedPort:
    """A port of `host`, from the construction until `close`. `port` 0 takes a free one.

    Unless the port is `shared` with other servers, one that somebody listens on already is an error.

    Raises:
        OSError: the address cannot be had; the message names it.
    """

    def __init__(self, host: str, port: int, *, shared: bool) -> None:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        try:
            if port and not shared:
                with socket.socket(family, kind, protocol) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(address)
            self._socket = socket.socket(family, kind, protocol)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self._socket.bind(address)
        except OSError as error:
            raise OSError(error.errno, f"{host}:{port}: {os.strerror(error.errno or 0)}") from error

    @property
    def port(self) -> int:
        """The number."""
        return int(self._socket.getsockname()[1])

    def close(self) -> None:
        """Lets go of it."""
        self._socket.close()
