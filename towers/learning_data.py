"""A shop's dataset as training reads it: encoders fitted on the training time, every user, item and event as codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from towers.features.histories import FloatArray, Histories, Int32Array, Int64Array
from towers.features.items import ItemArrays, ItemEncoder
from towers.features.vocabularies import Quantiles, Vocabulary, user_buckets
from towers.models.item_tower import ItemShape
from towers.models.user_tower import UserShape
from towers.schema import Dataset
from towers.settings import LearningSettings


@dataclass(frozen=True)
class Encoders:
    """Every vocabulary that a trained model needs to read new data.

    Attributes:
        items: the catalogue's encoder.
        user_attributes, contexts: the code maker of each column, in order; numbers become quantiles, text is left out.
        event_types: names; an event's code is its place.
        target_event_types: those that count as the goal.
    """

    items: ItemEncoder
    user_attributes: dict[str, Vocabulary | Quantiles]
    contexts: dict[str, Vocabulary]
    event_types: tuple[str, ...]
    target_event_types: tuple[str, ...]

    @property
    def item_shape(self) -> ItemShape:
        """Sizes of the item tower's tables."""
        return ItemShape(
            id_count=len(self.items.ids),
            attribute_counts=tuple(len(vocabulary) for vocabulary in self.items.categorical.values()),
            number_count=len(self.items.numeric),
            has_words=bool(self.items.text),
        )

    @property
    def user_shape(self) -> UserShape:
        """Sizes of the user tower's tables."""
        return UserShape(
            event_type_count=len(self.event_types),
            attribute_counts=tuple(len(vocabulary) for vocabulary in self.user_attributes.values()),
            context_counts=tuple(len(vocabulary) for vocabulary in self.contexts.values()),
        )

    @property
    def target_codes(self) -> tuple[int, ...]:
        """Codes of the target event types."""
        return tuple(self.event_types.index(name) for name in self.target_event_types)


@dataclass(frozen=True)
class UserTable:
    """Users as codes: `bucket` (U,) and `attribute` (U, A), both int32."""

    bucket: Int32Array
    attribute: NDArray[np.int32]


@dataclass(frozen=True)
class LearningData:
    """Everything that training reads, rows as in the dataset.

    Attributes:
        encoders: fitted on events before `fitted_until_s` only.
        items: the whole catalogue, encoded.
        users: all users; one without events before `fitted_until_s` has bucket 0.
        histories: the whole log.
        context: (E, C) int32 codes of each event's context columns.
        value, rating: (E,) money and stars of each event, NaN where it has none; None where they are not known.
    """

    encoders: Encoders
    items: ItemArrays
    users: UserTable
    histories: Histories
    context: NDArray[np.int32]
    value: FloatArray | None = None
    rating: FloatArray | None = None

    @property
    def item_count(self) -> int:
        """Rows of the catalogue."""
        return len(self.items)

    @property
    def user_count(self) -> int:
        """Rows of the user table."""
        return len(self.users.bucket)


def fit_encoders(dataset: Dataset, settings: LearningSettings, until_s: int) -> Encoders:
    """Learns vocabularies and scales from what was known before `until_s`."""
    meta, events = dataset.meta, dataset.events
    item, user = meta.item_attributes, meta.user_attributes
    target = np.isin(events.event_type, [meta.event_types.index(name) for name in meta.target_event_types])
    known = events.time_s < until_s
    bought = np.bincount(events.item_row[target & known], minlength=dataset.item_count)
    frequent = np.flatnonzero(bought >= settings.towers.item_events_min)
    ids = dataset.items["item_id"].gather(frequent).to_list()
    return Encoders(
        items=ItemEncoder.fit(dataset.items, ids, item.categorical, item.numeric, item.text),
        user_attributes={
            **{name: Vocabulary.of(dataset.users[name].to_list()) for name in user.categorical},
            **{name: Quantiles.of(dataset.users[name].to_numpy()) for name in user.numeric},
        },
        contexts={
            name: Vocabulary.of(np.unique(events.context[name][known]).tolist()) for name in meta.context_columns
        },
        event_types=tuple(meta.event_types),
        target_event_types=tuple(meta.target_event_types),
    )


def encode(dataset: Dataset, encoders: Encoders, settings: LearningSettings, fitted_until_s: int) -> LearningData:
    """The dataset through fitted encoders."""
    events = dataset.events
    active = np.zeros(dataset.user_count, np.bool_)
    active[events.user_row[events.time_s < fitted_until_s]] = True
    bucket = user_buckets(dataset.users["user_id"].to_list(), settings.features.user_id_buckets)
    attributes = [
        vocabulary.codes(dataset.users[name].to_list()) for name, vocabulary in encoders.user_attributes.items()
    ]
    return LearningData(
        encoders=encoders,
        items=encoders.items.encode(dataset.items),
        users=UserTable(np.where(active, bucket, 0).astype(np.int32), _columns(attributes, dataset.user_count)),
        histories=Histories.from_events(
            events.user_row,
            events.item_row,
            events.event_type,
            events.time_s,
            dataset.user_count,
            encoders.target_codes,
        ),
        context=_columns(
            [vocabulary.codes(events.context[name]) for name, vocabulary in encoders.contexts.items()],
            len(events.user_row),
        ),
        value=events.value,
        rating=events.rating,
    )


def _columns(columns: Sequence[Int32Array], row_count: int) -> NDArray[np.int32]:
    return np.stack(columns, axis=1) if columns else np.zeros((row_count, 0), np.int32)


def retrievable_items(histories: Histories, item_count: int, until_s: int, item_users_min: int) -> NDArray[np.bool_]:
    """(items,) whether enough distinct users bought each item before `until_s`; all where no minimum is set."""
    if item_users_min == 0:
        return np.ones(item_count, np.bool_)
    seen = histories.is_target(histories.event_type) & (histories.time_s < until_s)
    user: Int64Array = np.repeat(np.arange(histories.user_count, dtype=np.int64), np.diff(histories.offsets))
    pairs = np.unique(user[seen] * item_count + histories.item_row[seen])
    return np.asarray(np.bincount(pairs % item_count, minlength=item_count) >= item_users_min)
