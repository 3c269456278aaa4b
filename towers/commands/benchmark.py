"""`python -m towers benchmark FILE`: a plain file through the whole pipeline, judged by what the server answers.

    load → train → rebuild → serve → ask for every user → figures

Leave-last-out reports the strict figures, and under `refit` those of the same ranker over towers and sources that
learned again with everything but the test items.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from towers.schema.plain import Protocol, read_plain_config

DEFAULTS = Path(__file__).parents[1] / "shops" / "benchmarks"


def benchmark(
    file: Annotated[Path, typer.Argument(help="Lines `user item item …`.")],
    protocol: Annotated[Protocol, typer.Option(help="How it is split into what is learned and what is asked.")],
    out: Annotated[Path | None, typer.Option("--json", help="Where to write the figures.")] = None,
    attributes: Annotated[Path | None, typer.Option(help="JSON: item → list of attribute ids.")] = None,
    test: Annotated[Path | None, typer.Option(help="Holdout: the lines that are asked for.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="Settings; default: the protocol's own in towers/shops/benchmarks.")
    ] = None,
    work_dir: Annotated[
        Path | None, typer.Option(help="Where the work lies; default: var/bench/quality/ and the file's name.")
    ] = None,
    only_load: Annotated[
        bool, typer.Option("--only-load", help="Write the dataset and a shop.toml for `towers tune`, and stop.")
    ] = False,
) -> None:
    """Measure a plain file; an interrupted run goes on where it stopped."""
    from towers.commands.benchmarking.run import BenchmarkRun
    from towers.ingest.plain import PlainFiles

    settings = read_plain_config(config or DEFAULTS / f"{protocol}.toml")
    files = PlainFiles(file, protocol, attributes, test)
    console = Console(soft_wrap=True)
    run = BenchmarkRun(files, settings, work_dir or Path("var/bench/quality") / file.stem, console.print)
    if only_load:
        console.print(f"loaded; its shop is {run.prepare()}")
        return
    if out is None:
        raise typer.BadParameter("missing: where to write the figures", param_hint="--json")
    figures = run.run()
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    run.forget()
    console.print(f"figures in {out}")
