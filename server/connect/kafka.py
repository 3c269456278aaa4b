"""Kafka topics as a source: JSON messages, offsets committed to the consumer group after the acknowledgement.

confluent-kafka comes with the extra `kafka` and is imported when a source is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from server.connect.errors import BadRow, SourceUnusable
from server.connect.files import json_row
from server.connect.record import Batch, Record, event_id_of

METADATA_TIMEOUT_S = 10.0
TIMESTAMP_FIELD, KEY_FIELD = "$timestamp", "$key"
"""Under these a row has what Kafka knows of a message beside its value."""

Position = Mapping[tuple[str, int], int]
"""The next offset of each (topic, partition)."""


class KafkaSource:
    """A member of a consumer group. `settings` are librdkafka's; ours win. Raises SourceUnusable.

    `on_revoked` is called before partitions go to another member: it has to commit what is under way.
    """

    def __init__(
        self,
        brokers: str,
        topics: Sequence[str],
        group: str,
        settings: Mapping[str, str | int | float | bool],
        on_revoked: Callable[[], None],
    ) -> None:
        try:
            import confluent_kafka
        except ImportError as error:
            raise SourceUnusable(
                "reading Kafka needs confluent-kafka, which is not installed: pip install 'twinrank[server,kafka]'"
            ) from error
        self._kafka: Any = confluent_kafka
        self._on_revoked = on_revoked
        self._lost: set[tuple[str, int]] = set()
        try:
            self._consumer: Any = confluent_kafka.Consumer(
                {
                    "auto.offset.reset": "earliest",
                    **settings,
                    "bootstrap.servers": brokers,
                    "group.id": group,
                    "enable.auto.commit": False,
                    "enable.auto.offset.store": False,
                }
            )
        except confluent_kafka.KafkaException as error:
            raise SourceUnusable(f"Kafka's settings are wrong: {error.args[0].str()}") from error
        self._require(brokers, topics)
        self._consumer.subscribe(
            list(topics), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._partitions_lost
        )

    @property
    def ended(self) -> bool:
        """A topic never ends."""
        return False

    def read(self, count_max: int, timeout_s: float, /) -> Batch | None:
        """The next messages of any partition."""
        records: list[Record] = []
        position: dict[tuple[str, int], int] = {}
        for message in self._consumer.consume(count_max, timeout_s):
            if (error := message.error()) is not None:
                self._check(error)
                continue
            records.append(_record(message, self._kafka.TIMESTAMP_NOT_AVAILABLE))
            position[message.topic(), message.partition()] = message.offset() + 1
        return Batch(records, position) if records else None

    def commit(self, positions: Sequence[Any]) -> None:
        """Commits to the group, and waits for the broker. Partitions that were lost are their new owner's."""
        latest: dict[tuple[str, int], int] = {}
        for position in positions:
            latest.update(position)
        offsets = [
            self._kafka.TopicPartition(topic, partition, offset)
            for (topic, partition), offset in latest.items()
            if (topic, partition) not in self._lost
        ]
        if not offsets:
            return
        try:
            self._consumer.commit(offsets=offsets, asynchronous=False)
        except self._kafka.KafkaException as error:
            # Not committed is delivered again, by whoever owns the partition then; the events' ids are the same.
            self._check(error.args[0])

    def close(self) -> None:
        """Leaves the group."""
        self._consumer.close()

    def _require(self, brokers: str, topics: Sequence[str]) -> None:
        try:
            known = self._consumer.list_topics(timeout=METADATA_TIMEOUT_S).topics
        except self._kafka.KafkaException as error:
            self._consumer.close()
            raise SourceUnusable(f"no Kafka broker answers at {brokers}: {error.args[0].str()}") from error
        if missing := [topic for topic in topics if topic not in known]:
            self._consumer.close()
            raise SourceUnusable(f"there is no topic {', '.join(missing)} at {brokers}")

    def _check(self, error: Any) -> None:
        codes = self._kafka.KafkaError
        hopeless = (
            codes.TOPIC_AUTHORIZATION_FAILED,
            codes.GROUP_AUTHORIZATION_FAILED,
            codes.UNKNOWN_TOPIC_OR_PART,
            codes._AUTHENTICATION,
        )
        if error.fatal() or error.code() in hopeless:
            raise SourceUnusable(f"Kafka: {error.str()}")

    def _assigned(self, _: Any, partitions: list[Any]) -> None:
        self._lost.difference_update((one.topic, one.partition) for one in partitions)

    def _revoked(self, _: Any, partitions: list[Any]) -> None:
        self._on_revoked()
        self._lost.update((one.topic, one.partition) for one in partitions)

    def _partitions_lost(self, _: Any, partitions: list[Any]) -> None:
        self._lost.update((one.topic, one.partition) for one in partitions)


def _record(message: Any, no_timestamp: int) -> Record:
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    value, key = message.value(), message.key()
    kind, timestamp_ms = message.timestamp()
    arrived_ms = None if kind == no_timestamp or timestamp_ms < 0 else timestamp_ms
    row: dict[str, Any] | BadRow = BadRow("empty", "the message has no value") if value is None else json_row(value)
    if isinstance(row, dict):
        row = {TIMESTAMP_FIELD: arrived_ms, KEY_FIELD: key.decode("utf-8", "replace") if key else None, **row}
    return Record(
        f"{topic}[{partition}]@{offset}", event_id_of("kafka", topic, partition, offset), row, value, arrived_ms
    )
