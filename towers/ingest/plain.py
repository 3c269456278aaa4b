"""From a plain file (`user item item …`) to an ordinary dataset, and to what is held out of it.

Leave-last-out: the items stand in the order of time. Of n items the one at place p happens at T0 - (n - 1 - p) days, so
the last is asked for at T0, and «before T0 - 1 day» is every sequence without its last two. A user with fewer than
USER_ITEMS_MIN items is learned from and not asked; the newest of them lies at T0 - 2 days, beside the others' train.

Holdout: a set has no order. A user's train items are dealt at random into a base (from T0 - 3 days on), the ranker's
labels (T0 - 2 days) and its validation (T0 - 1 day); within a part they are a second apart, in an order of chance, so
that each is learned from those before it. `popularity_exponent` deals popular items into labels and validation more
often, for a test part that may hold more of them. The test file is held out.

What is held out never enters the dataset. Rows of items are in an order of chance too: equal scores are told apart by
rows, and the ids of a file may betray what its last items are.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import xxhash

from towers.ingest.plain_lines import (
    Broken,
    PlainAttributes,
    PlainLines,
    counts_by_rule,
    quarantine_table,
    read_plain_attributes,
    read_plain_lines,
)
from towers.ingest.run import IngestReport
from towers.ingest.write import replaced_directory
from towers.schema.dataset import (
    EVENT_DTYPES,
    EVENTS_FILE,
    FORMAT_VERSION,
    ITEMS_FILE,
    META_FILE,
    NO_SESSION,
    QUARANTINE_FILE,
    USERS_FILE,
    AttributeNames,
    DatasetCounts,
    DatasetMeta,
    SourceCounts,
)
from towers.schema.errors import ConfigError, NothingLeftError
from towers.schema.plain import ASKED_AT, ATTRIBUTES, EVENT_TYPE, PlainSection, Protocol

DAY_S = 86_400
ASKED_AT_S = int(ASKED_AT.timestamp())
USER_ITEMS_MIN = 3
"""One to ask for, one to validate with, one to learn from."""


@dataclass(frozen=True)
class PlainFiles:
    """What a benchmark is made of: lines, perhaps attributes, and the test lines of a holdout."""

    lines: Path
    protocol: Protocol
    attributes: Path | None = None
    test: Path | None = None


@dataclass(frozen=True)
class HeldOut:
    """What is asked for, by user: the items that are right. `left_out`: rows of the test that ask nobody, by reason."""

    items: dict[str, list[str]]
    left_out: dict[str, int]


@dataclass(frozen=True)
class PlainSplit:
    """A plain file, split: each user's events as (item, epoch seconds), and what is held out.

    `kept_back` counts the rows of the file that are held out of it.
    """

    events: dict[str, list[tuple[str, int]]]
    held_out: HeldOut
    lines: PlainLines
    kept_back: int


def split_plain(files: PlainFiles, settings: PlainSection) -> PlainSplit:
    """Read the files and split them by the protocol.

    Raises:
        ConfigError: a test file without holdout, or holdout without one.
        IngestError: a file cannot be read, or nothing is left to learn from or to ask.
    """
    if (files.test is None) == (files.protocol is Protocol.HOLDOUT):
        raise ConfigError(f"protocol {files.protocol}: --test FILE belongs to holdout, and to holdout alone")
    lines = read_plain_lines(files.lines, as_sets=files.protocol is Protocol.HOLDOUT)
    if files.test is None:
        events = {user: _in_order(items) for user, items in lines.items.items()}
        asked = {user: items[-1:] for user, items in lines.items.items() if len(items) >= USER_ITEMS_MIN}
        short = len(lines.items) - len(asked)
        held_out = HeldOut(asked, {"user_with_too_few_items": short} if short else {})
    else:
        users = Counter(item for items in lines.items.values() for item in items)
        events = {user: _dealt(user, items, users, settings) for user, items in lines.items.items()}
        held_out = _test_items(files.test, events)
    if not any(events.values()) or not held_out.items:
        raise NothingLeftError(f"{files.lines}: no item is left to {'ask for' if any(events.values()) else 'learn'}")
    kept_back = len(held_out.items) if files.test is None else 0
    return PlainSplit(events, held_out, lines, kept_back)


def _in_order(items: list[str]) -> list[tuple[str, int]]:
    """The events of a sequence before T0."""
    if len(items) < USER_ITEMS_MIN:
        newest_s = ASKED_AT_S - 2 * DAY_S
    else:
        items, newest_s = items[:-1], ASKED_AT_S - DAY_S
    return [(item, newest_s - back * DAY_S) for back, item in zip(range(len(items) - 1, -1, -1), items, strict=True)]


def _dealt(user: str, items: list[str], users_of: Mapping[str, int], settings: PlainSection) -> list[tuple[str, int]]:
    """The events of a set, dealt into base, labels and validation; the base gets at least one item.

    `users_of` counts each item's users. The share that is held out of the base is drawn without replacement, weighted
    by that count to a power of the user's own, between 0 and `popularity_exponent` (Efraimidis, Spirakis 2006).
    """
    generator = np.random.default_rng((settings.seed, xxhash.xxh64_intdigest(user.encode())))
    wanted = np.array([settings.ranker_share, settings.validation_share]) * len(items)
    labels, validation = (int(count) for count in np.floor(wanted + generator.random(2)))
    labels = min(labels, len(items) - 1)
    validation = min(validation, len(items) - 1 - labels)
    base = len(items) - labels - validation
    order = generator.permutation(len(items))
    if settings.popularity_exponent:
        exponent = settings.popularity_exponent * generator.random()
        log_weight = exponent * np.log([users_of[item] for item in items])
        held_out = np.argsort(np.argsort(log_weight + generator.gumbel(size=len(items)))) >= base
        order = np.concatenate([order[~held_out[order]], order[held_out[order]]])
    shuffled = [items[place] for place in order]
    parts = (shuffled[:base], shuffled[base : base + labels], shuffled[base + labels :])
    return [
        (item, ASKED_AT_S - days * DAY_S + min(second, DAY_S - 1))
        for days, part in zip((3, 2, 1), parts, strict=True)
        for second, item in enumerate(part)
    ]


def _test_items(path: Path, events: Mapping[str, object]) -> HeldOut:
    lines = read_plain_lines(path, as_sets=True)
    asked = {user: items for user, items in lines.items.items() if user in events}
    left_out = counts_by_rule(lines.broken)
    strangers = len(lines.items) - len(asked)
    return HeldOut(asked, left_out | ({"user_without_train": strangers} if strangers else {}))


def ingest_plain(
    files: PlainFiles, split: PlainSplit, settings: PlainSection, name: str, dataset_dir: Path
) -> IngestReport:
    """Write the dataset of a split file; one from before is replaced when this ends well.

    Raises:
        IngestError: the attributes cannot be read, or another ingest is at work.
    """
    start_s = time.perf_counter()
    attributes = read_plain_attributes(files.attributes) if files.attributes is not None else None
    items, without = _items(split, attributes, settings.seed)
    users = pl.DataFrame({"user_id": sorted(split.events)}, schema={"user_id": pl.String})
    events = _events(split, items, users)
    broken = split.lines.broken + (attributes.broken if attributes is not None else [])
    meta = _meta(name, split, attributes, items, users, events, without)
    with replaced_directory(dataset_dir) as directory:
        items.write_parquet(directory / ITEMS_FILE)
        users.write_parquet(directory / USERS_FILE)
        events.write_parquet(directory / EVENTS_FILE)
        quarantine_table(broken).write_parquet(directory / QUARANTINE_FILE)
        (directory / META_FILE).write_text(meta.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return IngestReport(dataset_dir=dataset_dir, meta=meta, seconds=time.perf_counter() - start_s)


def _items(split: PlainSplit, attributes: PlainAttributes | None, seed: int) -> tuple[pl.DataFrame, int]:
    """The catalogue: what has events or attributes, in an order of chance; and how many have no attributes."""
    words = attributes.words if attributes is not None else {}
    ids = {item for events in split.events.values() for item, _ in events} | set(words)
    ordered = sorted(ids, key=lambda item: (xxhash.xxh64_intdigest(item.encode(), seed), item))
    columns = {"item_id": ordered}
    if attributes is not None:
        columns[ATTRIBUTES] = [words.get(item, "") for item in ordered]
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String)), sum(not words.get(item) for item in ordered)


def _events(split: PlainSplit, items: pl.DataFrame, users: pl.DataFrame) -> pl.DataFrame:
    row_of = {item: row for row, item in enumerate(items["item_id"].to_list())}

    def rows() -> Iterator[tuple[int, int, int]]:
        for user_row, user in enumerate(users["user_id"].to_list()):
            for item, time_s in split.events[user]:
                yield user_row, row_of[item], time_s

    columns = np.fromiter(rows(), dtype=np.dtype((np.int64, 3)))
    absent = pl.lit(float("nan"), pl.Float32)
    return pl.DataFrame(
        {
            "user_row": columns[:, 0].astype(np.int32),
            "item_row": columns[:, 1].astype(np.int32),
            "time_s": columns[:, 2],
        }
    ).select(
        "user_row",
        "item_row",
        pl.lit(0, pl.UInt8).alias("event_type"),
        "time_s",
        pl.lit(NO_SESSION, pl.Int64).alias("session"),
        *(absent.alias(name) for name in list(EVENT_DTYPES)[5:]),
    )


def _meta(
    name: str,
    split: PlainSplit,
    attributes: PlainAttributes | None,
    items: pl.DataFrame,
    users: pl.DataFrame,
    events: pl.DataFrame,
    without: int,
) -> DatasetMeta:
    nothing = AttributeNames(categorical=(), numeric=(), text=())
    sources = {"events": _counts(split.lines.row_count, split.lines.broken, split.kept_back)}
    if attributes is not None:
        sources["items"] = _counts(len(attributes.words) + len(attributes.broken), attributes.broken, 0)
    return DatasetMeta(
        format_version=FORMAT_VERSION,
        shop=name,
        event_types=(EVENT_TYPE,),
        target_event_types=(EVENT_TYPE,),
        item_attributes=nothing if attributes is None else nothing.model_copy(update={"text": (ATTRIBUTES,)}),
        user_attributes=nothing,
        context_columns=(),
        counts=DatasetCounts(rows=events.height, items=items.height, users=users.height),
        sources=sources,
        imputed={} if attributes is None else {f"items.{ATTRIBUTES}": without},
        first_time_s=int(events["time_s"].to_numpy().min()),
        last_time_s=int(events["time_s"].to_numpy().max()),
    )


def _counts(row_count: int, broken: list[Broken], kept_back: int) -> SourceCounts:
    return SourceCounts(
        input=row_count,
        kept=row_count - len(broken) - kept_back,
        quarantined=len(broken),
        excluded=kept_back,
        quarantined_by_rule=counts_by_rule(broken),
    )
