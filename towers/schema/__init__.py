"""The schema: a shop's config, and the dataset that ingest makes of it."""

from towers.schema.cleaning import Cleaning
from towers.schema.config import EventsSection, ItemsSection, ShopConfig, UsersSection, read_shop_config
from towers.schema.dataset import (
    NO_SESSION,
    Dataset,
    DatasetMeta,
    EventColumns,
    ItemId,
    ItemRow,
    UserId,
    UserRow,
    load_dataset,
)
from towers.schema.errors import ConfigError, DataError, DatasetError, IngestError, LogTooShortError

__all__ = [
    "NO_SESSION",
    "Cleaning",
    "ConfigError",
    "DataError",
    "Dataset",
    "DatasetError",
    "DatasetMeta",
    "EventColumns",
    "EventsSection",
    "IngestError",
    "ItemId",
    "ItemRow",
    "ItemsSection",
    "LogTooShortError",
    "ShopConfig",
    "UserId",
    "UserRow",
    "UsersSection",
    "load_dataset",
    "read_shop_config",
]
