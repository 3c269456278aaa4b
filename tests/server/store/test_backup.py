"""A backup of a living store is whole, is compared with its checksums, and never overwrites anything."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from server.store.backup import CONTENTS_NAME, BackupError, back_up, restore, verify
from server.store.errors import StoreUnavailable
from tests.server.store.stores import client_of, embedded


def command(*arguments: str, directory: Path) -> subprocess.CompletedProcess[str]:
    config = directory.parent / "server.toml"
    config.write_text(f'[store]\ndirectory = "{directory}"\n')
    return subprocess.run(
        [sys.executable, "-m", "server.store", "--config", str(config), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def backup(directory: Path, tmp_path: Path) -> Path:
    target = tmp_path / "backups" / "one"
    with embedded(directory) as store, client_of(store.address) as client:
        for number in range(100):
            client.xadd("stream", {"e": f"event-{number}"})
        client.set("state", b"\x00\xff binary")
        back_up(directory, target)
    return target


def test_a_backup_restored_elsewhere_holds_the_same(backup: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    restore(backup, elsewhere)
    with embedded(elsewhere) as store, client_of(store.address) as client:
        assert client.xlen("stream") == 100
        assert client.get("state") == b"\x00\xff binary"


def test_a_backup_under_writes_holds_a_prefix_with_all_from_before(directory: Path, tmp_path: Path) -> None:
    with embedded(directory) as store, client_of(store.address) as client:
        stopping, begun = threading.Event(), threading.Event()

        def write() -> None:
            with client_of(store.address) as writer:
                while not stopping.is_set():
                    if writer.rpush("list", writer.llen("list")) > 100:
                        begun.set()

        thread = threading.Thread(target=write)
        thread.start()
        try:
            assert begun.wait(20)
            before = client.llen("list")
            back_up(directory, tmp_path / "backup")
            after = client.llen("list")
        finally:
            stopping.set()
            thread.join()
        assert client.config_get("auto-aof-rewrite-percentage")["auto-aof-rewrite-percentage"] == "100"
    elsewhere = tmp_path / "elsewhere"
    restore(tmp_path / "backup", elsewhere)
    with embedded(elsewhere) as store, client_of(store.address) as client:
        values: list[Any] = client.lrange("list", 0, -1)
        assert before <= len(values) <= after
        assert [int(value) for value in values] == list(range(len(values)))


@pytest.mark.parametrize("damage", ["flipped", "cut", "missing", "no contents"])
def test_a_backup_that_is_not_whole_is_refused(backup: Path, tmp_path: Path, damage: str) -> None:
    victim = next(path for path in backup.iterdir() if path.name.endswith(".rdb"))
    content = bytearray(victim.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
        victim.write_bytes(content)
    elif damage == "cut":
        victim.write_bytes(content[:-1])
    elif damage == "missing":
        victim.unlink()
    else:
        victim = backup / CONTENTS_NAME
        victim.unlink()
    with pytest.raises(BackupError, match=victim.name):
        verify(backup)
    with pytest.raises(BackupError, match=victim.name):
        restore(backup, tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere" / "appendonlydir").exists()


def test_a_restore_never_overwrites_data(backup: Path, directory: Path) -> None:
    with pytest.raises(BackupError, match="holds data"):
        restore(backup, directory)


def test_a_restore_into_a_running_store_is_refused(backup: Path, tmp_path: Path) -> None:
    running = tmp_path / "running"
    with embedded(running), pytest.raises(BackupError, match="is running"):
        restore(backup, running)


def test_a_backup_never_overwrites_another(backup: Path, directory: Path) -> None:
    with embedded(directory), pytest.raises(BackupError, match="not an empty directory"):
        back_up(directory, backup)


def test_a_store_that_is_down_cannot_be_backed_up(backup: Path, directory: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        back_up(directory, tmp_path / "two")
    assert not (tmp_path / "two").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".two")] == []


def test_the_commands_for_operators(directory: Path, tmp_path: Path) -> None:
    with embedded(directory) as store, client_of(store.address) as client:
        client.set("key", "value")
        status = command("status", directory=directory)
        assert status.returncode == 0, status.stderr
        assert "state       up" in status.stdout
        assert "every_second" in status.stdout
        made = command("backup", str(tmp_path / "backup"), directory=directory)
        assert made.returncode == 0, made.stderr
        assert command("restore", str(tmp_path / "backup"), directory=directory).returncode == 1
    assert command("status", directory=directory).returncode == 1
    (directory / "appendonlydir").rename(tmp_path / "lost")
    restored = command("restore", str(tmp_path / "backup"), directory=directory)
    assert restored.returncode == 0, restored.stderr
    with embedded(directory) as store, client_of(store.address) as client:
        assert client.get("key") == b"value"


def test_an_external_store_is_backed_up_by_other_means(tmp_path: Path) -> None:
    config = tmp_path / "server.toml"
    config.write_text('[store]\nmode = "external"\nurl = "valkey://localhost:1/0"\n')
    refused = subprocess.run(
        [sys.executable, "-m", "server.store", "--config", str(config), "backup", str(tmp_path / "backup")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert refused.returncode == 2
    assert "snapshots" in refused.stderr
