"""`python -m tests.benchmarks.quality DATA`: the public benchmarks, ours beside what others published.

Each dataset is a run of `python -m towers benchmark` with the settings of its protocol in towers/shops/benchmarks. A
file that is not there skips its dataset. What an interrupted run had done is not done again; a run that ended begins
anew.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

CONFIGS = Path("towers/shops/benchmarks")
PUBLISHED = Path(__file__).parent / "published.toml"


@dataclass(frozen=True)
class PublicDataset:
    """One dataset: its files under DATA, and its protocol, whose settings it is run with."""

    name: str
    lines: str
    protocol: str
    attributes: str | None = None
    test: str | None = None

    def files(self, data: Path) -> dict[str, Path]:
        """The files by the option that names them; the lines under ""."""
        named = {"": self.lines, "--attributes": self.attributes, "--test": self.test}
        return {option: data / file for option, file in named.items() if file is not None}


DATASETS = (
    PublicDataset(
        "amazon-beauty",
        "amazon-beauty/Beauty.txt",
        "leave-last-out",
        attributes="amazon-beauty/Beauty_item2attributes.json",
    ),
    PublicDataset("gowalla", "gowalla/train.txt", "holdout", test="gowalla/test.txt"),
)


def main(
    data: Annotated[Path, typer.Argument(help="The folder of the public files.")],
    only: Annotated[str | None, typer.Option(help="The name of one dataset; the others keep their figures.")] = None,
    work_dir: Annotated[Path, typer.Option(help="Where work and figures lie.")] = Path("var/bench"),
) -> None:
    """Runs every dataset whose files are there, and writes quality.json."""
    console = Console(soft_wrap=True, highlight=False)
    found = {}
    for dataset in DATASETS:
        if only in (None, dataset.name) and (figures := _measured(dataset, data, work_dir / "quality", console)):
            found[dataset.name] = figures
    if not found:
        raise SystemExit(f"no dataset was measured: {data} has none of their files")
    out = work_dir / "quality.json"
    before = json.loads(out.read_text(encoding="utf-8")) if only is not None and out.exists() else {}
    out.write_text(json.dumps(before | found, indent=1) + "\n", encoding="utf-8")
    for name, figures in found.items():
        console.print(table(name, figures, tomllib.loads(PUBLISHED.read_text(encoding="utf-8"))[name]))
    console.print(f"figures in {out}")
    for name in found:  # all of it is in quality.json: the next run begins anew
        _figures_file(work_dir / "quality", name).unlink()


def _figures_file(work: Path, name: str) -> Path:
    return work / f"{name}.json"


def _measured(dataset: PublicDataset, data: Path, work: Path, console: Console) -> dict[str, Any] | None:
    """The dataset's figures, from now or from the run that was interrupted; None without its files."""
    files = dataset.files(data)
    for path in files.values():
        if not path.exists():
            console.print(f"{dataset.name}: skipped, {path} is not there")
            return None
    out = _figures_file(work, dataset.name)
    if out.exists():
        console.print(f"{dataset.name}: measured already by the run that was interrupted")
    else:
        console.rule(dataset.name)
        arguments = [str(part) for option, path in files.items() for part in (option, path) if part]
        command = [sys.executable, "-m", "towers", "benchmark", *arguments, "--protocol", dataset.protocol]
        command += ["--config", str(CONFIGS / f"{dataset.protocol}.toml"), "--work-dir", str(work / dataset.name)]
        subprocess.run([*command, "--json", str(out)], check=True)
    figures: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return figures


def table(name: str, figures: dict[str, Any], published: dict[str, Any]) -> Table:
    """The published rows by the first metric, ours among them; `refit` is for scale, and compares with no row."""
    metrics = published["metrics"]
    drawn = Table(title=f"{name} ({figures['seconds']:.0f} s; published: {published['source']})", title_justify="left")
    for heading in ("who", *metrics):
        drawn.add_column(heading, justify="left" if heading == "who" else "right")
    ours = ["Twinrank, served", *(figures[metric] for metric in metrics)]
    for who, *values in sorted([*published["rows"], ours], key=lambda row: row[1]):
        drawn.add_row(who, *(f"{value:.4f}" for value in values), style="bold" if who == ours[0] else "")
    for key, who in (("offline", "the same, exact search"), ("refit", "refit, served")):
        if key in figures:
            drawn.add_row(who, *(f"{figures[key][metric]:.4f}" for metric in metrics), style="dim")
    return drawn


if __name__ == "__main__":
    typer.run(main)
