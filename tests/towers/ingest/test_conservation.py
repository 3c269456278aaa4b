"""No row is lost: every row read is kept, quarantined with one reason, or excluded, whatever the files hold."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from towers.ingest.clean import clean_shop
from towers.ingest.tables import FILE, ROW

SWITCHES = ("excluded_items", "duplicates", "non_positive_quantity", "unknown_items", "outliers", "automated_buyers")

events = st.tuples(
    st.sampled_from(["u1", "u2", "bot", "", " "]),
    st.sampled_from(["i1", "i2", "i3", "i9", "", "cup"]),
    st.sampled_from(["2026-10-01", "2026-10-02T10:00:00", "2027-01-01", "1970-01-01", "soon", ""]),
    st.sampled_from(["view", "purchase", "wish", ""]),
    st.sampled_from(["b1", ""]),
    st.sampled_from(["1", "2", "0", "-1", "x", "1e30", "inf", "nan", ""]),
    st.sampled_from(["1", "2.5", "1e9", "-3", "€", ""]),
    st.sampled_from(["phone", ""]),
)
items = st.tuples(
    st.sampled_from(["i1", "i2", "i3", ""]),
    st.sampled_from(["tea", "cup", ""]),
    st.sampled_from(["1", "free", ""]),
    st.sampled_from(["A", ""]),
)


@settings(max_examples=60, deadline=None)
@given(
    event_rows=st.lists(st.lists(events, min_size=1, max_size=25), min_size=1, max_size=2),
    item_rows=st.lists(items, min_size=1, max_size=6),
    off=st.sets(st.sampled_from(SWITCHES)),
)
def test_every_row_has_exactly_one_fate(make_shop: Any, event_rows: Any, item_rows: Any, off: set[str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        shop = make_shop(Path(directory))
        shop.sections["events"]["files"] = ["events_*.csv"]
        shop.cleaning["excluded_items"]["where"] = [{"attribute": "kind", "values": ["cup"]}]
        shop.cleaning["automated_buyers"]["events_a_day_min"] = 2
        shop.off(*off - {"duplicates"})
        if "duplicates" in off:  # for items, that would stop the run
            shop.cleaning["duplicates"]["columns"] = ["who", "sku"]
        for number, rows in enumerate(event_rows):
            shop.rows(*(",".join(row) for row in rows))
            shop.tables[f"events_{number}.csv"] = shop.tables.pop("events.csv")
        shop.tables["items.csv"] = "\n".join(["sku,kind,price,title", *(",".join(row) for row in item_rows), ""])
        for name, text in shop.tables.items():
            (shop.directory / name).write_text(text)
        cleaned = clean_shop(shop.config, lambda _: None)

    assert cleaned.events.rows_in == sum(len(rows) for rows in event_rows)
    assert cleaned.items.rows_in == len(item_rows)
    for source in cleaned.sources:
        assert source.rows_in == source.kept.height + source.quarantine.height + source.excluded.height
        assert sum(source.quarantined_by_rule.values()) == source.quarantine.height
        files = [str(file) for file in source.table.files]
        fates = [
            (files[file], row) for part in (source.kept, source.excluded) for file, row in part.select(FILE, ROW).rows()
        ]
        fates += source.quarantine.select("file", "row").rows()
        read = [(files[file], row) for file, row in source.table.frame.select(FILE, ROW).rows()]
        assert sorted(fates) == sorted(read)
        assert source.quarantine.select(pl.col("rule", "column", "reason").null_count()).row(0) == (0, 0, 0)
