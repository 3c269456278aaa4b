"""Make the small shop: outdoor goods, 30 shoppers, 90 days, with structure to learn and dirt of every kind.

    python tests/shops/small/make.py        writes items.csv, users.csv and events.csv beside itself

The bytes are the same every time. What can be learned: a shopper prefers two of five categories, has three favourites
that are bought again and again and rated higher, and mostly uses one device; items of a category differ in popularity.
NEW_ITEMS are in the catalogue, but nobody has seen them.
"""

from __future__ import annotations

import csv
import io
import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

SEED = 2026
FIRST_DAY = datetime(2026, 8, 1)  # local time of the shop, as its files have it
DAY_COUNT = 90
USER_COUNT = 30
ITEMS_PER_CATEGORY = 8
DAYS_BETWEEN_VISITS = 16.0

PRICES = {"shoes": 120.0, "jackets": 180.0, "packs": 90.0, "tents": 260.0, "stoves": 45.0}
BRANDS = ("Alpenrose", "Fjell", "Granit", "Nordlicht")
COLOURS = ("red", "green", "blue", "grey")
DEVICES = ("phone", "desktop", "tablet")
NEW_ITEMS = ("new-jackets", "new-shoes", "new-tents")
GIFT_CARDS = ("gift-25", "gift-50")
AUTOMATED_BUYER = "bot-1"
AUTOMATED_EVENTS = 22

EVENT_COLUMNS = (
    "happened_at",
    "shopper",
    "sku",
    "action",
    "visit",
    "pieces",
    "amount",
    "stars",
    "place_in_list",
    "seconds_viewed",
    "device",
)
ITEM_COLUMNS = ("sku", "category", "brand", "colour", "price", "title")
USER_COLUMNS = ("shopper", "age_group", "city", "member_years")

Row = dict[str, str]


@dataclass(frozen=True)
class Shopper:
    """One shopper's habits."""

    user_id: str
    categories: tuple[str, str]
    favourites: tuple[str, ...]
    device: str


def make() -> dict[str, str]:
    """Return the content of every file by its name."""
    rng = random.Random(SEED)
    items = make_items(rng)
    prices = {item["sku"]: float(item["price"]) for item in items}
    shoppers, users = make_users(rng)
    events = sorted(
        (event for shopper in shoppers for event in make_visits(rng, shopper, prices)), key=lambda e: e["happened_at"]
    )
    return {
        "items.csv": _csv(ITEM_COLUMNS, dirty_items(items)),
        "users.csv": _csv(USER_COLUMNS, dirty_users(users)),
        "events.csv": _csv(EVENT_COLUMNS, dirty_events(events)),
    }


def make_items(rng: random.Random) -> list[Row]:
    """Make the clean catalogue: 40 items with sales, the new ones, the gift cards."""
    items = []
    for category, price in PRICES.items():
        for number in range(1, ITEMS_PER_CATEGORY + 1):
            items.append(_item(rng, f"{category}-{number}", category, price * rng.uniform(0.5, 2.0)))
    items += [_item(rng, sku, sku.removeprefix("new-"), PRICES[sku.removeprefix("new-")]) for sku in NEW_ITEMS]
    items += [_item(rng, sku, "gift cards", float(sku.removeprefix("gift-"))) for sku in GIFT_CARDS]
    return items


def make_users(rng: random.Random) -> tuple[list[Shopper], list[Row]]:
    """Make the shoppers' habits and the clean table of what the shop knows of them."""
    shoppers, users = [], []
    for number in range(1, USER_COUNT + 1):
        first, second = rng.sample(list(PRICES), 2)
        favourites = (_popular(rng, first), _popular(rng, first), _popular(rng, second))
        user_id = f"u{number:02d}"
        shoppers.append(Shopper(user_id, (first, second), favourites, rng.choices(DEVICES, (6, 3, 1))[0]))
        users.append(
            {
                "shopper": user_id,
                "age_group": rng.choice(("18-29", "30-44", "45-64", "65+")),
                "city": rng.choice(("Basel", "Bern", "Chur", "Genève")),
                "member_years": str(rng.randint(0, 12)),
            }
        )
    return shoppers, users


def make_visits(rng: random.Random, shopper: Shopper, prices: dict[str, float]) -> list[Row]:
    """Make all events of a shopper: visits about every sixteen days, in shopping hours."""
    events: list[Row] = []
    day = rng.uniform(0, DAYS_BETWEEN_VISITS)
    number = 0
    while day < DAY_COUNT:
        moment = FIRST_DAY + timedelta(days=int(day), hours=rng.randint(8, 20), minutes=rng.randint(0, 59))
        number += 1
        events += _visit(rng, shopper, prices, moment, f"{shopper.user_id}-{number}")
        day += rng.gammavariate(4.0, DAYS_BETWEEN_VISITS / 4.0)
    return events


def _visit(rng: random.Random, shopper: Shopper, prices: dict[str, float], moment: datetime, visit: str) -> list[Row]:
    device = shopper.device if rng.random() < 0.85 else rng.choice(DEVICES)
    events: list[Row] = []

    def add(action: str, sku: str, **cells: str) -> None:
        nonlocal moment
        row = {"happened_at": moment.isoformat(), "shopper": shopper.user_id, "sku": sku, "action": action}
        events.append(row | {"visit": visit, "device": device} | cells)
        moment += timedelta(seconds=rng.randint(20, 300))

    # First something seen and left, then one or two things wanted.
    add("view", _popular(rng, rng.choice(list(PRICES))), place_in_list=str(rng.randint(1, 12)), seconds_viewed="3.5")
    for _ in range(rng.randint(1, 2)):
        liked = rng.random() < 0.6
        category = shopper.categories[0] if rng.random() < 0.75 else shopper.categories[1]
        sku = rng.choice(shopper.favourites) if liked else _popular(rng, category)
        place = str(rng.randint(1, 12))
        add("view", sku, place_in_list=place, seconds_viewed=f"{rng.lognormvariate(3.0, 0.7):.1f}")
        if rng.random() < 0.5:
            add("click", sku, place_in_list=place)
        if rng.random() < 0.3:
            continue
        pieces = rng.choices((1, 2, 3), (8, 2, 1))[0]
        add("cart", sku, pieces=str(pieces))
        if rng.random() < 0.2:
            continue
        add("purchase", sku, pieces=str(pieces), amount=f"{pieces * prices[sku]:.2f}")
        if rng.random() < 0.25:
            add("rating", sku, stars=str(rng.randint(4, 5) if liked else rng.randint(2, 4)))
    return events


def dirty_items(items: list[Row]) -> list[Row]:
    """Add two wrong rows and leave out a few attributes."""
    rows = [dict(item) for item in items]
    rows[3]["brand"] = rows[12]["brand"] = ""
    rows[7]["price"] = rows[20]["price"] = ""
    rows[30]["title"] = ""
    rows.append(rows[5] | {"colour": "pink"})  # the sku occurs twice
    rows.append(rows[0] | {"sku": "mispriced-1", "price": "ask us"})
    return rows


def dirty_users(users: list[Row]) -> list[Row]:
    """Add a row without a key, leave out a few attributes and the whole row of u30."""
    rows = [dict(user) for user in users if user["shopper"] != f"u{USER_COUNT}"]
    rows[2]["city"] = rows[9]["member_years"] = ""
    rows.append(rows[0] | {"shopper": ""})
    return rows


def dirty_events(events: list[Row]) -> list[Row]:
    """Add rows that each break one rule, made of good ones: see the names of the blocks."""
    rows = [dict(event) for event in events]
    views = [row for row in rows if row["action"] == "view"]
    purchases = [row for row in rows if row["action"] == "purchase"]
    ratings = [row for row in rows if row["action"] == "rating"]
    null_keys = [views[4] | {"shopper": ""}, views[9] | {"shopper": "  "}, views[14] | {"sku": ""}]
    bad_timestamps = [
        views[20] | {"happened_at": "yesterday"},
        views[21] | {"happened_at": ""},
        views[22] | {"happened_at": "2027-03-01T10:00:00"},
        views[23] | {"happened_at": "1970-01-19T14:00:00Z"},
    ]
    wrong_type = [
        purchases[3] | {"pieces": "two"},
        purchases[4] | {"amount": "12,50"},
        ratings[1] | {"stars": "good"},
    ]
    unknown_event_types = [views[30] | {"action": "wishlist"}]
    duplicates = [purchases[10], views[40]]
    non_positive_quantity = [purchases[12] | {"pieces": "0"}, purchases[13] | {"pieces": "-1"}]
    unknown_items = [purchases[15] | {"sku": "shoes-99"}, views[50] | {"sku": "mispriced-1"}]
    outliers = [purchases[17] | {"pieces": "5000"}, purchases[18] | {"amount": "99999"}]
    excluded = [
        purchases[20 + n] | {"sku": sku, "amount": "25.00"} for n, sku in enumerate((*GIFT_CARDS, GIFT_CARDS[0]))
    ]
    start = FIRST_DAY + timedelta(days=40, hours=3)
    automated = [
        purchases[30 + n]
        | {
            "happened_at": (start + timedelta(seconds=2 * n)).isoformat(),
            "shopper": AUTOMATED_BUYER,
            "visit": AUTOMATED_BUYER,
        }
        for n in range(AUTOMATED_EVENTS)
    ]
    views[60]["device"] = views[61]["device"] = ""  # missing context
    views[62]["visit"] = ""
    views[63]["happened_at"] += "+02:00"  # the shop's own offset in summer, written out
    dirt = null_keys + bad_timestamps + wrong_type + unknown_event_types + duplicates + non_positive_quantity
    dirt += unknown_items + outliers + excluded + automated
    spacing = len(rows) // len(dirt)
    for place, row in enumerate(dirt):
        rows.insert((place + 1) * spacing, dict(row))
    return rows


def _item(rng: random.Random, sku: str, category: str, price: float) -> Row:
    colour, brand = rng.choice(COLOURS), rng.choice(BRANDS)
    return {
        "sku": sku,
        "category": category,
        "brand": brand,
        "colour": colour,
        "price": f"{price:.2f}",
        "title": f"{brand} {category}, {colour}",
    }


def _popular(rng: random.Random, category: str) -> str:
    weights = [1.0 / number for number in range(1, ITEMS_PER_CATEGORY + 1)]
    return f"{category}-{rng.choices(range(1, ITEMS_PER_CATEGORY + 1), weights)[0]}"


def _csv(columns: tuple[str, ...], rows: list[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


if __name__ == "__main__":
    for name, content in make().items():
        Path(__file__).with_name(name).write_text(content, encoding="utf-8")
