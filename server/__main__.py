"""`python -m server [--config FILE] [--workers N]`: serves the current generation until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from pathlib import Path

from server.workers.forkserver import start_forkserver


def main() -> int:
    """The command; its result is the exit status."""
    parser = argparse.ArgumentParser(prog="python -m server", description=__doc__)
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file; see docs/configuration.md")
    parser.add_argument("--front", metavar="{grpcio,native}", help="overrides listen.front")
    parser.add_argument(
        "--workers", type=_count, metavar="N", help="worker processes; default: workers.count, else one a core"
    )
    arguments = parser.parse_args()
    if arguments.workers is not None and arguments.workers > 1:
        start_forkserver()  # at its imports while this process is at its own
    if arguments.front is not None:
        os.environ["TWINRANK_LISTEN__FRONT"] = arguments.front
    return _serve(arguments.config, arguments.workers)


def _serve(file: Path | None, worker_count: int | None) -> int:
    from index.generation import GenerationError
    from server.config import ConfigError, read_config

    try:
        config = read_config(file)
        worker_count = worker_count or config.workers.count or core_count()
        if worker_count > 1:
            start_forkserver()
            from server.loading import LOADING
            from server.workers.supervisor import supervise

            return supervise(config, LOADING, worker_count)
        from server.loading import loader, verified_ahead

        ahead = verified_ahead(config)  # at the checksums while this thread is at the imports
        gc.disable()  # imports make objects that stay; the collector would walk through them again and again
        from server.lifecycle import run

        load = loader(config, ahead)
        gc.enable()
        return run(config, load)
    except (ConfigError, GenerationError, RuntimeError, OSError) as error:
        print(f"server: {error}", file=sys.stderr)
        return 2


def core_count() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {count}")
    return count


if __name__ == "__main__":
    sys.exit(main())
