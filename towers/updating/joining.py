"""The dataset with what the log brought: new events, new users, new items; without those who were purged.

What cannot be taken is counted by its reason, and nothing is left out in silence:

    purged            the person was purged after it
    anonymous         of a visitor who never signed in: a generation knows users only
    unknown_type      not among the shop's event types
    no_item           searches
    unknown_item      neither in the generation's catalogue nor in the live one
    in_files          older than the end of the shop's files, which had it
    in_the_future     it says that it happened well after it came into the log
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from towers.ingest.impute import UNKNOWN
from towers.schema import Dataset, EventColumns
from towers.schema.dataset import EVENT_DTYPES, NO_SESSION, AttributeNames, DatasetCounts, DatasetMeta

FUTURE_S_MAX = 300.0
USER, VISITOR = "u:", "v:"

Attributes = Mapping[str, str | float]


@dataclass(frozen=True)
class LiveFacts:
    """What the store knows beside the log.

    Attributes:
        items: gives the attributes of those of the ids that the live catalogue has.
        purged: when each person (`u:<user>`, `v:<visitor>`) was purged, milliseconds of the store's clock.
    """

    items: Callable[[Sequence[str]], Mapping[str, Attributes]]
    purged: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Joined:
    """The dataset as an update reads it, and what became of the events of the log.

    Attributes:
        dataset: rows of its own; users and items of the base stand first.
        taken: events of the log that it holds. new: those after the generation's place in the log.
        left_out: events of the log that it does not hold, by reason.
        users, items: how many are new.
        base_left_out: events of the base that it does not hold, by reason (`purged`, `unknown_item`, `after_files`).
    """

    dataset: Dataset
    taken: int
    new: int
    left_out: dict[str, int]
    users: int
    items: int
    base_left_out: dict[str, int]


def join(
    base: Dataset,
    catalogue: pl.DataFrame,
    log: pl.DataFrame,
    live: LiveFacts,
    *,
    files_until_s: int,
    known_until_ms: int,
) -> Joined:
    """The base with the log's events.

    Args:
        base: the shop's files.
        catalogue: the generation's items, columns as in the base's.
        log: by EVENT_SCHEMA, everything that ever was read of it.
        live: the live catalogue and the purged.
        files_until_s: events before it are the files', from it on the log's.
        known_until_ms: the generation's place in the log.
    """
    events, left_out = _usable(log, base.meta, live.purged, files_until_s)
    listed = set(catalogue["item_id"])
    attributes = live.items(sorted(set(events["item_id"]) - listed))
    added = sorted(attributes)
    items = pl.concat([catalogue.select(base.items.columns), _item_rows(base, added, attributes)])
    known = events["item_id"].is_in([*listed, *added])
    left_out["unknown_item"] = int((~known).sum())
    events = events.filter(known)
    gone = [user for user in base.users["user_id"] if USER + user in live.purged]
    users = base.users.filter(~pl.col("user_id").is_in(gone)) if gone else base.users
    strangers = sorted(set(events["user_id"]) - set(users["user_id"]))
    users = pl.concat([users, _user_rows(base, strangers)])
    old, base_left_out = _base_events(base, users, items, live.purged, files_until_s)
    columns = _sorted(pl.concat([old, _event_rows(events, base, users, items)]))
    time_s = columns["time_s"]
    meta = base.meta.model_copy(
        update={
            "counts": DatasetCounts(rows=columns.height, items=items.height, users=users.height),
            "last_time_s": int(time_s.max()) if columns.height else base.meta.last_time_s,  # type: ignore[arg-type]
        }
    )
    arrays = {name: columns[name].to_numpy() for name in EVENT_DTYPES}
    context = {name: columns[name].to_numpy() for name in meta.context_columns}
    dataset = Dataset(meta, items, users, EventColumns(**arrays, context=context))
    return Joined(
        dataset,
        events.height,
        int((events["position_ms"] > known_until_ms).sum()),
        {reason: count for reason, count in left_out.items() if count},
        len(strangers),
        len(added),
        {reason: count for reason, count in base_left_out.items() if count},
    )


def without_purged(log: pl.DataFrame, purged: Mapping[str, float]) -> pl.DataFrame:
    """The log's rows without those that happened before their person was purged."""
    if not purged or log.height == 0:
        return log
    ends = pl.DataFrame(
        {"person": list(purged), "purged_ms": list(purged.values())},
        schema={"person": pl.String, "purged_ms": pl.Float64},
    )
    end = pl.lit(-np.inf)
    marked = log
    for prefix, column in ((USER, "user_id"), (VISITOR, "visitor_id")):
        marked = marked.join(
            ends.rename({"purged_ms": f"{column}_end"}),
            left_on=pl.lit(prefix) + pl.col(column),
            right_on="person",
            how="left",
            maintain_order="left",
        )
        end = pl.max_horizontal(end, pl.col(f"{column}_end"))
    return marked.filter((pl.col("time_s") * 1000 >= end) & (pl.col("position_ms") >= end)).select(log.columns)


def _usable(
    log: pl.DataFrame, meta: DatasetMeta, purged: Mapping[str, float], files_until_s: int
) -> tuple[pl.DataFrame, dict[str, int]]:
    """The log's events of known users and types, and how many fell to which reason; the first that holds counts."""
    kept = without_purged(log, purged)
    left_out = {"purged": log.height - kept.height}
    signed_in = kept.filter("signs_in").unique("visitor_id", keep="last", maintain_order=True)
    became = dict(zip(signed_in["visitor_id"], signed_in["user_id"], strict=True))
    kept = kept.with_columns(
        user_id=pl.when(pl.col("user_id") == "")
        .then(pl.col("visitor_id").replace_strict(became, default="", return_dtype=pl.String))
        .otherwise("user_id")
    )
    reasons = {
        "anonymous": pl.col("user_id") == "",
        "unknown_type": ~pl.col("event_type").is_in(list(meta.event_types)),
        "no_item": pl.col("item_id") == "",
        "in_files": pl.col("time_s") < files_until_s,
        "in_the_future": pl.col("time_s") > pl.col("position_ms") / 1000 + FUTURE_S_MAX,
    }
    for reason, holds in reasons.items():
        before = kept.height
        kept = kept.filter(~holds)
        left_out[reason] = before - kept.height
    return kept, left_out


def _item_rows(base: Dataset, item_ids: list[str], live: Mapping[str, Attributes]) -> pl.DataFrame:
    """Rows of new items; what the live catalogue does not say is unknown, as ingest fills it."""
    return _rows(base.items, base.meta.item_attributes, "item_id", item_ids, [live[item_id] for item_id in item_ids])


def _user_rows(base: Dataset, user_ids: list[str]) -> pl.DataFrame:
    return _rows(base.users, base.meta.user_attributes, "user_id", user_ids, [{} for _ in user_ids])


def _rows(
    table: pl.DataFrame, names: AttributeNames, id_column: str, ids: list[str], attributes: list[Attributes]
) -> pl.DataFrame:
    columns: dict[str, pl.Series] = {id_column: pl.Series(ids, dtype=pl.String)}
    for name in (*names.categorical, *names.text):
        missing = UNKNOWN if name in names.categorical else ""
        columns[name] = pl.Series([str(given.get(name, missing)) for given in attributes], dtype=pl.String)
    for name in names.numeric:
        median = table[name].median()
        values = [_number(given.get(name), float(median) if isinstance(median, float) else 0.0) for given in attributes]
        columns[name] = pl.Series(values, dtype=pl.Float32)
    return pl.DataFrame(columns).select(table.columns)


def _number(value: str | float | None, missing: float) -> float:
    return float(value) if isinstance(value, (int, float)) else missing


def _base_events(
    base: Dataset, users: pl.DataFrame, items: pl.DataFrame, purged: Mapping[str, float], files_until_s: int
) -> tuple[pl.DataFrame, dict[str, int]]:
    """The files' events with the rows of the new tables."""
    events = base.events
    frame = pl.DataFrame(
        {name: getattr(events, name) for name in EVENT_DTYPES}
        | {name: pl.Series(values, dtype=pl.String) for name, values in events.context.items()},
        schema_overrides=dict(EVENT_DTYPES),
    )
    user_row = _places(base.users["user_id"], users["user_id"])[events.user_row]
    item_row = _places(base.items["item_id"], items["item_id"])[events.item_row]
    gone = np.array([USER + user in purged for user in base.users["user_id"]], np.bool_)[events.user_row]
    late = (events.time_s >= files_until_s) & ~gone
    deleted = (item_row < 0) & ~gone & ~late
    counts = {"purged": int(gone.sum()), "after_files": int(late.sum()), "unknown_item": int(deleted.sum())}
    kept = pl.Series(~(gone | late | deleted))
    return frame.with_columns(user_row=user_row, item_row=item_row).filter(kept), counts


def _places(ids: pl.Series, among: pl.Series) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """(n,) where each id stands in `among`, -1 where it does not."""
    place = {value: row for row, value in enumerate(among)}
    return np.fromiter((place.get(value, -1) for value in ids), np.int32, len(ids))


def _event_rows(events: pl.DataFrame, base: Dataset, users: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """The log's events as the dataset has them; sessions get codes after those of the files."""
    meta = base.meta
    sessions = events["session_id"]
    named = sessions.filter(sessions != "").unique(maintain_order=True)
    first = int(base.events.session.max(initial=NO_SESSION)) + 1
    code = {name: first + place for place, name in enumerate(named)} | {"": NO_SESSION}
    contexts = [json.loads(text) if text else {} for text in events["context"]]
    return pl.DataFrame(
        {
            "user_row": _places(events["user_id"], users["user_id"]),
            "item_row": _places(events["item_id"], items["item_id"]),
            "event_type": [meta.event_types.index(name) for name in events["event_type"]],
            "time_s": events["time_s"].floor().cast(pl.Int64),
            "session": [code[name] for name in sessions],
            **{name: events[name].fill_null(np.nan) for name in ("quantity", "value", "rating", "position", "dwell_s")},
            **{
                name: pl.Series([str(given.get(name, UNKNOWN)) for given in contexts], dtype=pl.String)
                for name in meta.context_columns
            },
        },
        schema_overrides=dict(EVENT_DTYPES),
    )


def _sorted(events: pl.DataFrame) -> pl.DataFrame:
    return events.sort("user_row", "time_s", maintain_order=True)
