"""Everything that may go wrong with a request, as one tree; `server.status` maps each of them to a gRPC status.

TwinrankError
├── InvalidRequest              the caller sent something that breaks a limit; names the fields
│   └── MalformedMessage        the bytes are no protobuf message of this method
├── MessageTooLarge             the request is above the limit of its size; sending it again does not help
├── Unauthenticated             the admin token is missing or wrong
├── NotFound
│   ├── ItemNotFound            the generation does not hold the one item asked about
│   └── GenerationNotFound      no published generation has this id
├── GenerationRefused           a generation exists and did not pass verification
├── Overloaded                  try again after `retry_after_ms`
│   ├── TooManyInFlight         every permit is taken
│   └── QueueFull               as many queries wait as the configuration lets wait
├── CatalogueFull               no row or no memory is left for what would be kept; nothing was written
├── CatalogueBusy               others kept changing the same items; nothing was written, try again
├── DeadlinePassed              the caller's time was over before the work began
├── Unavailable
│   ├── NoGeneration            nothing has been loaded yet
│   ├── CatalogueDown           the store does not take changes of the catalogue now
│   ├── StoreIsDown             the store does not take writes now; what was sent may or may not have been kept
│   └── ShuttingDown            this server is on its way out; ask another
├── StoreIsFull                 the store has no room: nothing was kept, and somebody must make room
├── StoreIsOff                  the configuration has no store, so nothing can be remembered
├── NotHere                     the method is served by another listener
└── EngineFault                 the engine failed or answered nonsense: ours, never the caller's
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

VIOLATIONS_MAX = 16
"""A status travels in HTTP/2 metadata, which peers cut at 8 KiB: more violations than this are not listed."""


class TwinrankError(Exception):
    """The root of the tree. The message is for the caller: it holds no internals."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One field that is wrong: its path in the request message, such as `recent_events[2].time`, and why."""

    field: str
    description: str


class InvalidRequest(TwinrankError):
    """The request breaks a rule of the contract or a limit of the configuration."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        self.violations = tuple(violations[:VIOLATIONS_MAX])
        first = violations[0]
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        super().__init__(f"{first.field}: {first.description}{more}" if first.field else first.description)


class MalformedMessage(InvalidRequest):
    """The bytes could not be parsed as the method's request."""

    def __init__(self, message_name: str) -> None:
        super().__init__([Violation("", f"the bytes are not a valid {message_name}")])


class MessageTooLarge(TwinrankError):
    """The request message is larger than the configuration allows."""

    def __init__(self, size_bytes: int, size_bytes_max: int) -> None:
        super().__init__(f"the message has {size_bytes} bytes, at most {size_bytes_max} are taken")


class Unauthenticated(TwinrankError):
    """The call carries no valid bearer token."""


class NotFound(TwinrankError):
    """What the caller named does not exist."""


class ItemNotFound(NotFound):
    """The generation that answers does not hold this item."""

    def __init__(self, item_id: str, generation_id: str) -> None:
        super().__init__(f"item {item_id!r} is not in generation {generation_id!r}")


class GenerationNotFound(NotFound):
    """No generation of this id is published."""


class GenerationRefused(TwinrankError):
    """The generation is there but must not be served; the message names the file or the rule."""


class Overloaded(TwinrankError):
    """The server has as much to do as it takes on; trying again later may help."""

    def __init__(self, message: str, retry_after_ms: int) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class TooManyInFlight(Overloaded):
    """Every permit of the admission is taken."""


class QueueFull(Overloaded):
    """The engine's queue is at its limit."""


class CatalogueFull(TwinrankError):
    """A new item finds no room; the message says what makes some."""


class CatalogueBusy(TwinrankError):
    """Changes of the same items by others went first, again and again."""

    def __init__(self) -> None:
        super().__init__("others keep changing the same items; nothing was written, try again")


class DeadlinePassed(TwinrankError):
    """The deadline passed before the stage named in the message."""

    def __init__(self, stage: str) -> None:
        super().__init__(f"the deadline passed before {stage}")


class Unavailable(TwinrankError):
    """This server cannot answer now; another may."""


class NoGeneration(Unavailable):
    """No generation has been loaded."""

    def __init__(self) -> None:
        super().__init__("no generation is loaded yet")


class CatalogueDown(Unavailable):
    """The store that keeps changes does not answer, or not in time."""

    def __init__(self) -> None:
        super().__init__("the store does not take changes of the catalogue now; to send them again does no harm")


class ShuttingDown(Unavailable):
    """The server has been told to stop."""

    def __init__(self) -> None:
        super().__init__("this server is shutting down")


class StoreIsDown(Unavailable):
    """The store of events does not answer, or not in time; try again after `retry_after_ms`."""

    def __init__(self, retry_after_ms: int) -> None:
        super().__init__("the store of events does not take writes now; send events with ids again, they count once")
        self.retry_after_ms = retry_after_ms


class StoreIsFull(TwinrankError):
    """The store of events refuses writes for want of memory or disk."""

    def __init__(self) -> None:
        super().__init__("the store of events is full and keeps nothing more; nothing was written")


class StoreIsOff(TwinrankError):
    """What was asked for needs a store, and `store.mode` is off."""

    def __init__(self) -> None:
        super().__init__("this server remembers nothing: store.mode is 'off' in its configuration")


class NotHere(TwinrankError):
    """The method exists, on another listener."""


class EngineFault(TwinrankError):
    """The engine broke its contract."""
