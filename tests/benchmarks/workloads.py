"""The workloads: how large each shop is, and where its generation lies.

W0 is the demo's own generation; the others are synthetic and made when first asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

BENCH_DIR = Path("var/bench")
"""Everything that the benchmarks write: generations, logs, results."""
SHOP_CONFIG = Path("towers/shops/complete_journey.toml")
"""Synthetic shops take the sizes of their towers, features, sources and ranker from the demo's configuration."""
RECALL_WANTED = 0.92
"""Recall@200 of IVF4096,SQ8 at nprobe 16 over a million items that are as hard as real ones; ± .03."""


@dataclass(frozen=True)
class Workload:
    """One shop.

    Attributes:
        list_count, probe_count: of the IVF,SQ8 whose recall says how hard the shop is to search; None: not asked. What
            is served has as many probes as RECALL_WANTED takes, so that shops of all sizes compare at equal recall.
    """

    name: str
    item_count: int
    user_count: int
    list_count: int
    probe_count: int | None

    @property
    def root(self) -> Path:
        """Where its generations lie."""
        return BENCH_DIR / self.name / "generations"


DEMO = "W0"
DEMO_ROOT = Path("var/demo/generations")
SYNTHETIC = {
    workload.name: workload
    for workload in (
        Workload("W10k", 10_000, 2_000, 256, None),  # for a try of the tool itself; no figure is quoted from it
        Workload("W100k", 100_000, 50_000, 1_024, None),
        Workload("W1M", 1_000_000, 50_000, 4_096, 16),
        Workload("W10M", 10_000_000, 50_000, 16_384, None),
    )
}


def generations_root(name: str) -> Path:
    """The generations of a workload, by its name."""
    return DEMO_ROOT if name == DEMO else SYNTHETIC[name].root
