"""What a search may know: the dataset without the events from `train_end` on, taken away before anything reads it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from towers.schema import Dataset, LogTooShortError


def known_before(dataset: Dataset, end_s: int) -> Dataset:
    """The dataset as it stood before a moment, epoch seconds; its meta says so too.

    Raises:
        LogTooShortError: there is no event before it.
    """
    events = dataset.events
    past = events.time_s < end_s
    if not past.any():
        raise LogTooShortError(f"no event lies before training.train_end, {np.datetime64(end_s, 's')}")
    columns = {name: getattr(events, name)[past] for name in events.__dataclass_fields__ if name != "context"}
    kept = replace(events, **columns, context={name: column[past] for name, column in events.context.items()})
    meta = dataset.meta.model_copy(
        update={
            "counts": dataset.meta.counts.model_copy(update={"rows": len(kept)}),
            "sources": {},
            "imputed": {},
            "first_time_s": int(kept.time_s.min()),
            "last_time_s": int(kept.time_s.max()),
        }
    )
    return replace(dataset, meta=meta, events=kept)
