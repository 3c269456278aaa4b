"""Each rule: what it takes, with which column and value, and what happens when it is off."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from towers.schema.errors import UncleanRowError

GOOD = "u1,i1,2026-10-01T10:00:00,purchase,b1,1,2.0,phone"


def test_clean_rows_are_all_kept(shop: Any) -> None:
    assert shop.quarantine() == []


def test_null_and_blank_keys_are_quarantined(shop: Any) -> None:
    shop.rows(GOOD, ",i1,2026-10-01,view,,,,", "  ,i1,2026-10-01,view,,,,", "u1,,2026-10-01,view,,,,")
    assert shop.quarantine() == [
        ("events", 1, "null_keys", "who", None),
        ("events", 2, "null_keys", "who", None),
        ("events", 3, "null_keys", "sku", None),
    ]


@pytest.mark.parametrize("cell", ["two", "1_000", "1,5", "inf", "1e39", "0x1", "TRUE"])
def test_a_cell_that_is_no_number_quarantines_its_row(shop: Any, cell: str) -> None:
    shop.rows(GOOD, f'u1,i1,2026-10-01,view,,"{cell}",,')
    assert shop.quarantine() == [("events", 1, "wrong_type", "pieces", cell)]


@pytest.mark.parametrize("cell", ["", " ", "nan", " 3 ", "3e0", "+3"])
def test_missing_numbers_and_odd_spellings_of_numbers_are_kept(shop: Any, cell: str) -> None:
    shop.rows(GOOD, f"u1,i1,2026-10-01,view,,{cell},,")
    assert shop.quarantine() == []


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("yesterday", "yesterday"),
        ("2026-02-30", "2026-02-30"),
        ("", None),
        ("2026-11-01T00:05:01", "2026-11-01T00:05:01Z"),
        ("1989-12-31", "1989-12-31T00:00:00Z"),
    ],
)
def test_unreadable_missing_future_and_ancient_times_are_quarantined(shop: Any, cell: str, value: str | None) -> None:
    shop.rows(GOOD, f"u1,i1,{cell},view,,,,")
    assert shop.quarantine() == [("events", 1, "bad_timestamps", "when", value)]


def test_a_clock_five_minutes_ahead_is_tolerated(shop: Any) -> None:
    shop.rows(GOOD, "u1,i1,2026-11-01T00:05:00,view,,,,")
    assert shop.quarantine() == []


def test_future_times_pass_when_the_rule_is_off(shop: Any) -> None:
    shop.rows(GOOD, "u1,i1,2027-01-01,view,,,,")
    shop.off("bad_timestamps")
    assert shop.quarantine() == []


def test_undeclared_and_missing_event_types_are_quarantined(shop: Any) -> None:
    shop.rows(GOOD, "u1,i1,2026-10-01,wish,,,,", "u1,i1,2026-10-01,,,,,")
    assert shop.quarantine() == [
        ("events", 1, "unknown_event_types", "what", "wish"),
        ("events", 2, "unknown_event_types", "what", None),
    ]


def test_missing_event_types_become_the_default_and_are_counted(shop: Any) -> None:
    shop.sections["events"]["default_event_type"] = "view"
    shop.rows(GOOD, "u1,i1,2026-10-02,,,,,")
    dataset = shop.dataset()
    assert dataset.events.event_type.tolist() == [1, 0]
    assert dataset.meta.imputed["events.event_type"] == 1


def test_only_wholly_equal_rows_are_duplicates(shop: Any) -> None:
    shop.rows(GOOD, GOOD, GOOD.replace("phone", "desktop"), GOOD)
    assert shop.quarantine() == [
        ("events", 1, "duplicates", "(all columns)", None),
        ("events", 3, "duplicates", "(all columns)", None),
    ]


def test_duplicates_are_found_across_files_whatever_the_order_of_their_columns(shop: Any) -> None:
    shop.sections["events"]["files"] = ["events.csv", "again.csv"]
    shop.rows(GOOD)
    shop.tables["again.csv"] = (
        "device,amount,pieces,basket,what,when,sku,who\nphone,2.0,1,b1,purchase,2026-10-01T10:00:00,i1,u1\n"
    )
    assert shop.quarantine() == [("events", 0, "duplicates", "(all columns)", None)]


def test_duplicates_can_be_told_by_chosen_columns(shop: Any) -> None:
    shop.cleaning["duplicates"]["columns"] = ["who", "sku", "basket"]
    shop.rows(GOOD, GOOD.replace("phone", "desktop"))
    assert shop.quarantine() == [("events", 1, "duplicates", "who + sku + basket", None)]


def test_duplicates_pass_when_the_rule_is_off(shop: Any) -> None:
    shop.rows(GOOD, GOOD)
    shop.off("duplicates")
    assert len(shop.dataset().events) == 2


def test_second_rows_of_an_item_or_user_are_quarantined_and_the_first_kept(shop: Any) -> None:
    shop.tables["items.csv"] += "i1,cup,1.0,Other\n"
    shop.tables["users.csv"] += "u2,Bern,20\n"
    assert shop.quarantine() == [
        ("items", 3, "duplicates", "sku", "i1"),
        ("users", 2, "duplicates", "who", "u2"),
    ]
    assert shop.dataset().items["kind"].to_list() == ["tea", "tea", "cup"]


def test_zero_and_negative_quantities_are_quarantined_and_missing_ones_kept(shop: Any) -> None:
    shop.rows(GOOD, "u1,i1,2026-10-01,purchase,,0,,", "u1,i1,2026-10-01,purchase,,-2,,", "u1,i1,2026-10-01,view,,,,")
    assert shop.quarantine() == [
        ("events", 1, "non_positive_quantity", "pieces", "0.0"),
        ("events", 2, "non_positive_quantity", "pieces", "-2.0"),
    ]


def test_events_of_items_outside_the_catalogue_are_quarantined(shop: Any) -> None:
    shop.tables["items.csv"] += "i4,cup,ask us,Mug\n"
    shop.rows(GOOD, "u1,i9,2026-10-01,view,,,,", "u1,i4,2026-10-01,view,,,,")
    assert shop.quarantine() == [
        ("events", 1, "unknown_items", "sku", "i9"),
        ("events", 2, "unknown_items", "sku", "i4"),
        ("items", 3, "wrong_type", "price", "ask us"),
    ]


def test_unknown_items_join_the_catalogue_when_the_rule_is_off(shop: Any) -> None:
    shop.off("unknown_items")
    shop.rows(GOOD, "u1,a9,2026-10-02,view,,,,")
    dataset = shop.dataset()
    assert dataset.items.row(0) == ("a9", "unknown", 4.0, "")  # 4 is the median of 2, 4 and 9
    assert dataset.events.item_row.tolist() == [1, 0]


def test_excluded_items_and_their_events_leave_without_counting_as_dirt(shop: Any) -> None:
    shop.cleaning["excluded_items"]["where"] = [{"attribute": "kind", "values": ["cup"]}]
    shop.cleaning["reject_ratio_max"] = 0.0
    shop.rows(GOOD, "u1,i3,yesterday,wish,,zero,,")  # its other faults do not matter
    report = shop.ingest()
    assert report.meta.quarantine == {}
    assert (report.meta.sources["events"].excluded, report.meta.sources["items"].excluded) == (1, 1)
    assert shop.dataset().items["item_id"].to_list() == ["i1", "i2"]


def test_an_item_with_an_excluded_and_a_kept_row_stays_with_its_events(shop: Any) -> None:
    shop.cleaning["excluded_items"]["where"] = [{"attribute": "kind", "values": ["cup"]}]
    shop.tables["items.csv"] += "i1,cup,2.0,Green tea\n"
    report = shop.ingest()
    assert (report.meta.sources["events"].excluded, report.meta.sources["items"].excluded) == (0, 2)


def test_outliers_are_told_by_median_and_mad_within_their_event_type(shop: Any) -> None:
    # Purchases 1 2 3 4 5 x: median 3.5, MAD 1.5, so 20 deviations end at 3.5 + 20 · 1.4826 · 1.5 = 47.98.
    def rows(last: float) -> list[str]:
        return [f"u1,i1,2026-10-0{day},purchase,,1,{value},phone" for day, value in enumerate((1, 2, 3, 4, 5, last), 1)]

    shop.rows(*rows(47.9), "u1,i1,2026-10-01,view,,,900,")
    assert shop.quarantine() == []
    shop.rows(*rows(48.0), "u1,i1,2026-10-01,view,,,900,")
    assert shop.quarantine() == [("events", 5, "outliers", "amount", "48.0")]


def test_where_most_values_are_equal_the_mean_deviation_measures_outliers(shop: Any) -> None:
    # 29 ones and a 100: MAD 0, mean deviation 99/30 = 3.3, distance 99 / (1.2533 · 3.3) = 23.9.
    rows = [f"u1,i1,2026-10-{day:02d},purchase,,1,,phone" for day in range(1, 30)]
    shop.rows(*rows, "u1,i1,2026-10-30,purchase,,100,,phone")
    assert shop.quarantine() == [("events", 29, "outliers", "pieces", "100.0")]
    shop.cleaning["outliers"]["threshold"] = 24.0
    assert shop.quarantine() == []


def test_automated_buyers_lose_all_their_events(shop: Any) -> None:
    # Busiest days: u1 2, u2 2, u3 2, bot 8. Median 2, MAD 0, so the limit is events_a_day_min.
    people = [f"{who},i1,2026-10-01T1{n}:00:00,view,,,,phone" for who in ("u1", "u2", "u3") for n in range(2)]
    bot = [f"bot,i1,2026-10-02T10:00:0{n},view,,,,phone" for n in range(8)]
    shop.rows(*people, *bot, "bot,i2,2026-10-09,view,,,,phone")
    shop.cleaning["automated_buyers"]["events_a_day_min"] = 8
    assert shop.quarantine() == []
    shop.cleaning["automated_buyers"]["events_a_day_min"] = 7
    assert shop.quarantine() == [("events", 6 + n, "automated_buyers", "who", "bot") for n in range(9)]


def test_the_limit_of_automated_buyers_follows_the_shops_own_spread(shop: Any) -> None:
    # Busiest days 1, 2, 3, 4, 9: median 3, MAD 1, so the limit is 3 + 4 · 1.4826 · 1 = 8.93.
    shop.cleaning["automated_buyers"] |= {"events_a_day_min": 1, "threshold": 4.0}
    days = {"u1": 1, "u2": 2, "u3": 3, "u4": 4, "u5": 9}
    shop.rows(*(f"{who},i1,2026-10-01T10:00:0{n},view,,,,phone" for who, count in days.items() for n in range(count)))
    assert {row[4] for row in shop.quarantine()} == {"u5"}
    shop.cleaning["automated_buyers"]["threshold"] = 4.1
    assert shop.quarantine() == []


def test_missing_attributes_are_imputed_and_counted(shop: Any) -> None:
    shop.tables["items.csv"] = "sku,kind,price,title\ni1,,2.0,A\ni2,tea,,\ni3,cup,3.0,C\n"
    dataset = shop.dataset()
    assert dataset.items.rows() == [("i1", "unknown", 2.0, "A"), ("i2", "tea", 2.5, ""), ("i3", "cup", 3.0, "C")]
    assert {name: count for name, count in dataset.meta.imputed.items() if count} == {
        "items.kind": 1,
        "items.price": 1,
        "items.title": 1,
    }


def test_a_missing_attribute_stops_the_run_when_imputation_is_off(shop: Any) -> None:
    shop.off("imputation")
    shop.tables["items.csv"] += "i4,tea,,Mate\n"
    with pytest.raises(UncleanRowError, match=r"items: missing values in column 'price' in 1 rows"):
        shop.ingest()


@pytest.mark.parametrize(
    ("rule", "row", "column", "value"),
    [
        ("null_keys", ",i1,2026-10-01,view,,,,", "who", "None"),
        ("wrong_type", "u1,i1,2026-10-01,view,,two,,", "pieces", "'two'"),
        ("bad_timestamps", "u1,i1,soon,view,,,,", "when", "'soon'"),
        ("unknown_event_types", "u1,i1,2026-10-01,wish,,,,", "what", "'wish'"),
    ],
)
def test_a_row_no_dataset_can_hold_stops_the_run_when_its_rule_is_off(
    shop: Any, rule: str, row: str, column: str, value: str
) -> None:
    shop.rows(GOOD, row)
    shop.off(rule)
    with pytest.raises(UncleanRowError) as caught:
        shop.ingest()
    for part in ("events.csv, row 1", f"column '{column}'", f"value {value}", f"[cleaning.{rule}]"):
        assert part in str(caught.value)


def test_a_row_with_two_faults_is_counted_once(shop: Any) -> None:
    shop.rows(GOOD, ",i9,soon,wish,,two,,")
    assert shop.quarantine() == [("events", 1, "null_keys", "who", None)]


def test_the_quarantine_names_the_file_of_a_row_among_many(shop: Any) -> None:
    shop.sections["events"]["files"] = ["events*.csv"]
    shop.tables["events_2.csv"] = "what,who,sku,when,basket,pieces,amount,device\nwish,u1,i1,2026-10-01,,,,\n"
    table = pl.read_parquet(shop.ingest().dataset_dir / "quarantine.parquet")
    assert table.select("file", "row").rows() == [(str(shop.directory / "events_2.csv"), 0)]
