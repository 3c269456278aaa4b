"""The scripts in the store against plain Python that says the same: any sequence of appends, merges and purges."""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
import valkey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.events.batch import APPEND, FORGET, MERGE, RELEASE
from server.state.packed import HEADER, RECORD, event_id_hash, holds_events, unpack
from tests.server.store_process import StoreProcess

IDS_MAX, DEEDS_MAX, SIGNALS_MAX = 4, 3, 2
LIMITS = (IDS_MAX, DEEDS_MAX, SIGNALS_MAX, 60_000)
LOG = "tr:{00}:log"
KINDS = {"deed": b"\1", "signal": b"\2", "logged": b"\0"}


@dataclass(frozen=True)
class Happening:
    event_id: str
    kind: str
    number: int
    time_s: int

    def record(self, position_ms: float = 0.0) -> bytes:
        return RECORD.pack(position_ms, self.number, self.time_s, 3, 4, 1.5)


@dataclass
class Model:
    """A state as lists."""

    ids: list[int] = field(default_factory=list)
    deeds: list[bytes] = field(default_factory=list)
    signals: list[bytes] = field(default_factory=list)
    last_ms: float = 0.0
    purged_ms: float = 0.0

    def append(self, happenings: list[Happening], positions: list[float]) -> int:
        """`positions`: of the entries that the script wrote, in their order."""
        written = 0
        for happening in happenings:
            known = happening.event_id and event_id_hash(happening.event_id) in self.ids
            if known or (self.purged_ms and (happening.time_s + 1) * 1_000 <= self.purged_ms):
                continue
            self.last_ms = positions[written]
            written += 1
            if happening.event_id:
                self.ids.append(event_id_hash(happening.event_id))
            kept = {"deed": self.deeds, "signal": self.signals, "logged": []}[happening.kind]
            kept.append(happening.record(self.last_ms))
        if written:
            self.trim()
        return written

    def take_over(self, other: Model) -> None:
        def beyond(mine: list[Any], theirs: list[Any]) -> list[Any]:
            left, rest = list(mine), []
            for each in theirs:
                if each in left:
                    left.remove(each)
                else:
                    rest.append(each)
            return rest

        def position(record: bytes) -> float:
            return float(RECORD.unpack(record)[0])

        self.ids = beyond(self.ids, other.ids) + self.ids
        self.deeds = sorted(self.deeds + beyond(self.deeds, other.deeds), key=position)
        self.signals = sorted(self.signals + beyond(self.signals, other.signals), key=position)
        self.last_ms = max(self.last_ms, other.last_ms)
        self.trim()

    def trim(self) -> None:
        self.ids, self.deeds = self.ids[-IDS_MAX:], self.deeds[-DEEDS_MAX:]
        self.signals = self.signals[-SIGNALS_MAX:]

    def packed_before(self) -> bytes:
        """As the first version laid states out."""
        counts = (len(self.ids), len(self.deeds), len(self.signals))
        head = HEADER.pack(1, *counts, self.last_ms, self.purged_ms, 0, 0, 0, 0)
        return head + struct.pack(f"<{len(self.ids)}Q", *self.ids) + b"".join(self.deeds + self.signals)

    @classmethod
    def read(cls, value: bytes) -> Model:
        """A state's sections, each from its oldest piece on."""
        version, *numbers = HEADER.unpack_from(value)
        rooms, (last_ms, purged_ms), totals = numbers[:3], numbers[3:5], numbers[5:8]
        assert version == 2
        at, sections = HEADER.size, []
        for size, room, total in zip((8, 32, 32), rooms, totals, strict=True):
            pieces = [value[at + place * size : at + (place + 1) * size] for place in range(room)]
            newest = [pieces[number % room] for number in range(max(0, total - room), total)]
            sections.append(newest)
            at += size * room
        assert len(value) == at
        return cls([struct.unpack("<Q", piece)[0] for piece in sections[0]], *sections[1:], last_ms, purged_ms)


HAPPENINGS = st.lists(
    st.builds(
        Happening,
        event_id=st.sampled_from(["", "", "a", "b", "c", "d", "e", "f"]),
        kind=st.sampled_from(list(KINDS)),
        number=st.integers(0, 5),
        time_s=st.sampled_from([1_000, 2**32 - 1]),
    ),
    max_size=6,
)
STEPS = st.lists(
    st.tuples(st.just("append"), st.sampled_from("uv"), HAPPENINGS)
    | st.tuples(st.just("merge"), st.just("u"), st.just([]))
    | st.tuples(st.just("forget"), st.sampled_from("uv"), st.just([])),
    max_size=8,
)


class Store:
    """The scripts, called as the server calls them."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def append(self, who: str, happenings: list[Happening]) -> tuple[int, float, list[float]]:
        arguments: list[Any] = []
        for happening in happenings:
            packed_id = struct.pack("<Q", event_id_hash(happening.event_id)) if happening.event_id else b""
            arguments += [packed_id, KINDS[happening.kind], happening.record(), f"entry {happening.number}"]
        before = self.client.xlen(LOG)
        written, last_ms = self.client.eval(APPEND.source, 2, who, LOG, *LIMITS, *arguments)
        positions = [float(position.split(b"-")[0]) for position, _ in self.client.xrange(LOG)[before:]]
        return written, last_ms, positions


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_the_scripts_do_what_the_model_does(store: StoreProcess, steps: list[tuple[str, str, list[Happening]]]) -> None:
    store.client.flushall()
    scripts, models = Store(store.client), {"u": Model(), "v": Model()}
    for step, who, happenings in steps:
        model = models[who]
        if step == "append":
            written, last_ms, positions = scripts.append(who, happenings)
            assert (written, last_ms) == (model.append(happenings, positions), model.last_ms)
            assert len(positions) == written
        elif step == "forget":
            count, purged_ms = store.client.eval(FORGET.source, 1, who)
            assert count == len(model.deeds) + len(model.signals)
            models[who] = Model(purged_ms=purged_ms)
        elif value := store.client.get("v"):
            store.client.eval(MERGE.source, 1, "u", *LIMITS, value)
            model.take_over(models["v"])
            if model.ids or model.deeds or model.signals:
                assert Model.read(store.client.get("u")) == model
            assert store.client.eval(RELEASE.source, 1, "v", value + b"changed") == 0
            assert store.client.eval(RELEASE.source, 1, "v", value) == 1
            old = models["v"]
            models["v"] = Model(old.ids, [], [], old.last_ms, old.purged_ms) if old.ids or old.purged_ms else Model()
        for key, expected in models.items():
            value = store.client.get(key)
            assert (Model.read(value) if value else Model()) == expected
            states = unpack([value])
            assert states.events.tobytes() == b"".join(expected.deeds + expected.signals)
            assert holds_events(value or b"") == bool(len(states.events))


def as_happening(number: int, kind: str = "signal", event_id: str = "") -> Happening:
    return Happening(event_id, kind, number, 2**32 - 1)


def test_a_state_of_the_first_version_is_read_and_goes_on(store: StoreProcess) -> None:
    store.client.flushall()
    scripts = Store(store.client)
    old = Model([event_id_hash("a")], [], [as_happening(1).record(5.0), as_happening(2).record(6.0)], 6.0)
    store.client.set("u", old.packed_before())
    assert unpack([old.packed_before()]).events["item_hash"].tolist() == [1, 2]
    assert holds_events(old.packed_before())
    assert scripts.append("u", [as_happening(3, event_id="a")])[0] == 0
    written, last_ms, _ = scripts.append("u", [as_happening(4), as_happening(5, "deed")])
    value = store.client.get("u")
    assert (written, Model.read(value).last_ms) == (2, last_ms)
    assert unpack([value]).events["item_hash"].tolist() == [5, 2, 4]


def test_a_state_is_written_in_place(store: StoreProcess) -> None:
    store.client.flushall()
    limits = (256, 200, 64, 100_000)
    for number in range(64):
        store.client.eval(APPEND.source, 2, "u", LOG, *limits, b"", KINDS["signal"], as_happening(number).record(), "e")
    before = store.client.info("persistence")["aof_current_size"]
    store.client.eval(APPEND.source, 2, "u", LOG, *limits, b"", KINDS["signal"], as_happening(64).record(), "e")
    grown = store.client.info("persistence")["aof_current_size"] - before
    assert 0 < grown < 500  # and not the 2 kB of the state
    assert unpack([store.client.get("u")]).events["item_hash"].tolist() == list(range(1, 65))


def test_who_goes_on_lives_on(store: StoreProcess) -> None:
    store.client.flushall()
    began_s = time.monotonic()
    while time.monotonic() < began_s + 1.0:  # with never a pause of a hundredth of the time to live
        store.client.eval(
            APPEND.source, 2, "u", LOG, 4, 3, 2, 1_000, b"", KINDS["signal"], as_happening(1).record(), "e"
        )
        assert store.client.pttl("u") > 500


def test_a_state_of_a_version_to_come_is_left_as_it_is(store: StoreProcess) -> None:
    store.client.flushall()
    later = HEADER.pack(3, 0, 0, 0, 1.0, 0.0, 0, 0, 0, 0)
    store.client.set("u", later)
    with pytest.raises(valkey.exceptions.ResponseError, match="version 3"):
        Store(store.client).append("u", [as_happening(1)])
    assert store.client.get("u") == later
    assert store.client.xlen(LOG) == 0
    assert not holds_events(b"nonsense")


def test_a_lower_limit_lets_the_oldest_go(store: StoreProcess) -> None:
    store.client.flushall()
    scripts = Store(store.client)
    for number in range(7):
        limits = (9, 9, 5, 60_000)
        store.client.eval(APPEND.source, 2, "u", LOG, *limits, b"", KINDS["signal"], as_happening(number).record(), "e")
    scripts.append("u", [as_happening(7)])
    assert [RECORD.unpack(record)[1] for record in Model.read(store.client.get("u")).signals] == [6, 7]
