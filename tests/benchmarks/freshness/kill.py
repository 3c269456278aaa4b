"""`python -m tests.benchmarks.freshness.kill`: kill -9 of any process at random moments under load.

Two workers serve the demo's generation over the embedded store; clients write events by WriteEvents and StreamEvents,
each with an id, and send again what failed; others ask for recommendations. A worker, the store, the supervisor (which
is started again at once) or the forkserver is killed, again and again, half of the times under either durability. In
the end everything acknowledged must be in the log and, once, in the state of its shopper. The control is the same over
a store without an append-only file, which must lose.

The last line is JSON. `recovery_s_max`: from a kill to the first success after the last failure of new connections
that write an event and ask for an undegraded list; the bar is 5 s.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog
import valkey

from index.generation import open_generation
from index.generation.pointer import current_id
from index.item_ids import ItemIds
from server.config import Durability, StoreConfig
from server.store.address import StoreAddress
from server.store.connection import connect_async
from server.store.embedded import EmbeddedStore
from server.store.process import server_binary
from tests.benchmarks.freshness.event_load import EventLoad, Shoppers
from tests.benchmarks.freshness.evidence import read_kept
from tests.benchmarks.freshness.killed_server import KilledServer, Kind, copy_current_generation
from tests.benchmarks.freshness.ledger import Difference, Ledger, compare
from tests.benchmarks.freshness.machine import busy_beside, ended_by_sigterm
from tests.benchmarks.freshness.probes import Prober, recovery_s, successes_in_a_row
from tests.benchmarks.workloads import DEMO_ROOT

WEIGHTS = {Kind.WORKER: 0.4, Kind.STORE: 0.35, Kind.SUPERVISOR: 0.2, Kind.FORKSERVER: 0.05}
UNARY_CLIENTS, STREAM_CLIENTS, ASKING_CLIENTS = 3, 2, 2
PAUSE_S = 0.04
STEADY_PROBES = 4
"""So many successes in a row, and the next kill may come."""
PATIENCE_S = 30.0
"""When a service that does not come back is given up; the kill counts with this time."""
PAUSE_S_MAX = 1.2
PAIRED_PART = 0.15
"""Of the kills are followed by the next one at once, so that recoveries are interrupted, too."""
PAIRED_S_MAX = 0.3
LAST_EVENTS_S = 20.0
CONTROL_KILLS = 3
REWRITE_INTERVAL_S = 4.0
"""So often the store rewrites its append-only file, so that kills come into that, too."""
ASKING_S = 1.0
LOAD_S = 2.0


@dataclass
class Phase:
    """What one server with one store went through.

    Attributes:
        recoveries_s: of each kill: what was killed, and how long until the service was back.
        left_behind: processes that lived on after the server was stopped.
    """

    name: str
    ledger: Ledger
    recoveries_s: list[tuple[Kind, float]] = field(default_factory=list)
    kills_s: list[tuple[float, Kind]] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    oddities: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    left_behind: list[str] = field(default_factory=list)
    failed_starts: list[str] = field(default_factory=list)
    difference: Difference = field(default_factory=lambda: Difference((), (), (), (), ()))


class BareStore:
    """A store without an append-only file, as the control: started again at once, and empty then."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.address = StoreAddress(f"unix://{directory / 's'}?db=0")

    def start(self) -> None:
        """Starts it; returns at once."""
        options = {"port": "0", "unixsocket": str(self._directory / "s"), "dir": str(self._directory)}
        options |= {"save": "", "appendonly": "no"}
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        self._process = subprocess.Popen([str(server_binary()), *words], stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def kill_and_start(self) -> None:
        """kill -9, and another takes its place."""
        self.kill()
        self.start()


async def run_phase(
    phase: Phase, server: KilledServer, user_ids: list[str], kills: list[Kind], kill: Callable[[Kind, int], bool],
    chance: random.Random,
) -> None:  # fmt: skip
    """Load, kills, the end of the load. The server runs, and is running afterwards."""
    load = EventLoad(server.target, phase.ledger, name=phase.name, pause_s=PAUSE_S)
    prober = Prober(server.target, Shoppers(f"{phase.name}-probe", phase.ledger))
    writing = [asyncio.create_task(load.write(number)) for number in range(UNARY_CLIENTS)]
    writing += [asyncio.create_task(load.stream(number)) for number in range(STREAM_CLIENTS)]
    writing += [asyncio.create_task(load.ask(number, user_ids)) for number in range(ASKING_CLIENTS)]
    beside = [asyncio.create_task(prober.run()), asyncio.create_task(_rewrite_again_and_again(server, phase))]
    try:
        await asyncio.sleep(LOAD_S)
        for number, kind in enumerate(kills):
            await _one_kill(phase, server, prober, kind, kill, chance, alone=number == len(kills) - 1)
        ended_s = time.monotonic()
        load.end()
        _, late = await asyncio.wait(writing, timeout=LAST_EVENTS_S)
        phase.outcomes["clients that did not end"] += len(late)
    finally:
        for task in (*writing, *beside):
            task.cancel()
        await asyncio.gather(*writing, *beside, return_exceptions=True)
    for task in writing:
        if not task.cancelled() and task.exception() is not None:
            raise task.exception()
    starts_s = [at_s for at_s, _ in phase.kills_s]
    for (at_s, kind), until_s in zip(phase.kills_s, [*starts_s[1:], ended_s], strict=True):
        found = recovery_s(at_s, prober.probes, until_s)
        if found is not None:
            phase.recoveries_s.append((kind, found))
        elif until_s - at_s > PATIENCE_S:
            phase.recoveries_s.append((kind, until_s - at_s))
    phase.outcomes.update(load.outcomes)
    phase.oddities.update(load.oddities)
    phase.failures.update(probe.failure for probe in prober.probes if probe.failure)


async def _rewrite_again_and_again(server: KilledServer, phase: Phase) -> None:
    client = connect_async(server.store.address, timeout_s=ASKING_S)
    try:
        while True:
            await asyncio.sleep(REWRITE_INTERVAL_S)
            with suppress(valkey.ValkeyError):  # it is down, rewrites already, or is not this one (the control)
                await client.bgrewriteaof()
                phase.outcomes["rewrites of the file"] += 1
    finally:
        await client.aclose()


async def _one_kill(
    phase: Phase, server: KilledServer, prober: Prober, kind: Kind, kill: Callable[[Kind, int], bool],
    chance: random.Random, *, alone: bool,
) -> None:  # fmt: skip
    """Waits for a process of the kind, ends it, and waits until the service is back; or not, before another kill."""
    give_up_s = time.monotonic() + PATIENCE_S
    place = chance.randrange(16)
    while True:
        at_s = time.monotonic()
        if kill(kind, place):
            break
        if at_s > give_up_s:
            raise TimeoutError(f"there is no {kind}")
        await asyncio.sleep(0.05)
    phase.kills_s.append((at_s, kind))
    if chance.random() < PAIRED_PART and not alone:
        await asyncio.sleep(chance.uniform(0.0, PAIRED_S_MAX))
        return
    while time.monotonic() - at_s < PATIENCE_S:
        ready = kind is not Kind.SUPERVISOR or server.is_listening
        if ready and successes_in_a_row(at_s, prober.probes[-50:]) >= STEADY_PROBES:
            break
        await asyncio.sleep(0.05)
    took = recovery_s(at_s, prober.probes[-500:])
    print(
        f"{phase.name} {len(phase.kills_s):3} {kind:10} {'not back' if took is None else f'{took:.2f} s'}", flush=True
    )
    await asyncio.sleep(chance.uniform(0.0, PAUSE_S_MAX))


async def measure(
    durability: Durability, kinds: list[Kind], scratch: Path, root: Path, user_ids: list[str], chance: random.Random
) -> Phase:
    """One phase over the embedded store."""
    phase = Phase(durability.value, Ledger())
    server = KilledServer(scratch / durability.value, root, {"TWINRANK_STORE__DURABILITY": durability.value})
    try:
        await server.start()
        await run_phase(phase, server, user_ids, kinds, server.kill, chance)
    finally:
        phase.failed_starts = server.failed_starts
        phase.left_behind = await server.stop()
    store = EmbeddedStore(StoreConfig(durability=durability), server.store.path)
    store.start()
    try:
        await asyncio.to_thread(store.until_up, 60.0)
        kept = read_kept(store.address, phase.ledger.state_keys)
    finally:
        store.stop()
    phase.difference = compare(phase.ledger, kept)
    return phase


async def measure_control(scratch: Path, root: Path, user_ids: list[str], chance: random.Random) -> Phase:
    """The same with kills of a store that keeps nothing."""
    phase = Phase("control", Ledger())
    store = BareStore(scratch / "bare")
    environment = {"TWINRANK_STORE__MODE": "external", "TWINRANK_STORE__URL": store.address.url}
    server = KilledServer(scratch / "control", root, environment)

    def kill(kind: Kind, place: int) -> bool:
        store.kill_and_start()
        return True

    async with AsyncExitStack() as after:
        store.start()
        after.callback(store.kill)
        await server.start()
        after.push_async_callback(server.stop)
        await run_phase(phase, server, user_ids, [Kind.STORE] * CONTROL_KILLS, kill, chance)
        phase.difference = compare(phase.ledger, read_kept(store.address, phase.ledger.state_keys))
    return phase


def drawn(count: int, chance: random.Random) -> list[Kind]:
    """What to kill, in turn: each kind about as often as WEIGHTS says."""
    kinds = [kind for kind, weight in WEIGHTS.items() for _ in range(max(1, round(weight * count)))]
    chance.shuffle(kinds)
    return kinds[:count]


def figures(
    phases: list[Phase], control: Phase | None, seconds: float, machine: Mapping[str, float]
) -> dict[str, object]:
    """What goes into the last line."""
    recoveries = [took for phase in phases for _, took in phase.recoveries_s]
    by_kind = {
        kind.value: {
            "count": sum(one is kind for phase in phases for _, one in phase.kills_s),
            "recovery_s_median": round(statistics.median(of_kind), 3),
            "recovery_s_max": round(max(of_kind), 3),
        }
        for kind in Kind
        if (of_kind := [took for phase in phases for one, took in phase.recoveries_s if one is kind])
    }
    return {
        "kill": {
            "count": sum(len(phase.kills_s) for phase in phases),
            "lost": sum(len(phase.difference.lost) for phase in phases),
            "doubled": sum(len(phase.difference.doubled) for phase in phases),
            "control_lost": len(control.difference.lost) if control else None,
            "recovery_s_max": round(max(recoveries), 3) if recoveries else None,
            "torn": sum(len(phase.difference.torn) for phase in phases),
            "in_both": sum(len(phase.difference.in_both) for phase in phases),
            "left_behind": sum(len(phase.left_behind) for phase in phases),
            "acknowledged": sum(len(phase.ledger.acknowledged_s) for phase in phases),
            "sent": sum(len(phase.ledger.sent) for phase in phases),
            "kinds": by_kind,
            "by_durability": {
                phase.name: {
                    "count": len(phase.kills_s),
                    "lost": len(phase.difference.lost),
                    "doubled": len(phase.difference.doubled),
                    "recovery_s_max": round(max((took for _, took in phase.recoveries_s), default=0.0), 3),
                }
                for phase in phases
            },
            "seconds": round(seconds, 1),
            **machine,
        }
    }


def tell(phase: Phase) -> None:
    """Everything that is odd about a phase."""
    print(f"\n{phase.name}: {len(phase.ledger.sent):,} events, {len(phase.ledger.acknowledged_s):,} acknowledged")
    print(f"  calls: {dict(phase.outcomes.most_common())}")
    print(f"  probes that failed: {dict(phase.failures.most_common(6))}")
    if phase.oddities:
        print(f"  odd: {dict(phase.oddities.most_common(6))}")
    for name in ("failed_starts", "left_behind"):
        if found := getattr(phase, name):
            print(f"  {name}: {found[:8]}")
    for name in ("lost", "doubled", "torn", "unacknowledged_kept", "in_both"):
        found = getattr(phase.difference, name)
        print(f"  {name}: {len(found)}{''.join(chr(10) + '    ' + _case(phase, one) for one in found[:5])}")


def _case(phase: Phase, event_id: str) -> str:
    at_s = phase.ledger.acknowledged_s.get(event_id)
    if at_s is None:
        return event_id
    after = next(((kill_s - at_s, kind.value) for kill_s, kind in phase.kills_s if kill_s > at_s), None)
    return f"{event_id}, acknowledged " + (
        f"{after[0]:.3f} s before the {after[1]} was killed" if after else "at the end"
    )


async def run(options: argparse.Namespace, scratch: Path) -> dict[str, object]:
    """All of it."""
    machine = await busy_beside()
    began_s = time.monotonic()
    root = copy_current_generation(options.root, scratch / "generations")
    generation_id = current_id(root)
    assert generation_id is not None
    users = ItemIds.open(open_generation(root, generation_id).path("users.ids"))
    user_ids = users.ids(list(range(min(len(users), 500))))
    durabilities = [Durability(options.durability)] if options.durability else list(Durability)
    chance = random.Random(options.seed)
    phases = []
    for place, durability in enumerate(durabilities):
        count = options.count // len(durabilities) + (place < options.count % len(durabilities))
        phases.append(await measure(durability, drawn(count, chance), scratch, root, user_ids, chance))
        tell(phases[-1])
    control = None
    if not options.no_control:
        control = await measure_control(scratch, root, user_ids, chance)
        tell(control)
    return figures(phases, control, time.monotonic() - began_s, machine)


def main() -> int:
    """The command; 1 when the control lost nothing, and the figures so say nothing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="kills, the control's aside")
    parser.add_argument("--durability", choices=[one.value for one in Durability], help="default: half under each")
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--root", type=Path, default=DEMO_ROOT, help="generations; the current one is copied")
    parser.add_argument("--no-control", action="store_true")
    parser.add_argument("--keep", action="store_true", help="do not delete the scratch directory")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    scratch = Path(tempfile.mkdtemp(prefix="twinrank-kill-"))
    try:
        found = asyncio.run(ended_by_sigterm(run(options, scratch)))
    finally:
        if not options.keep:
            shutil.rmtree(scratch, ignore_errors=True)
    print(json.dumps(found))
    kill = found["kill"]
    assert isinstance(kill, dict)
    return int(kill["control_lost"] == 0)


if __name__ == "__main__":
    sys.exit(main())
