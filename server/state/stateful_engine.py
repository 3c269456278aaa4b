"""The engine as the batcher sees it: reads the states of a batch, then answers it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from index.filters.kinds import AttributeKind
from server.batching import Engine
from server.domain import Answer, BatchTimings, Query
from server.state.reader import StateReader
from server.state.recent import ShopperStates


class StatefulEngine:
    """One generation's engine beside the store's reader, which outlives it."""

    def __init__(self, engine: Engine, reader: StateReader) -> None:
        self._engine = engine
        self._reader = reader

    @property
    def generation_id(self) -> str:
        """The generation that answers."""
        return self._engine.generation_id

    @property
    def event_types(self) -> tuple[str, ...]:
        """Event types that requests may carry."""
        return self._engine.event_types

    @property
    def context_columns(self) -> tuple[str, ...]:
        """Context columns that requests may carry."""
        return self._engine.context_columns

    @property
    def attributes(self) -> Mapping[str, AttributeKind] | None:
        """The items' attributes that filters may name; None where there are none to filter by."""
        return self._engine.attributes

    def answer(
        self,
        queries: Sequence[Query],
        states: ShopperStates | None = None,
        /,
    ) -> tuple[list[Answer], BatchTimings]:
        """Answers every query, in their order; the time to read the states counts to the stage `state`."""
        began_s = time.perf_counter()
        if states is None:
            states = self._reader.read(queries)
        read_us = round((time.perf_counter() - began_s) * 1e6)
        answers, timings = self._engine.answer(queries, states)
        return answers, timings._replace(state_us=timings.state_us + read_us)
