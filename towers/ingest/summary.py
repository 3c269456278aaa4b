"""What an ingest did, as tables for a terminal."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.table import Table

from towers.ingest.run import IngestReport


def summary_table(report: IngestReport) -> RenderableType:
    """Draw the rows by source and fate, the quarantine by rule and the imputed cells by column."""
    meta = report.meta
    rows = Table(title=f"{meta.shop}: rows", title_justify="left")
    rows.add_column("source")
    for heading in ("read", "kept", "quarantined", "excluded"):
        rows.add_column(heading, justify="right")
    for name, counts in meta.sources.items():
        rows.add_row(name, *(f"{n:,}" for n in (counts.input, counts.kept, counts.quarantined, counts.excluded)))

    reasons = Table(title="quarantined by rule, imputed by column", title_justify="left")
    reasons.add_column("what")
    reasons.add_column("rows", justify="right")
    for name, counts in meta.sources.items():
        for rule, count in counts.quarantined_by_rule.items():
            reasons.add_row(f"{name}: {rule}", f"{count:,}")
    for column, count in meta.imputed.items():
        if count:
            reasons.add_row(f"imputed: {column}", f"{count:,}")

    first, last = (
        datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%d %H:%M") for t in (meta.first_time_s, meta.last_time_s)
    )
    line = (
        f"{meta.counts.rows:,} events of {meta.counts.users:,} users with {meta.counts.items:,} items, "
        f"{first} to {last} UTC, in {report.dataset_dir} ({report.seconds:.1f} s)"
    )
    return Group(rows, *([reasons] if reasons.row_count else []), line)
