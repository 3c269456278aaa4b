"""What can be wrong with the store, and the translation of the client library's errors into that.

StoreError
├── StoreUnavailable   down, loading its file, too slow: later it may work
├── StoreFull          its memory or its disk: nothing was kept, nothing is acknowledged
└── StoreUnfit         not a store for us: a cluster, a replica, too old, wrong credentials, a damaged file
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from valkey import exceptions as valkey_errors


class StoreError(Exception):
    """The store did not do what it was asked. What was written may or may not have been kept."""


class StoreUnavailable(StoreError):
    """The store is down, loads its file, or did not answer in time."""


class StoreFull(StoreError):
    """The store has no room, in memory or on disk, and refused a write."""


class StoreUnfit(StoreError):
    """What answers there cannot be our store; somebody has to change something."""


_UNFIT_WORDS = ("READONLY", "NOAUTH", "WRONGPASS", "NOPERM", "MOVED", "ASK", "CROSSSLOT", "CLUSTERDOWN")
_UNAVAILABLE_WORDS = ("LOADING", "BUSY", "MASTERDOWN", "NOREPLICAS", "TRYAGAIN", "UNKILLABLE")
_FULL_WORDS = ("OOM", "MISCONF")
_UNFIT = (
    valkey_errors.AuthenticationError,
    valkey_errors.AuthorizationError,
    valkey_errors.AuthenticationWrongNumberOfArgsError,
    valkey_errors.ReadOnlyError,
    valkey_errors.NoPermissionError,
    valkey_errors.AskError,
    valkey_errors.ClusterError,
    valkey_errors.ClusterCrossSlotError,
)


def store_error(error: Exception) -> StoreError:
    """The error of ours for one of the library's, also for one found among a pipeline's results."""
    if isinstance(error, StoreError):
        return error
    # A pipeline puts its own words before the server's; the server's first word is its code.
    said = str(error).rpartition("caused error: ")[2]
    word = said.partition(" ")[0]
    if isinstance(error, valkey_errors.OutOfMemoryError) or word in _FULL_WORDS:
        return StoreFull(f"the store is full and keeps nothing more: {said}")
    if isinstance(error, _UNFIT) or word in _UNFIT_WORDS:
        return StoreUnfit(f"the store cannot be used: {said}")
    unavailable = (valkey_errors.ConnectionError, valkey_errors.TimeoutError, valkey_errors.TryAgainError, OSError)
    if isinstance(error, unavailable) or word in _UNAVAILABLE_WORDS:
        return StoreUnavailable(f"the store does not answer: {said or type(error).__name__}")
    return StoreError(f"the store refused a command: {said}")


@contextmanager
def translated() -> Iterator[None]:
    """Errors of the client library leave it as errors of ours; around both sync and awaited calls.

    `NoScriptError` passes as it is: it has an answer of its own, which is to send the script.
    """
    try:
        yield
    except valkey_errors.NoScriptError:
        raise
    except (valkey_errors.ValkeyError, OSError) as error:
        raise store_error(error) from error
