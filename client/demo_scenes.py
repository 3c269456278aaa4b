"""What the demo shows of real households: what they bought, what they are offered, and an answer changing at once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from rich.console import Console
from rich.table import Table
from twinrank_client import Client, RecentEvent, Recommendations, RecommendRequest, RepeatPolicy

from towers.schema import Dataset

HOUSEHOLDS_SHOWN = 3
LINES_SHOWN = 8


@dataclass(frozen=True)
class Stage:
    """The demo's shop as the scenes see it: its data, a client of the running server, and the moment asked about."""

    dataset: Dataset
    client: Client
    as_of: datetime
    console: Console

    def words(self, item_id: str) -> str:
        """An item as department / category / type / brand."""
        row = self.dataset.items["item_id"].search_sorted(item_id)
        columns = ("department", "product_category", "product_type", "brand")
        item = self.dataset.items.row(int(row), named=True)
        return " / ".join(str(item[column]).title() for column in columns)

    def lately_bought(self, user_row: int, count: int) -> list[tuple[datetime, str]]:
        """The newest purchases of a household before the moment: (when, item id), newest first."""
        events = self.dataset.events
        mine = np.flatnonzero((events.user_row == user_row) & (events.time_s < self.as_of.timestamp()))[::-1][:count]
        ids = self.dataset.items["item_id"]
        return [(datetime.fromtimestamp(int(events.time_s[i]), UTC), ids[int(events.item_row[i])]) for i in mine]


def show_households(stage: Stage, user_rows: Sequence[int]) -> None:
    """For each household what it bought lately and what it is offered now, in words."""
    for user_row in user_rows:
        user_id = stage.dataset.users["user_id"][int(user_row)]
        answer = stage.client.recommend(
            RecommendRequest(user_id=user_id, request_time=stage.as_of, page_size=LINES_SHOWN)
        )
        new = stage.client.recommend(
            RecommendRequest(
                user_id=user_id,
                request_time=stage.as_of,
                page_size=LINES_SHOWN // 2,
                repeat_policy=RepeatPolicy.EXCLUDE_BOUGHT,
            )
        )
        table = Table(title=f"household {user_id}", show_header=False, box=None, title_justify="left")
        table.add_row("[bold]bought lately[/bold]", "")
        for when, item_id in stage.lately_bought(user_row, LINES_SHOWN // 2):
            table.add_row(f"  {when:%d %b}", stage.words(item_id))
        _add_offers(table, "offered now", stage, answer)
        _add_offers(table, "offered now, never bought before", stage, new)
        stage.console.print(table)


def _add_offers(table: Table, title: str, stage: Stage, answer: Recommendations) -> None:
    table.add_row(f"[bold]{title}[/bold]", "")
    for item in answer.items:
        table.add_row(f"  {item.score:.0%}", f"{stage.words(item.item_id)}  [dim]{item.source.name.lower()}[/dim]")


def show_real_time(stage: Stage, user_row: int) -> float:
    """The same household before and after one more event sent inline; returns the milliseconds of the second answer."""
    user_id = stage.dataset.users["user_id"][int(user_row)]
    before = _new_to(stage, user_id, ())
    bought = before.item_ids[0]
    event = RecentEvent(item_id=bought, event_type="purchase", time=stage.as_of)
    began = time.perf_counter()
    after = _new_to(stage, user_id, (event,))
    took_ms = (time.perf_counter() - began) * 1_000
    stage.console.print(f"[bold]real time[/bold]: household {user_id} buys {stage.words(bought)}")
    table = Table("place", "before", f"after, {took_ms:.1f} ms later", box=None)
    old_place = {item_id: place for place, item_id in enumerate(before.item_ids, 1)}
    for place in range(LINES_SHOWN):
        now = after.item_ids[place]
        moved = old_place.get(now)
        mark = "[green]new[/green]" if moved is None else f"was {moved}"
        table.add_row(str(place + 1), stage.words(before.item_ids[place]), f"{stage.words(now)} ({mark})")
    stage.console.print(table)
    return took_ms


def _new_to(stage: Stage, user_id: str, events: Sequence[RecentEvent]) -> Recommendations:
    return stage.client.recommend(
        RecommendRequest(
            user_id=user_id,
            request_time=stage.as_of,
            recent_events=events,
            page_size=20,
            repeat_policy=RepeatPolicy.EXCLUDE_BOUGHT,
        )
    )
