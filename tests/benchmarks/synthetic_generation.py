"""Writes a synthetic shop as a generation like any other, so that the server needs to know nothing of it.

`python -m tests.benchmarks.synthetic_generation W1M` makes it anew and prints how hard it is to search.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors.numpy import save_file

from index.build import BuildReport, build_searcher
from index.commands.rebuild import Unpublished, attribute_table
from index.config import IndexConfig, IndexKind, spare_row_count
from index.exact import ExactSearcher
from index.faiss_searcher import FaissSearcher
from index.filters.attributes import ATTRIBUTES_FILE, VOCABULARIES_FILE
from index.generation import GenerationWriter, set_current
from index.generation.pointer import current_id
from index.int8_lists import Int8ListsSearcher
from index.item_ids import ItemIds
from index.recall import recall_at_k
from index.storage import index_file_name, save_searcher
from server.fitness import CATALOGUE_FILE, ITEM_IDS_FILE, USER_IDS_FILE
from server.golden import GOLDEN_FILE, write_golden
from server.model import open_serving_model
from tests.benchmarks.synthetic_model import ATTRIBUTE_VALUES, USER_ATTRIBUTE_VALUES, attribute_value, make_model
from tests.benchmarks.synthetic_shop import AS_OF_S, HISTORY_EVENTS, SEED, SyntheticShop, make_shop
from tests.benchmarks.workloads import RECALL_WANTED, SHOP_CONFIG, SYNTHETIC, Workload
from towers.candidates import ItemTable, code_counts
from towers.features.histories import Histories
from towers.features.item_statistics import STATISTIC_NAMES
from towers.features.vocabularies import user_buckets
from towers.item_table import POPULAR_MAX
from towers.learning_data import UserTable
from towers.model import TrainedModel
from towers.recommender import Shoppers, UserEmbedder, ranker_item_part
from towers.schema import ShopConfig, read_shop_config
from towers.schema.dataset import AttributeNames
from towers.snapshot import ITEMS_FILE, USERS_FILE, Snapshot

RECALL_QUERIES = 500
COVERAGE_QUERIES = 10_000
REPORT_FILE = "report.json"


@dataclass(frozen=True)
class Hardness:
    """How hard the shop is to search, for queries that its user tower makes.

    Attributes:
        recall_at_200: of the index as it is served, with list_count lists of which a query looks into probe_count.
        sq8_recall_at_200: of IVF,SQ8 with the workload's lists and probes, where it names both: how hard the shop is.
        sq8_lists_touched_share: share of those lists that some query of `query_count` looks into.
    """

    recall_at_200: float
    list_count: int
    probe_count: int
    sq8_recall_at_200: float | None
    sq8_lists_touched_share: float | None
    query_count: int
    made_s: float


def ensure_generation(workload: Workload) -> Path:
    """Makes the workload's generation unless it is there; returns its root."""
    if current_id(workload.root) is None:
        publish(workload)
    return workload.root


def publish(workload: Workload) -> Hardness:
    """Makes the generation and points CURRENT at it."""
    started = time.monotonic()
    config = read_shop_config(SHOP_CONFIG)
    model = make_model(config)
    shop = make_shop(workload.item_count, workload.user_count)
    user_ids = [f"u{row:07d}" for row in range(workload.user_count)]
    snapshot, attributes = _snapshot(shop, config, model, user_ids)
    queries = user_vectors(model, snapshot, COVERAGE_QUERIES)
    index_config = IndexConfig(kind=IndexKind.IVF_INT8, probe_count=1)
    searcher, report = build_searcher(shop.vectors, index_config, queries[:RECALL_QUERIES])
    assert isinstance(searcher, Int8ListsSearcher)
    recall = _set_probes(searcher, shop.vectors, queries[:RECALL_QUERIES])
    with GenerationWriter(workload.root) as writer:
        for name, data in model.files().items():
            writer.add_bytes(name, data)
        spare = spare_row_count(IndexConfig(), workload.item_count)
        save_file(snapshot.item_arrays(spare), writer.path(ITEMS_FILE))
        save_file(snapshot.user_arrays(), writer.path(USERS_FILE))
        item_ids = [f"i{row:08d}" for row in range(workload.item_count)]
        writer.add_bytes(ITEM_IDS_FILE, ItemIds.from_ids(item_ids).to_bytes())
        writer.add_bytes(USER_IDS_FILE, ItemIds.from_ids(user_ids).to_bytes())
        items = catalogue(item_ids, attributes)
        items.write_parquet(writer.path(CATALOGUE_FILE))
        names = AttributeNames(categorical=tuple(attributes), numeric=(), text=())
        attribute_table(items, names, spare).save(writer.path(ATTRIBUTES_FILE), writer.path(VOCABULARIES_FILE))
        save_searcher(searcher, writer.path(index_file_name(searcher)))
        golden = writer.path(GOLDEN_FILE)
        serving = open_serving_model(Unpublished(golden.parent))
        golden.write_bytes(write_golden(serving, user_ids[:12], item_ids[:12], float(AS_OF_S)))
        generation_id = writer.publish(_metadata(workload, model, snapshot, report, searcher.probe_count, recall))
    set_current(workload.root, generation_id)
    sq8_recall, touched = _against_sq8(workload, shop.vectors, queries)
    hardness = Hardness(
        recall_at_200=recall,
        list_count=searcher.list_count,
        probe_count=searcher.probe_count,
        sq8_recall_at_200=sq8_recall,
        sq8_lists_touched_share=touched,
        query_count=len(queries),
        made_s=time.monotonic() - started,
    )
    (workload.root.parent / REPORT_FILE).write_text(json.dumps(asdict(hardness), indent=1))
    return hardness


def _snapshot(
    shop: SyntheticShop, config: ShopConfig, model: TrainedModel, user_ids: list[str]
) -> tuple[Snapshot, dict[str, NDArray[np.int32]]]:
    random = np.random.default_rng(SEED + 1)
    attributes = attribute_codes(shop, random)
    affinity = np.stack([attributes[name] for name in config.features.affinity_attributes], axis=1)
    items = ItemTable(
        vectors=shop.vectors,
        statistics=_statistics(shop, random),
        affinity=affinity,
        affinity_counts=code_counts(affinity),
        popular=np.argsort(-shop.popularity, kind="stable")[:POPULAR_MAX].astype(np.int32),
        retrievable=np.ones(len(shop.vectors), np.bool_),
    )
    histories = Histories(
        offsets=np.arange(len(user_ids) + 1, dtype=np.int64) * HISTORY_EVENTS,
        item_row=shop.item_row,
        event_type=np.zeros(len(shop.item_row), np.uint8),
        time_s=shop.time_s,
        target_types=(0,),
    )
    width = len(model.encoders.user_attributes)
    users = UserTable(
        user_buckets(user_ids, config.features.user_id_buckets),
        random.integers(0, USER_ATTRIBUTE_VALUES + 1, (len(user_ids), width)).astype(np.int32),
    )
    return Snapshot(items, ranker_item_part(model.ranker, items), histories, users), attributes


def attribute_codes(shop: SyntheticShop, random: np.random.Generator) -> dict[str, NDArray[np.int32]]:
    """(n,) codes of each attribute of the items."""
    return {name: _codes(shop, count, random) for name, count in ATTRIBUTE_VALUES.items()}


def _codes(shop: SyntheticShop, value_count: int, random: np.random.Generator) -> NDArray[np.int32]:
    """(n,) codes from 1: a cluster's items share most values, and one in ten is of another."""
    own = shop.cluster % value_count
    other = random.integers(0, value_count, len(own))
    return (np.where(random.random(len(own)) < 0.9, own, other) + 1).astype(np.int32)


def _statistics(shop: SyntheticShop, random: np.random.Generator) -> NDArray[np.float32]:
    """(n, S) numbers of the size of a shop's own, standardised; the first follows popularity."""
    values = random.standard_normal((len(shop.popularity), len(STATISTIC_NAMES)), np.float32)
    values[:, 0] = np.log1p(shop.popularity)
    return values


def catalogue(item_ids: list[str], attributes: dict[str, NDArray[np.int32]]) -> pl.DataFrame:
    """The items' table: ids and attributes as texts."""
    columns: dict[str, Any] = {"item_id": item_ids}
    for name, codes in attributes.items():
        values = pl.Series([attribute_value(name, code) for code in range(int(codes.max()) + 1)])
        columns[name] = values.gather(codes)
    return pl.DataFrame(columns)


def user_vectors(model: TrainedModel, snapshot: Snapshot, count_max: int) -> NDArray[np.float32]:
    """(q, D) what the user tower makes of the first users' histories."""
    settings = model.settings.features
    embedder = UserEmbedder(model.user_tower, snapshot.items.vectors, settings.sequence_events_max)
    parts = []
    for start in range(0, min(count_max, snapshot.histories.user_count), 500):
        rows = np.arange(start, min(start + 500, count_max, snapshot.histories.user_count), dtype=np.int32)
        as_of_s = np.full(len(rows), AS_OF_S, np.int64)
        shoppers = Shoppers.of(
            snapshot.histories.batch(rows, as_of_s, settings.history_events_max),
            snapshot.users.bucket[rows],
            snapshot.users.attribute[rows],
            np.zeros((len(rows), 0), np.int32),
        )
        parts.append(embedder.embed(shoppers).vectors)
    return np.concatenate(parts)


def _set_probes(searcher: Int8ListsSearcher, vectors: NDArray[np.float32], queries: NDArray[np.float32]) -> float:
    """Sets the fewest probes whose recall@200 reaches RECALL_WANTED, and returns the recall."""
    exact_scores, _ = ExactSearcher(vectors).search(queries, 200)
    recall = 0.0
    for probe_count in range(1, searcher.list_count + 1):
        searcher.probe_count = probe_count
        recall = recall_at_k(searcher, vectors, queries, exact_scores)
        if recall >= RECALL_WANTED:
            break
    return recall


def _against_sq8(
    workload: Workload, vectors: NDArray[np.float32], queries: NDArray[np.float32]
) -> tuple[float | None, float | None]:
    """Recall@200 of IVF,SQ8 of FAISS with the workload's lists and probes, and the share of lists touched."""
    if workload.probe_count is None:
        return None, None
    config = IndexConfig(
        kind=IndexKind.IVF_SQ8, list_count=workload.list_count, probe_count=workload.probe_count, recall_k=200
    )
    searcher, report = build_searcher(vectors, config, queries[:RECALL_QUERIES])
    assert isinstance(searcher, FaissSearcher)
    ivf = faiss.extract_index_ivf(searcher.index)
    _, lists = faiss.downcast_index(ivf.quantizer).search(queries, ivf.nprobe)
    return report.recall, len(np.unique(lists)) / workload.list_count


def _metadata(
    workload: Workload, model: TrainedModel, snapshot: Snapshot, report: BuildReport, probe_count: int, recall: float
) -> dict[str, Any]:
    return {
        "as_of_s": AS_OF_S,
        "feature_hash": model.feature_hash,
        "item_count": workload.item_count,
        "retrievable_count": snapshot.retrievable_count,
        "user_count": workload.user_count,
        "event_count": len(snapshot.histories.item_row),
        "dimension": model.settings.towers.dimension,
        "index": asdict(report) | {"recall": recall, "probe_count": probe_count},
        "metrics": model.metrics,
        "synthetic": True,
    }


if __name__ == "__main__":
    print(json.dumps(asdict(publish(SYNTHETIC[sys.argv[1]])), indent=1))
