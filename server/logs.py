"""JSON lines on standard error, and which requests get one.

A line costs tens of microseconds, so answered requests are logged when they are slow or sampled, callers' errors up to
so many a second, and faults of ours always, with their traceback. Third-party loggers come out in the same form.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from typing import Protocol, TextIO

import structlog

from server.call import Call
from server.config import LogsConfig, ServerConfig
from server.status import ErrorStatus

_SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure_logs(config: LogsConfig, stream: TextIO | None = None) -> None:
    """Sends structlog's and the standard library's loggers to `stream` (default: stderr) as JSON lines."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(level=config.level.upper(), handlers=[handler], force=True)
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[config.level.upper()]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def log_listening(
    config: ServerConfig, port: int, admin_port: int, metrics_port: int, generation_id: str, **more: object
) -> None:
    """The line that says that callers may come, and where."""
    structlog.stdlib.get_logger("twinrank.server").info(
        "listening",
        host=config.listen.host,
        port=port,
        admin_port=admin_port,
        metrics_port=metrics_port,
        generation_id=generation_id,
        **more,
    )


class Loggable(Protocol):
    """What a line may be written about."""

    @property
    def call(self) -> Call:
        """The call; made when somebody asks."""


class RequestLog:
    """Decides which requests leave a line, and writes it."""

    def __init__(self, config: LogsConfig) -> None:
        self._logger = structlog.stdlib.get_logger("twinrank.requests")
        self._slow_s = config.slow_request_ms / 1000
        self._sample_every = config.sample_every
        self._lines_per_s_max = config.error_lines_per_s_max
        self._answered_count = 0
        self._second = 0
        self._lines_this_second = 0
        self._suppressed_count = 0

    def answered(self, call: Call, seconds: float) -> None:
        """A request was answered."""
        if seconds >= self._slow_s:
            self._write_answered("slow request", call, seconds)
        elif self._sample_every:
            self._answered_count += 1
            if self._answered_count % self._sample_every == 0:
                self._write_answered("request", call, seconds)

    def answered_together(self, answered: Sequence[Loggable], seconds: Sequence[float]) -> None:
        """Requests were answered, each after so long."""
        if self._sample_every or max(seconds, default=0.0) >= self._slow_s:
            for one, its_seconds in zip(answered, seconds, strict=True):
                self.answered(one.call, its_seconds)

    def failed(self, call: Call, status: ErrorStatus, error: BaseException) -> None:
        """A request was answered with an error."""
        details = {
            "method": call.method,
            "request_id": call.request_id,
            "traceparent": call.traceparent(),
            "code": status.code_name,
            "reason": status.reason,
        }
        if status.is_fault:
            self._logger.error("request failed by a fault of the server", exc_info=error, **details)
        elif self._line_allowed():
            self._logger.info(
                "request refused", message=status.message, suppressed_lines=self._suppressed_count, **details
            )
            self._suppressed_count = 0

    def _line_allowed(self) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            self._second = second
            self._lines_this_second = 0
        self._lines_this_second += 1
        if self._lines_this_second <= self._lines_per_s_max:
            return True
        self._suppressed_count += 1
        return False

    def _write_answered(self, event: str, call: Call, seconds: float) -> None:
        details: dict[str, object] = {
            "method": call.method,
            "request_id": call.request_id,
            "traceparent": call.traceparent(),
            "ms": round(seconds * 1000, 3),
        }
        if call.answered is not None:
            details["queue_ms"] = round(call.answered.queue_s * 1000, 3)
            details["batch_size"] = call.answered.timings.batch_size
            details["generation_id"] = call.answered.answer.generation_id
        self._logger.info(event, **details)
