"""`python -m client.demo`: from raw transactions to recommendations over gRPC, every stage a command that a shop runs.

    ingest → train → rebuild → serve → households in words → real time → served evaluation → load test → stop

Everything goes under var/demo; the figures into var/demo/report.json. Exit status 0 when every stage did its work.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.rule import Rule
from twinrank_client import Client

from client.demo_scenes import HOUSEHOLDS_SHOWN, Stage, show_households, show_real_time
from client.evaluate import figures, judge, test_split
from client.server_process import server_process
from index.generation import current_id, read_manifest
from towers.schema import Dataset, ShopConfig, load_dataset, read_shop_config

CONFIG = Path("towers/shops/complete_journey.toml")
SERVER_CONFIG = Path("server/demo.toml")
LOAD_RATE_PER_S = 150
LOAD_S = 10
WIDTH_MIN = 120
"""Columns that the tables need; a narrower terminal wraps their lines."""


def main() -> None:
    """Runs every stage and writes the report."""
    console = Console(width=max(Console().width, WIDTH_MIN), highlight=False)
    shop = read_shop_config(CONFIG)
    seconds: dict[str, float] = {}
    for name, arguments in (
        ("ingest", ["towers", "ingest"]),
        ("train", ["towers", "train"]),
        ("rebuild", ["index", "rebuild"]),
    ):
        with _stage(name, seconds, console):
            subprocess.run([sys.executable, "-m", *arguments, str(CONFIG)], check=True)  # noqa: S603
    dataset = load_dataset(shop.dataset_dir)
    report: dict[str, Any] = {"quarantine": dataset.meta.quarantine}
    with _server(seconds, console) as target, Client(target, timeout_s=30) as client:
        split = test_split(shop, dataset)
        end = shop.training.train_end
        assert end is not None
        stage = Stage(dataset, client, end, console)
        with _stage("households", seconds, console):
            asked = split.evaluation_set.user_rows
            shown = [
                int(asked[place]) for place in np.linspace(0, len(asked) - 1, HOUSEHOLDS_SHOWN + 2).astype(int)[1:-1]
            ]
            show_households(stage, shown)
            report["real_time_ms"] = show_real_time(stage, shown[0])
        with _stage("evaluate", seconds, console):
            report |= _evaluate(client, shop, dataset, console)
        with _stage("load_test", seconds, console):
            report["load_test"] = _load_test(target, shop, dataset)
    generation_id = current_id(shop.generations_dir)
    assert generation_id is not None
    index: Any = read_manifest(shop.generations_dir, generation_id).metadata["index"]
    report |= {
        "index": {f"recall@{index['recall_k']}": index["recall"], "kind": index["kind"]},
        "generation_id": generation_id,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }
    path = shop.shop.work_dir / "report.json"
    path.write_text(json.dumps(report, indent=1), encoding="utf-8")
    console.print(Rule("done"))
    _summary(report, console)
    console.print(f"figures in {path}")


@contextmanager
def _stage(name: str, seconds: dict[str, float], console: Console) -> Iterator[None]:
    console.print(Rule(name.replace("_", " ")))
    began = time.monotonic()
    yield
    seconds[name] = time.monotonic() - began


@contextmanager
def _server(seconds: dict[str, float], console: Console) -> Iterator[str]:
    """A real server process on free ports; `seconds` gets how long it took to serve."""
    log = Path("var/demo/server.log")
    with ExitStack() as stack:
        with _stage("serve", seconds, console):
            target = stack.enter_context(server_process(SERVER_CONFIG, log))
            console.print(f"the server answers on {target}, its log is {log}")
        yield target


def _evaluate(client: Client, shop: ShopConfig, dataset: Dataset, console: Console) -> dict[str, Any]:
    with console.status("evaluating") as status:
        tables = judge(client, shop, dataset, status.update)
    for table in tables:
        console.print(table.table())
    return figures(*tables)


def _load_test(target: str, shop: ShopConfig, dataset: Dataset) -> dict[str, Any]:
    users, out = shop.shop.work_dir / "users.txt", shop.shop.work_dir / "load_test.json"
    users.write_text("\n".join(dataset.users["user_id"].to_list()), encoding="utf-8")
    plot = out.with_suffix(".png")
    command = [sys.executable, "-m", "client.load_test", target, "--users", str(users), "--rate", str(LOAD_RATE_PER_S)]
    command += ["--duration", str(LOAD_S), "--json", str(out), "--plot", str(plot)]
    assert shop.training.train_end is not None
    command += ["--request-time", shop.training.train_end.isoformat()]
    subprocess.run(command, check=True)  # noqa: S603
    figures: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return figures


def _summary(report: dict[str, Any], console: Console) -> None:
    load = report["load_test"]
    best = max(report["baselines"].items(), key=lambda entry: entry[1]["ndcg@20"])
    console.print(
        f"served NDCG@20 {report['served']['ndcg@20']:.4f} (best baseline, {best[0].replace('_', ' ')}: "
        f"{best[1]['ndcg@20']:.4f}), new only {report['served_new_only']['ndcg@20']:.4f}"
    )
    console.print(f"load test: {load['achieved_rps']:.0f}/s, p50 {load['p50_ms']:.1f} ms, p99 {load['p99_ms']:.1f} ms")
    console.print(f"{sum(report['seconds'].values()):.0f} s in all")


if __name__ == "__main__":
    main()
