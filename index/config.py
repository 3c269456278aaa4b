"""Which index is built, and how: one frozen model, the `[index]` block of a shop's TOML."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class IndexKind(StrEnum):
    """The kinds of index; every one of them memory-maps."""

    AUTO = "auto"
    """By size: int8_exact up to `exact_item_count_max` items, then ivf_int8."""
    EXACT = "exact"
    """Every item scored, in numpy."""
    INT8_EXACT = "int8_exact"
    """Every item scored in one byte a dimension, and in float32 what may be among the best: the fastest exact kind."""
    FLAT = "flat"
    """Every item scored, in FAISS."""
    IVF_INT8 = "ivf_int8"
    """Inverted lists of vectors in one byte a dimension, searched by compiled loops of our own."""
    IVF_FLAT = "ivf_flat"
    """Inverted lists of float32 vectors."""
    IVF_SQ8 = "ivf_sq8"
    """Inverted lists of vectors in one byte a dimension, searched by FAISS."""
    HNSW_FLAT = "hnsw_flat"
    """A graph over float32 vectors."""
    HNSW_SQ8 = "hnsw_sq8"
    """A graph over vectors in one byte a dimension."""

    @property
    def is_ivf(self) -> bool:
        """Whether nlist and nprobe apply."""
        return self in (IndexKind.IVF_INT8, IndexKind.IVF_FLAT, IndexKind.IVF_SQ8)

    @property
    def is_hnsw(self) -> bool:
        """Whether the graph's settings apply."""
        return self in (IndexKind.HNSW_FLAT, IndexKind.HNSW_SQ8)


class IndexDevice(StrEnum):
    """Where the index is trained and filled; it is always searched on the CPU."""

    AUTO = "auto"
    """The GPU when FAISS has one and the kind gains from it, else the CPU."""
    CPU = "cpu"
    GPU = "gpu"


class IndexConfig(BaseModel):
    """What decides an index. Sizes that are None are chosen from the number of items."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: IndexKind = IndexKind.AUTO
    device: IndexDevice = IndexDevice.AUTO
    exact_item_count_max: int = Field(default=50_000, ge=0)
    """Up to this many items `auto` searches exactly: exact search of 50,000 × 64 took numpy 0.17–0.27 ms."""

    list_count: int | None = Field(default=None, ge=1, le=2**20)
    """IVF: nlist. None: the power of two nearest to 4 √n (ivf_int8, whose centroids cost less: 8 √n), with at least 39
    training vectors a list."""
    probe_count: int | None = Field(default=None, ge=1, le=2**20)
    """IVF: nprobe. None: the smallest power of two from 8 that reaches `recall_min` on the tuning queries."""
    training_vectors_per_list: int = Field(default=64, ge=39, le=1024)
    """IVF: how many vectors k-means sees for each list; FAISS warns below 39."""

    link_count: int = Field(default=24, ge=2, le=256)
    """HNSW: M, the links of a node."""
    construction_effort: int = Field(default=200, ge=8, le=10_000)
    """HNSW: efConstruction, the candidates weighed for a new node's links."""
    search_effort: int | None = Field(default=None, ge=1, le=100_000)
    """HNSW: efSearch. None: the smallest power of two from 32 that reaches `recall_min` on the tuning queries."""

    recall_min: float = Field(default=0.95, gt=0, le=1)
    """The recall@`recall_k` that the search effort is tuned for."""
    recall_k: int = Field(default=200, ge=1, le=10_000)
    """As many candidates as the server retrieves."""
    tuning_query_count_max: int = Field(default=500, ge=1, le=100_000)
    """Queries of one recall measurement; 500 × 200 places give a standard error well below .01."""
    seed: int = Field(default=20_171_201, ge=0, le=2**31 - 1)
    """Of k-means and of every sample."""

    spare_rows_min: int = Field(default=1_000, ge=0)
    """Rows kept free in a generation for items that appear while it serves, at least: a small shop's whole season."""
    spare_rows_share: float = Field(default=0.02, ge=0, le=1)
    """The same as a share of the items, where that is more: on disk 600 bytes a row, in memory nothing until used."""


_TRAINING_VECTORS_PER_LIST_MIN = 39


def spare_row_count(config: IndexConfig, item_count: int) -> int:
    """Rows that a generation of so many items keeps free for new ones."""
    return max(config.spare_rows_min, round(config.spare_rows_share * item_count))


def resolve_kind(config: IndexConfig, item_count: int) -> IndexKind:
    """What `auto` stands for with this many items; any other kind is itself."""
    if config.kind is not IndexKind.AUTO:
        return config.kind
    return IndexKind.INT8_EXACT if item_count <= config.exact_item_count_max else IndexKind.IVF_INT8


def choose_list_count(config: IndexConfig, kind: IndexKind, item_count: int) -> int:
    """Nlist: as configured, or the power of two nearest to 4 √n or 8 √n that leaves k-means 39 vectors a list."""
    if config.list_count is not None:
        return config.list_count
    most = max(1, item_count // _TRAINING_VECTORS_PER_LIST_MIN)
    wanted = round((8 if kind is IndexKind.IVF_INT8 else 4) * item_count**0.5)
    power = 1
    while power * 1.5 < wanted and power * 2 <= most:
        power *= 2
    return power
