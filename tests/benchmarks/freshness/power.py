"""`python -m tests.benchmarks.freshness.power`: what a power failure would take, which kill -9 cannot show.

A real server takes events; every fsync and fdatasync of the server and its store is written down with the file's
length. At a random moment all processes are killed, each file of the store is cut to what was surely on the disk then,
a store starts on that, and what it holds is compared with what had been acknowledged before the moment. `always` must
lose nothing, the default at most what was acknowledged in the last 2 s. The control, a store that nobody syncs, must
lose.

In some of the moments the append-only file is rewritten meanwhile, in others the supervisor, which syncs under the
default, was killed shortly before. A disk may also hold more than it must: each cut is tried at a length in between,
too, where the store has to start and lose no more. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from server.config import Durability, StoreConfig
from server.store.address import StoreAddress
from server.store.connection import connect
from server.store.embedded import EmbeddedStore
from server.store.process import server_binary
from tests.benchmarks.freshness.event_load import EventLoad
from tests.benchmarks.freshness.evidence import read_kept
from tests.benchmarks.freshness.killed_server import KilledServer, Kind, copy_current_generation
from tests.benchmarks.freshness.ledger import Kept, Ledger, compare
from tests.benchmarks.freshness.machine import busy_beside, ended_by_sigterm
from tests.benchmarks.freshness.sync_record import build, cut_copy, environment, read_record
from tests.benchmarks.workloads import DEMO_ROOT

LOAD_S_MIN, LOAD_S_MAX = 1.5, 4.0
UNARY_CLIENTS, STREAM_CLIENTS = 2, 2
PAUSE_S = 0.03
ACTS = ("", "supervisor killed", "rewritten")
"""What happens before a moment, in turn."""
LEAD_S_MAX = {"": 0.0, "supervisor killed": 4.0, "rewritten": 0.7}
"""How long before it, at most."""
UP_PATIENCE_S = 60.0
CONTROL = "control"


@dataclass
class Moment:
    """One power failure.

    Attributes:
        acknowledged: events, before it.
        lost_ages_s: of each acknowledged event that is gone: how long before the failure it was acknowledged.
        doubled, torn: as in `Difference`.
        cut_bytes: what the disk would not have held.
        lost_between: acknowledged events that are gone when the disk held a part of that.
    """

    acknowledged: int
    lost_ages_s: list[float] = field(default_factory=list)
    doubled: int = 0
    torn: int = 0
    cut_bytes: int = 0
    lost_between: int = 0


async def one_moment(kind: str, directory: Path, root: Path, library: Path, chance: random.Random, act: str) -> Moment:
    """Starts a server, writes, cuts the power, and looks at what is left."""
    directory.mkdir()
    record = directory / "syncs"
    recorded = environment(library, record)
    with ExitStack() as after:
        data = directory / "server" / "store" / "appendonlydir"
        if kind == CONTROL:
            address, pid = _unsynced_store(directory / "bare", recorded, after)
            data = directory / "bare" / "appendonlydir"
            store = {"TWINRANK_STORE__MODE": "external", "TWINRANK_STORE__URL": address.url}
        else:
            address, pid = None, 0
            store = {"TWINRANK_STORE__DURABILITY": kind}
        server = KilledServer(directory / "server", root, {**recorded, **store})
        try:
            await server.start()
            ledger, at_s = await _write_until_the_end(server, address, pid, chance, act)
        finally:
            await server.stop()
    syncs = read_record(record.read_text()) if record.exists() else []
    durability = Durability.ALWAYS if kind == Durability.ALWAYS.value else Durability.EVERY_SECOND
    left = directory / "left"
    cuts = cut_copy(data, left / "appendonlydir", syncs, at_s)
    between = directory / "between"
    shutil.copytree(left, between)
    for cut in cuts:
        _lengthen(data / cut.name, between / "appendonlydir" / cut.name, cut.durable_bytes, chance)
    kept = await _kept(left, durability, ledger)
    difference = compare(ledger, kept, at_s)
    moment = Moment(sum(acknowledged_s < at_s for acknowledged_s in ledger.acknowledged_s.values()))
    moment.lost_ages_s = [at_s - ledger.acknowledged_s[event_id] for event_id in difference.lost]
    moment.doubled, moment.torn = len(difference.doubled), len(difference.torn)
    moment.cut_bytes = sum(cut.size_bytes - cut.durable_bytes for cut in cuts)
    more = compare(ledger, await _kept(between, durability, ledger), at_s)
    moment.doubled += len(more.doubled)
    moment.torn += len(more.torn)
    moment.lost_between = len(more.lost)
    return moment


async def _write_until_the_end(
    server: KilledServer, address: StoreAddress | None, pid: int, chance: random.Random, act: str
) -> tuple[Ledger, float]:
    """The ledger, and when everything ended; `pid` is a store that does not belong to the server."""
    ledger = Ledger()
    load = EventLoad(server.target, ledger, name="power", pause_s=PAUSE_S)
    writing = [asyncio.create_task(load.write(number)) for number in range(UNARY_CLIENTS)]
    writing += [asyncio.create_task(load.stream(number)) for number in range(STREAM_CLIENTS)]
    load_s = chance.uniform(LOAD_S_MIN, LOAD_S_MAX)
    lead_s = chance.uniform(0.0, LEAD_S_MAX[act])
    try:
        await asyncio.sleep(max(load_s - lead_s, LOAD_S_MIN))
        if act == "supervisor killed":
            server.kill(Kind.SUPERVISOR)
        if act == "rewritten":
            client = connect(address or server.store.address, timeout_s=5.0)
            client.bgrewriteaof()
            client.close()
        await asyncio.sleep(lead_s)
        at_s = server.kill_all(first=pid)
    finally:
        for task in writing:
            task.cancel()
        await asyncio.gather(*writing, return_exceptions=True)
    return ledger, at_s


def _unsynced_store(
    directory: Path, recorded: Mapping[str, str], after: ExitStack
) -> tuple[StoreAddress, int]:  # fmt: skip
    """A store with an append-only file that nobody brings to disk."""
    directory.mkdir()
    options = {"port": "0", "unixsocket": str(directory / "s"), "dir": str(directory), "save": ""}
    options |= {"appendonly": "yes", "appendfsync": "no"}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    process = subprocess.Popen(
        [str(server_binary()), *words], stdout=subprocess.DEVNULL, env={**os.environ, **recorded}
    )
    after.callback(process.wait)
    after.callback(process.kill)
    return StoreAddress(f"unix://{directory / 's'}?db=0"), process.pid


def _lengthen(whole: Path, cut: Path, durable_bytes: int, chance: random.Random) -> None:
    """Gives a cut file some of what the disk may have held, too."""
    size = chance.randint(durable_bytes, max(durable_bytes, whole.stat().st_size))
    with whole.open("rb") as read, cut.open("r+b") as written:
        read.seek(durable_bytes)
        written.seek(durable_bytes)
        written.write(read.read(size - durable_bytes))


async def _kept(directory: Path, durability: Durability, ledger: Ledger) -> Kept:
    """What a store of the product holds that starts on the files."""
    store = EmbeddedStore(StoreConfig(durability=durability), directory)
    store.start()
    try:
        await asyncio.to_thread(store.until_up, UP_PATIENCE_S)
        return read_kept(store.address, ledger.state_keys)
    finally:
        await asyncio.to_thread(store.stop)


async def run(options: argparse.Namespace, scratch: Path) -> dict[str, object]:
    """All moments."""
    machine = await busy_beside()
    began_s = time.monotonic()
    chance = random.Random(options.seed)
    library = build(scratch)
    root = copy_current_generation(options.root, scratch / "generations")
    plan = {
        Durability.ALWAYS.value: options.count,
        Durability.EVERY_SECOND.value: options.count,
        CONTROL: options.controls,
    }
    if options.durability:
        plan = {kind: count if kind in (options.durability, CONTROL) else 0 for kind, count in plan.items()}
    moments: dict[str, list[Moment]] = {kind: [] for kind in plan}
    for number in range(max(plan.values())):  # in turn, so that a machine's slow minute hits all of them
        for kind, count in plan.items():
            if number >= count:
                continue
            act = ACTS[number % len(ACTS)] if kind != CONTROL else ""
            place = scratch / f"{kind}-{number}"
            moment = await one_moment(kind, place, root, library, chance, act)
            shutil.rmtree(place, ignore_errors=True)
            moments[kind].append(moment)
            print(
                f"{kind:12} {number + 1:2} {act:18} {moment.acknowledged:6,} acknowledged"
                ", "
                f"{moment.cut_bytes:9,} bytes cut, {len(moment.lost_ages_s):5,} lost, the oldest "
                f"{max(moment.lost_ages_s, default=0.0):.2f} s old; {moment.lost_between:,} when cut in between",
                flush=True,
            )
    return {"power": figures(moments, time.monotonic() - began_s, machine)}


def figures(moments: Mapping[str, list[Moment]], seconds: float, machine: Mapping[str, float]) -> dict[str, object]:
    """What goes into the last line."""
    always, every_second = moments[Durability.ALWAYS.value], moments[Durability.EVERY_SECOND.value]
    control = moments[CONTROL]
    durable = [*always, *every_second]
    return {
        "lost_always": sum(len(moment.lost_ages_s) for moment in always),
        "lost_everysec_s_max": round(max((age for one in every_second for age in one.lost_ages_s), default=0.0), 3),
        "control_lost": sum(len(moment.lost_ages_s) for moment in control),
        "count": len(durable),
        "acknowledged_always": sum(moment.acknowledged for moment in always),
        "acknowledged_everysec": sum(moment.acknowledged for moment in every_second),
        "acknowledged_control": sum(moment.acknowledged for moment in control),
        "lost_everysec": sum(len(moment.lost_ages_s) for moment in every_second),
        "doubled": sum(moment.doubled for moment in durable),
        "torn": sum(moment.torn for moment in durable),
        "lost_more_in_between": sum(one.lost_between > len(one.lost_ages_s) for one in durable),
        "seconds": round(seconds, 1),
        **machine,
    }


def main() -> int:
    """The command; 1 when the control lost nothing, and the figures so say nothing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10, help="moments under each durability")
    parser.add_argument("--controls", type=int, default=2)
    parser.add_argument("--durability", choices=[one.value for one in Durability], help="default: both")
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--root", type=Path, default=DEMO_ROOT, help="generations; the current one is copied")
    parser.add_argument("--keep", action="store_true", help="do not delete the scratch directory")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    scratch = Path(tempfile.mkdtemp(prefix="twinrank-power-"))
    try:
        found = asyncio.run(ended_by_sigterm(run(options, scratch)))
    finally:
        if not options.keep:
            shutil.rmtree(scratch, ignore_errors=True)
    print(json.dumps(found))
    power = found["power"]
    assert isinstance(power, dict)
    return int(bool(options.controls) and not power["control_lost"])


if __name__ == "__main__":
    sys.exit(main())
