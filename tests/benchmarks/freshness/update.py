"""One day's events in the log, learned, judged, published and current: how long `python -m towers update` takes.

`python -m tests.benchmarks.freshness.update [--day 1]`; the last line is JSON: `update_live_s`, from the start of the
command to CURRENT naming the new generation, over a copy of the demo with the events of one day of December in a real
store.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from index.generation.pointer import current_id
from server.events.log_entry import encode_fields
from server.state.keys import log_key, shard
from tests.benchmarks.freshness.shop import AS_OF_S, copied_generations
from tests.server.store_process import StoreProcess
from towers.schema import Dataset, load_dataset, read_shop_config

DAY_S = 86_400
CONFIG = Path("towers/shops/complete_journey.toml")
POLL_S = 0.02


def write_day(dataset: Dataset, store: StoreProcess, begin_s: float) -> int:
    """Puts the events of one day into the log, by time; how many."""
    events = dataset.events
    chosen = np.flatnonzero((events.time_s >= begin_s) & (events.time_s < begin_s + DAY_S))
    users, items = dataset.users["user_id"].to_list(), dataset.items["item_id"].to_list()
    pipeline = store.client.pipeline(transaction=False)
    for row in chosen[np.argsort(events.time_s[chosen], kind="stable")].tolist():
        user, item, time_s = users[events.user_row[row]], items[events.item_row[row]], float(events.time_s[row])
        numbers = (time_s, float(events.quantity[row]), float(events.value[row]), None, None, None)
        entry = encode_fields("purchase", user, "", str(events.session[row]), item, "", *numbers, None, "", "", False)
        pipeline.xadd(log_key(shard(user)), {"e": entry})
    pipeline.execute()
    return len(chosen)


def measure(day: int) -> dict[str, float]:
    """Seconds from the command's start to the new CURRENT. Raises SystemExit when nothing was published."""
    shop = read_shop_config(CONFIG)
    with copied_generations() as root:
        work_dir = root.parent
        (work_dir / "dataset").symlink_to(shop.dataset_dir.absolute())
        config = work_dir / "shop.toml"
        config.write_text(CONFIG.read_text().replace('"var/demo"', f'"{work_dir}"'))
        store = StoreProcess().start()
        try:
            count = write_day(load_dataset(shop.dataset_dir), store, AS_OF_S + day * DAY_S)
            before, began_s = current_id(root), time.monotonic()
            command = [sys.executable, "-m", "towers", "update", str(config), "--store", store.address.url]
            with subprocess.Popen(command, stdout=sys.stderr) as process:
                while current_id(root) == before and process.poll() is None:
                    time.sleep(POLL_S)
                live_s = time.monotonic() - began_s
                status = process.wait()
        finally:
            store.close()
        if current_id(root) == before:
            raise SystemExit(f"nothing was published: exit status {status}")
    return {"update_live_s": round(live_s, 1), "update_events": count}


def main() -> None:
    """Measures one day."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--day", type=int, default=1, help="of December 2017, from 0")
    print(json.dumps(measure(parser.parse_args().day)))


if __name__ == "__main__":
    main()
