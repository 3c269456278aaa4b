"""Where the store answers."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class StoreAddress:
    """`unix:///path/valkey.sock?db=0`, `valkey://[:password@]host:port/db` or `valkeys://…`; given to workers."""

    url: str

    def __str__(self) -> str:
        """The address without its password, for logs and messages."""
        return re.sub(r"//[^/@]*@", "//***@", re.sub(r"password=[^&]*", "password=***", self.url))

    def __repr__(self) -> str:
        return f"StoreAddress({str(self)!r})"
