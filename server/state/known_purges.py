"""Who was purged, in memory: what hides a person's history in old generations while the store does not answer.

With the store the shopper's own state says it, in the same read as the rest.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from valkey import Valkey

from server.domain import Query, SimilarItemsQuery
from server.events.purge_list import read_purges
from server.store.errors import translated


class KnownPurges:
    """The purge list as one worker has heard of it. Written on the follower's thread, read on the engine's."""

    def __init__(self, connection: Valkey) -> None:
        self._connection = connection
        self._purged_ms: dict[str, float] = {}

    def read_again(self) -> None:
        """All of the list: at the start, and when some of it may have gone by unheard. Raises StoreError."""
        with translated():
            purges = read_purges(self._connection)
        self._purged_ms = {purge.person: purge.purged_ms for purge in purges}

    def heard(self, person: str, document: bytes, position: str) -> None:  # noqa: ARG002 - the stream's own words
        """One purge, as the stream of changes tells it."""
        self._purged_ms[person] = float(json.loads(document)["purged_ms"])

    def of(self, queries: Sequence[Query]) -> NDArray[np.float64]:
        """(B,) when each query's shopper was purged, 0 where never."""
        known, purged_ms = self._purged_ms, np.zeros(len(queries))
        if known:
            for place, query in enumerate(queries):
                if not isinstance(query, SimilarItemsQuery):
                    shopper = query.shopper
                    persons = (f"u:{shopper.user_id}", f"v:{shopper.visitor_id}")
                    purged_ms[place] = max(known.get(person, 0.0) for person in persons)
        return purged_ms
