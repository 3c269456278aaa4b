"""The [cleaning] section of a shop's config: one block a rule, each with its switch.

Some rules guard what a dataset cannot hold at all (an event without a user has no row number to point to). When such a
rule is switched off, its first broken row stops the run instead of being quarantined: nothing passes silently.
"""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A block of the config: immutable, and an unknown key is an error (it is nearly always a misspelt one)."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Rule(Section):
    """A cleaning rule with its switch."""

    enabled: bool = Field(default=True, description="Switch. On, because silence about dirty data costs more.")


class BadTimestampsRule(Rule):
    """Times that cannot be read, lie in the future, or lie before any shop could have written them."""

    now: AwareDatetime | None = Field(
        default=None,
        description="The present, with an offset. Default: the clock. Pin it where a run must repeat exactly.",
    )
    future_tolerance_s: float = Field(
        default=300.0,
        ge=0,
        allow_inf_nan=False,
        description="Seconds an event may lie ahead of `now`. Default five minutes: the clocks of two machines differ.",
    )
    not_before: AwareDatetime = Field(
        default=datetime(1990, 1, 1, tzinfo=UTC),
        description="Earliest believable time. Default 1990: seconds read as milliseconds end up in January 1970.",
    )


class DuplicatesRule(Rule):
    """Rows that occur twice; the first is kept. Items and users are also held to one row an id."""

    columns: tuple[str, ...] = Field(
        default=(),
        description="Columns of the events file that make two rows the same. Default: all of the file's columns, "
        "mapped or not: the same product twice in a basket is shopping, only a wholly equal row is a double export.",
    )


class OutliersRule(Rule):
    """Quantities and values far from the median of their event type.

    Distance is the modified z-score of Iglewicz and Hoaglin (1993): |x - median| / (1.4826 MAD), and where more than
    half of the values are equal (MAD = 0), |x - median| / (1.2533 mean absolute deviation).
    """

    threshold: float = Field(
        default=20.0,
        gt=0,
        allow_inf_nan=False,
        description="Largest distance kept, in robust standard deviations. Default 20: the 3.5 of the source suits "
        "bell curves, but prices and quantities are skewed, and an expensive product is no error.",
    )


class AttributeValues(Section):
    """Items to leave out on purpose: those whose attribute has one of the values."""

    attribute: str = Field(description="A categorical attribute declared in [items].")
    values: tuple[str, ...] = Field(min_length=1, description="Its values, exactly as they stand in the file.")


class ExcludedItemsRule(Rule):
    """Items left out on purpose, and their events with them. Counted apart: what is unwanted is not dirt."""

    where: tuple[AttributeValues, ...] = Field(
        default=(), description="Default none. An item is out if any entry fits."
    )


class AutomatedBuyersRule(Rule):
    """Users whose busiest day (UTC) has more events than a person makes; all their events go."""

    events_a_day_min: int = Field(
        default=100, ge=1, description="Events a day that are always believed. Default 100: a long session of a person."
    )
    threshold: float = Field(
        default=10.0,
        gt=0,
        allow_inf_nan=False,
        description="Above that, robust standard deviations over the median of the users' busiest days. Default 10: "
        "shops whose customers buy whole trolleys set their own scale.",
    )


class Cleaning(Section):
    """The rules in the order in which they look at a row; the first that objects names the row's reason."""

    excluded_items: ExcludedItemsRule = ExcludedItemsRule()
    null_keys: Rule = Field(
        default=Rule(), description="Rows without user_id or item_id. Off: such a row stops the run."
    )
    wrong_type: Rule = Field(
        default=Rule(),
        description="Cells that are not the number that their column holds. Off: such a cell stops the run.",
    )
    bad_timestamps: BadTimestampsRule = Field(
        default=BadTimestampsRule(), description="Off: future and ancient times pass, an unreadable one stops the run."
    )
    unknown_event_types: Rule = Field(
        default=Rule(), description="Event types that [events] does not declare. Off: such a row stops the run."
    )
    duplicates: DuplicatesRule = Field(
        default=DuplicatesRule(), description="Off: equal events pass, a second row of an item or user stops the run."
    )
    non_positive_quantity: Rule = Field(
        default=Rule(), description="Events with quantity ≤ 0: returns and corrections."
    )
    unknown_items: Rule = Field(
        default=Rule(),
        description="Events of items that are not in the catalogue. Off: the items are added with missing attributes.",
    )
    outliers: OutliersRule = OutliersRule()
    automated_buyers: AutomatedBuyersRule = AutomatedBuyersRule()
    imputation: Rule = Field(
        default=Rule(),
        description='Missing attributes become "unknown" (categories, context), the median (numbers) or "" (texts), '
        "counted. Off: a missing attribute stops the run.",
    )
    reject_ratio_max: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Largest share of a table's rows (without excluded ones) that may be quarantined. Default 5 %: "
        "more is not dirt but a wrong mapping.",
    )
