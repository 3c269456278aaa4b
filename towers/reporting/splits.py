"""Which time is asked about: the validation days before train_end, to choose by, or the test after it, to report."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum

from towers.evaluation import TimeSplit, split_by_time, target_interactions
from towers.schema import ConfigError, Dataset, LogTooShortError, ShopConfig

DAY_S = 86_400


class Split(StrEnum):
    """`validation`: the last validation_days before train_end; `test`: all after it."""

    VALIDATION = "validation"
    TEST = "test"


def split_of(shop: ShopConfig, dataset: Dataset, name: Split) -> TimeSplit:
    """The shop's split of that name; lists leave out what the user had where the ranker learns no repeats.

    Raises:
        ConfigError: the test is asked for and train_end is not set.
        LogTooShortError: there is nothing to learn from, or nothing to ask.
    """
    begin_s, end_s = bounds(shop, dataset, name)
    try:
        split = split_by_time(
            target_interactions(dataset),
            train_end_s=begin_s,
            test_end_s=end_s,
            item_users_min=max(shop.training.item_users_min, 1),
        )
    except ValueError as error:
        raise LogTooShortError(f"nothing to evaluate on the {name} split: {error}") from error
    asked = replace(split.evaluation_set, exclude_bought=not shop.learning.ranker.repeats)
    return replace(split, evaluation_set=asked)


def bounds(shop: ShopConfig, dataset: Dataset, name: Split) -> tuple[int, int]:
    """First second of the split, and the second after its last one. Raises ConfigError."""
    end = shop.training.train_end
    log_end_s = dataset.meta.last_time_s + 1
    if name is Split.VALIDATION:
        end_s = log_end_s if end is None else int(end.timestamp())
        return end_s - shop.training.validation_days * DAY_S, end_s
    if end is None:
        raise ConfigError(
            "[training] train_end is not set: there is no time left to test on; take the validation split"
        )
    return int(end.timestamp()), max(log_end_s, int(end.timestamp()) + 1)
