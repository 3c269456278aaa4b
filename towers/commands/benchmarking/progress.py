"""Which stages of a benchmark are done, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STATE_FILE = "benchmark.json"


@dataclass
class Stages:
    """Stages of one benchmark, each done once.

    Attributes:
        directory: where STATE_FILE lies. fingerprint: of all that the stages depend on; a state of another is ignored.
        say: prints a line.
    """

    directory: Path
    fingerprint: str
    say: Callable[[str], None]
    _done: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            state = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return
        if state.get("fingerprint") == self.fingerprint:
            self._done = state["done"]
            self.say(f"goes on after {', '.join(self._done)}")

    @property
    def _file(self) -> Path:
        return self.directory / STATE_FILE

    @property
    def seconds(self) -> float:
        """What all stages took, those of an interrupted run included."""
        return float(sum(stage["seconds"] for stage in self._done.values()))

    def once(self, name: str, work: Callable[[], Any]) -> Any:
        """What the stage gave (JSON-able), done now or before."""
        if name not in self._done:
            self.say(f"── {name}")
            began = time.monotonic()
            result = work()
            self._done[name] = {"seconds": time.monotonic() - began, "result": result}
            self._write()
        return self._done[name]["result"]

    def _write(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        beside = self._file.with_suffix(".tmp")
        beside.write_text(json.dumps({"fingerprint": self.fingerprint, "done": self._done}), encoding="utf-8")
        os.replace(beside, self._file)

    def forget(self) -> None:
        """The run is over: the next one begins anew."""
        self._file.unlink(missing_ok=True)


def fingerprint(files: list[Path], settings: str) -> str:
    """16 hex digits over the files' bytes and the settings."""
    digest = hashlib.sha256(settings.encode())
    for path in files:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
