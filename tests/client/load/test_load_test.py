"""The command, from its arguments to its files, against a fake server."""

from __future__ import annotations

import json
from pathlib import Path

import grpc
import pytest
import typer
from twinrank_client import RecommendRequest
from twinrank_client.testing import FakeServer
from typer.testing import CliRunner

from client.load.connection import is_loopback
from client.load_test import load_test

app = typer.Typer()
app.command()(load_test)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """These runs are half a second long: on a busy machine their last requests would count as too late."""
    monkeypatch.setattr("client.load.open_loop.SETTLE_RATIO", 40.0)


@pytest.fixture
def users(tmp_path: Path) -> Path:
    path = tmp_path / "users.txt"
    path.write_text("1\n2\n3\n")
    return path


def test_a_run_writes_numbers_and_a_plot(twinrank_server: FakeServer, users: Path, tmp_path: Path) -> None:
    numbers, plot = tmp_path / "load.json", tmp_path / "load.png"
    options = "--rate 60 --duration 0.5 --warm-up 0.1 --arrivals constant --channels 2 --placement cart --page-size 4"
    result = CliRunner().invoke(
        app,
        [twinrank_server.target, "--users", str(users), "--json", str(numbers), "--plot", str(plot), *options.split()],
    )
    assert result.exit_code == 0, result.output
    report = json.loads(numbers.read_text())
    assert report["by_status"] == {"OK": 30}
    assert (report["scheduled"], report["errors"], report["unsent"]) == (30, 0, 0)
    assert report["asked_rps"] == report["achieved_rps"] == pytest.approx(60)
    assert 0 < report["p50_ms"] <= report["p90_ms"] <= report["p99_ms"] <= report["p99.9_ms"] <= report["max_ms"]
    assert report["start_lag_p50_ms"] <= report["p50_ms"]
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert "achieved 60.0/s" in result.output
    calls = twinrank_server.calls
    assert len(calls) == 36
    assert len({call.peer for call in calls}) == 2
    assert {call.request.user_id for call in calls if isinstance(call.request, RecommendRequest)} <= {"1", "2", "3"}
    assert calls[0].request == RecommendRequest(
        user_id=calls[0].request.user_id,  # type: ignore[union-attr]
        placement="cart",
        page_size=4,
    )


def test_falling_short_of_the_rate_is_loud_and_exits_with_one(
    twinrank_server: FakeServer, users: Path, tmp_path: Path
) -> None:
    numbers = tmp_path / "load.json"
    twinrank_server.fail(grpc.StatusCode.RESOURCE_EXHAUSTED, times=5)
    options = f"--rate 50 --duration 0.4 --warm-up 0 --arrivals constant --json {numbers}"
    result = CliRunner().invoke(app, [twinrank_server.target, "--users", str(users), *options.split()])
    assert result.exit_code == 1
    assert "TOO SLOW" in result.output
    report = json.loads(numbers.read_text())
    # Not retried: an error is an error.
    assert report["by_status"] == {"OK": 15, "RESOURCE_EXHAUSTED": 5}
    assert report["errors"] == 5
    assert report["achieved_ratio"] == pytest.approx(0.75)


def test_a_terminal_sees_the_run_go_on(
    twinrank_server: FakeServer, users: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr("client.load_test.REFRESH_S", 0.05)
    options = "--rate 50 --duration 0.4 --warm-up 0 --arrivals poisson"
    result = CliRunner().invoke(app, [twinrank_server.target, "--users", str(users), *options.split()])
    assert result.exit_code == 0, result.output
    assert "in flight, 0 errors" in result.output


def test_no_server_exits_with_two_and_names_the_target(users: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.load.connection.CONNECT_TIMEOUT_S", 0.1)
    with FakeServer() as stopped:
        target = stopped.target
    result = CliRunner().invoke(app, [target, "--users", str(users)])
    assert result.exit_code == 2
    assert target in result.output


def test_another_machine_is_not_loaded_by_mistake(users: Path) -> None:
    result = CliRunner().invoke(app, ["192.0.2.1:50051", "--users", str(users)])
    assert result.exit_code == 2
    assert "--allow-remote" in result.output


@pytest.mark.parametrize(
    ("target", "loopback"),
    [
        ("127.0.0.1:50051", True),
        ("127.8.8.8:1", True),
        ("localhost:50051", True),
        ("[::1]:50051", True),
        ("dns:///localhost:50051", True),
        ("unix:/tmp/socket", True),
        ("10.0.0.1:50051", False),
        ("example.com:50051", False),
        ("localhost.example.com:50051", False),
        ("dns://192.0.2.1/localhost:50051", False),
        ("[2001:db8::1]:50051", False),
    ],
)
def test_loopback_targets_are_told_from_others(target: str, loopback: bool) -> None:
    assert is_loopback(target) is loopback
