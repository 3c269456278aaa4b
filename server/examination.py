"""Examining a generation once for all processes of a server: what is found, who is asked, and the three steps.

verify     every checksum; touches no torch, so that it can run while others still import it
examine    loads it in a process of its own, in which a file that breaks a parser breaks nothing else
loader     loads it to serve from, and is spared what has been found already
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from index.generation import Seal
from server.config import ServerConfig
from server.generations import Loader


class Finding(BaseModel):
    """What is known of a generation; without anything a loader does all the work by itself.

    Attributes:
        seal: its files, whose checksums have been compared.
        fits: it has been loaded for trial, and its parts fit each other and this server.
        refused: why it must not even be opened; empty: it may be.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    seal: Seal | None = None
    fits: bool = False
    refused: str = ""


Ask = Callable[[str], Finding]
"""Asks what is known of a generation; may take as long as it takes to find out. Called on the loader's thread."""


def know_nothing(_generation_id: str) -> Finding:
    """The answer where there is nobody to ask."""
    return Finding()


@dataclass(frozen=True)
class Loading:
    """How generations become engines. Module-level functions, which other processes find by name.

    Attributes:
        loader: makes the loader of a worker. verify: compares the checksums; raises what `open_generation` raises.
        examine: loads a verified generation for trial; raises whatever is wrong with it.
    """

    loader: Callable[[ServerConfig, Ask], Loader]
    verify: Callable[[ServerConfig, str], Seal]
    examine: Callable[[ServerConfig, str, Seal], None]
