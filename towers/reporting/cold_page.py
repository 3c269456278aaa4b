"""The page's section on cold start."""

from __future__ import annotations

from typing import Any

from towers.reporting import html, plots
from towers.reporting.measure import MAIN_K

NAMES = ("twinrank", "popularity", "content")


def cold_start_parts(figures: dict[str, Any]) -> list[str]:
    """Users of few events, then withheld items."""
    users, items = figures["users"], figures["items"]
    parts = [html.heading("Users with few events")]
    if not users:
        parts.append(html.note("Not measured."))
    else:
        series = {name: [row[name] for row in users] for name in NAMES}
        rows = [[f"{row['events']}", *_cells(row)] for row in users]
        parts += [
            plots.bars("recall by number of events", [f"{row['events']} events" for row in users], series, ""),
            html.table(["events", *_head()], rows),
            html.note(
                f"Recall@{MAIN_K} of the same {users[0]['users']:,} users, each asked as a stranger: no id, no "
                "attributes, nothing but the newest events. Lead: ours minus the other's, paired by user. The model "
                "was trained on these users' whole histories among all others'."
            ),
        ]
    parts.append(html.heading("Items that nobody had"))
    if items is None:
        return [
            *parts,
            html.note("Not measured: `--cold-start` trains a model without some items and asks for them."),
        ]
    if "note" in items:
        return [*parts, html.note(items["note"])]
    rows = [[label, *_cells(items[key])] for key, label in (("among_all", "all items"),
                                                            ("among_withheld", "withheld items alone"))]  # fmt: skip
    return [
        *parts,
        html.table(["ranked among", *_head()], rows),
        html.note(
            f"{items['withheld']:,} candidate items had all their events taken out of the log before a training of its "
            f"own; Recall@{MAIN_K} of the {items['users']:,} users who bought one afterwards. Among the withheld items "
            "popularity is that of their attribute values."
        ),
    ]


def _head() -> list[str]:
    return [*NAMES, *(f"lead over {name}" for name in NAMES[1:])]


def _cells(row: dict[str, Any]) -> list[str]:
    leads = [f"{name}_lead" for name in NAMES[1:]]
    return [_with_ci(row, name, "") for name in NAMES] + [_with_ci(row, name, "+") for name in leads]


def _with_ci(row: dict[str, Any], name: str, sign: str) -> str:
    low, high = row[f"{name}_ci"]
    return f"{row[name]:{sign}.4f} [{low:{sign}.4f},\N{NO-BREAK SPACE}{high:{sign}.4f}]"
