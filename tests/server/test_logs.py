"""Which requests leave a line, and what is in it."""

from __future__ import annotations

import io
import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from server.call import Call
from server.config import LogsConfig
from server.errors import TooManyInFlight
from server.logs import RequestLog, configure_logs
from server.status import status_of

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def make(stream: io.StringIO, **settings: Any) -> RequestLog:
    config = LogsConfig(**settings)
    configure_logs(config, stream)
    return RequestLog(config)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def call(traceparent: str = TRACEPARENT) -> Call:
    return Call("Recommend", 0.0, 1.0, lambda: (("traceparent", traceparent),), request_id="r-1")


def test_an_ordinary_answer_leaves_no_line(stream: io.StringIO) -> None:
    make(stream).answered(call(), 0.001)
    assert lines(stream) == []


def test_a_slow_answer_leaves_one_with_its_trace(stream: io.StringIO) -> None:
    make(stream, slow_request_ms=5).answered(call(), 0.0061)
    [line] = lines(stream)
    assert (line["event"], line["request_id"], line["ms"]) == ("slow request", "r-1", 6.1)
    assert line["traceparent"] == TRACEPARENT


def test_a_trace_that_is_not_well_formed_is_left_out(stream: io.StringIO) -> None:
    make(stream, slow_request_ms=5).answered(call("rubbish\n"), 1.0)
    assert lines(stream)[0]["traceparent"] is None


def test_every_nth_answer_is_sampled(stream: io.StringIO) -> None:
    log = make(stream, sample_every=3)
    for _ in range(7):
        log.answered(call(), 0.001)
    assert len(lines(stream)) == 2


def test_a_fault_is_logged_with_its_traceback(stream: io.StringIO) -> None:
    log = make(stream)
    try:
        raise RuntimeError("what really happened")
    except RuntimeError as error:
        log.failed(call(), status_of(error, "r-1"), error)
    [line] = lines(stream)
    assert (line["level"], line["code"], line["request_id"]) == ("error", "INTERNAL", "r-1")
    assert "what really happened" in line["exception"]
    assert "test_logs.py" in line["exception"]


def test_an_overload_does_not_drown_the_log(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    log = make(stream, error_lines_per_s_max=5)
    error = TooManyInFlight("too many", 50)
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    for _ in range(50):
        log.failed(call(), status_of(error, "r-1"), error)
    assert len(lines(stream)) == 5
    monkeypatch.setattr(time, "monotonic", lambda: 101.0)
    log.failed(call(), status_of(error, "r-1"), error)
    assert lines(stream)[-1]["suppressed_lines"] == 45


def test_other_libraries_lines_are_json_too(stream: io.StringIO) -> None:
    make(stream)
    logging.getLogger("grpc").warning("something %s", "odd")
    [line] = lines(stream)
    assert (line["event"], line["level"]) == ("something odd", "warning")
