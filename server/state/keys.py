"""The keys of the store, every one of them: what writes and what reads takes them from here.

A person is `u:<user_id>`, or `v:<visitor_id>` while nobody knows the user. The keys of one person's shard carry its
hash tag, `{00}` to `{63}`, so that a cluster would keep them together.
"""

from __future__ import annotations

import xxhash

SHARD_COUNT = 64
ITEMS_KEY = "tr:items"
"""A hash: item id to the JSON document of a live item."""
CHANGES_KEY = "tr:changes"
"""The stream of changes of the catalogue and of purges."""
PURGED_KEY = "tr:purged"
"""A hash: person to the JSON of their purge."""


def shard(person_id: str) -> int:
    """The shard, 0 … 63, of a user or visitor, by the id."""
    return xxhash.xxh3_64_intdigest(person_id.encode("utf-8", "surrogatepass")) % SHARD_COUNT


def shard_prefix(shard_number: int) -> str:
    """What the keys of a shard begin with."""
    return f"tr:{{{shard_number:02}}}:"


_PREFIXES = tuple(map(shard_prefix, range(SHARD_COUNT)))


def state_key(person: str) -> str:
    """The key of a person's state."""
    return _PREFIXES[shard(person[2:])] + person


def user_key(user_id: str) -> str:
    """The key of a user's state."""
    return f"{_PREFIXES[shard(user_id)]}u:{user_id}"


def visitor_key(visitor_id: str) -> str:
    """The key of an anonymous visitor's state."""
    return f"{_PREFIXES[shard(visitor_id)]}v:{visitor_id}"


def alias_key(user_id: str) -> str:
    """The key of the set of visitors that became this user."""
    return f"{shard_prefix(shard(user_id))}alias:{user_id}"


def log_key(shard_number: int) -> str:
    """The key of one shard of the event log."""
    return f"{shard_prefix(shard_number)}log"
