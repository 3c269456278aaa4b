"""`python -m client.replay CONFIG --from TIME --to TIME`: replays a shop's own transactions as events.

An open loop by the transactions' times, at a speed-up. Exit status 0 when every event was acknowledged, 1 when some
were refused or not answered, 2 when there was nothing to replay or nobody to replay it to.
"""

from __future__ import annotations

import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from client.load.connection import is_loopback
from client.replaying.player import Player
from client.replaying.schedule import messages
from client.replaying.screen import ReplayLine, figures_text, print_summary
from client.replaying.transactions import Transactions
from server.connect.delivery import Delivery
from server.connect.errors import DeliveryRefused
from towers.schema import DataError, read_shop_config

CONNECT_TIMEOUT_S = 5.0
TIME_FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]


def replay(
    config: Annotated[Path, typer.Argument(help="The shop's TOML file; its dataset must be ingested.")],
    begin: Annotated[datetime, typer.Option("--from", help="first time to replay; UTC", formats=TIME_FORMATS)],
    end: Annotated[datetime, typer.Option("--to", help="time at which to stop", formats=TIME_FORMATS)],
    target: Annotated[str, typer.Option(help="host:port of the server")] = "127.0.0.1:50051",
    speed_up: Annotated[
        float, typer.Option(help="so many times as fast as it happened; 0: as fast as the server takes it", min=0.0)
    ] = 1.0,
    shift_to_now: Annotated[
        bool, typer.Option("--shift-to-now", help="events happen when they are sent; default: the original times")
    ] = False,
    in_flight: Annotated[int, typer.Option(help="messages of at most 100 events in flight", min=1, max=1000)] = 32,
    json: Annotated[Path | None, typer.Option(help="write the figures here", dir_okay=False)] = None,
    allow_remote: Annotated[bool, typer.Option("--allow-remote", help="replay to another machine than this")] = False,
) -> None:
    """Replay a time range of real transactions as events, at a chosen speed-up."""
    if not allow_remote and not is_loopback(target):
        raise typer.BadParameter(f"{target} is not this machine; --allow-remote if you may write events to it")
    console = Console(stderr=True, soft_wrap=True)
    from_s, until_s = _epoch_s(begin), _epoch_s(end)
    try:
        transactions = Transactions(read_shop_config(config).dataset_dir, from_s, until_s)
    except DataError as error:
        console.print(Text(str(error), style="red"))
        raise typer.Exit(2) from error
    if not transactions.count:
        console.print(f"no event from {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}", highlight=False)
        raise typer.Exit(2)
    delivery = Delivery(target, messages_in_flight_max=in_flight)
    try:
        delivery.until_connected(CONNECT_TIMEOUT_S)
        with ReplayLine(console, transactions.count) as line:
            player = Player(delivery, line)
            _stop_on_signals(player)
            started_s = time.monotonic()
            schedule = messages(
                transactions, from_s, speed_up, begin_s=time.time() if shift_to_now else None, now=time.time
            )
            player.play(schedule)
            seconds = time.monotonic() - started_s
    except (ConnectionError, DeliveryRefused) as error:
        console.print(Text(str(error), style="red"))
        raise typer.Exit(2) from error
    finally:
        delivery.close()
    progress = player.progress
    print_summary(progress, seconds, console)
    if json is not None:
        json.write_text(figures_text(progress, seconds), encoding="utf-8")
    if progress.refused or progress.acknowledged_events < progress.sent_events:
        raise typer.Exit(1)


def _epoch_s(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _stop_on_signals(player: Player) -> None:
    def stop(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)  # the second one does not wait
        player.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


if __name__ == "__main__":
    typer.run(replay)
