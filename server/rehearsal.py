"""A rehearsal: a shop of two items is served once, so that every kernel is compiled, or loaded from where it is kept.

The forkserver does it before it forks. Machine code that a worker loads for itself is 50 MB that it shares with nobody
and a third of a second of its start; where nothing is kept yet, it is a quarter of a minute of each worker's time. The
shop is written to files and opened as any generation is, so that kernels meet arrays of the types that they will meet.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from safetensors.numpy import save_file

from index.int8_exact import Int8ExactSearcher
from index.item_ids import ItemIds
from index.storage import index_file_name, save_searcher
from server import list_wire, plain_requests, response_wire
from server.config_requests import default_placements
from server.domain import RecommendQuery, RepeatPolicy, Shopper
from server.engine import Engine
from server.fitness import ITEM_IDS_FILE, USER_IDS_FILE
from server.golden import write_golden
from server.model import open_serving_model
from server.serving_model import ServingModel
from server.state.packed import RECORD_DTYPE, item_hash
from server.state.recent import ShopperStates
from server.threads import compute_on_one_thread
from towers.candidates import ItemTable, code_counts
from towers.features.histories import Histories
from towers.features.item_statistics import STATISTIC_NAMES
from towers.features.items import ItemEncoder
from towers.features.vocabularies import Vocabulary
from towers.learning_data import Encoders, UserTable
from towers.model import TrainedModel, ranker_shape
from towers.models.item_tower import ItemTower
from towers.models.ranker import Ranker
from towers.models.user_tower import UserTower
from towers.recommender import ranker_item_part
from towers.settings import FeatureSettings, LearningSettings
from towers.snapshot import ITEMS_FILE, USERS_FILE, Snapshot

_ATTRIBUTE, _VALUES = "colour", ("green", "red")
_ITEM_IDS, _USER_IDS = ["apple", "pear"], ["anna"]
_NOW_S = 1_000_000


def warm() -> None:
    """Serves the shop once; does nothing where no temporary file can be written."""
    compute_on_one_thread()
    try:
        with TemporaryDirectory(prefix="twinrank-rehearsal-") as directory:
            _write(Path(directory))
            serving = open_serving_model(_Files(Path(directory)), examined=True)
            write_golden(serving, _USER_IDS, _ITEM_IDS, _NOW_S)
            _answer_with_states(serving)
            for kernels in (list_wire, response_wire, plain_requests):
                kernels.warm()
    except OSError:
        pass  # the first worker to start compiles for the others, or each loads for itself


def _answer_with_states(serving: ServingModel) -> None:
    """What golden queries do not meet: an event that the generation does not hold."""
    events = np.zeros(1, RECORD_DTYPE)
    events["item_hash"], events["time_s"], events["position_ms"] = item_hash(_ITEM_IDS[0]), _NOW_S - 1, 1.0
    states = ShopperStates(np.array([0, 1], np.int64), events, np.zeros(1), np.zeros(1, np.uint8))
    query = RecommendQuery("home", Shopper(_USER_IDS[0]), _NOW_S, len(_ITEM_IDS), RepeatPolicy.ALLOW)
    Engine(serving, default_placements()).answer([query], states)


@dataclass(frozen=True)
class _Files:
    """The shop's files, as a generation's are read."""

    directory: Path
    id: str = "rehearsal"

    @property
    def names(self) -> Collection[str]:
        """Of the files."""
        return [path.name for path in self.directory.iterdir()]

    def path(self, name: str) -> Path:
        """Where the file lies."""
        return self.directory / name


def _write(directory: Path) -> None:
    """One shopper, who bought both items."""
    model, item_count = _model(), len(_ITEM_IDS)
    vectors = np.eye(item_count, model.settings.towers.dimension, dtype=np.float32)
    codes = np.arange(1, item_count + 1, dtype=np.int32)[:, None]
    statistics = np.zeros((item_count, len(STATISTIC_NAMES)), np.float32)
    rows, all_of_them = np.arange(item_count, dtype=np.int32), np.ones(item_count, np.bool_)
    items = ItemTable(vectors, statistics, codes, code_counts(codes), rows, all_of_them)
    histories = Histories.from_events(
        user_row=np.zeros(item_count, np.int32),
        item_row=rows,
        event_type=np.zeros(item_count, np.uint8),
        time_s=np.full(item_count, _NOW_S - 86_400, np.int64),
        user_count=len(_USER_IDS),
        target_types=model.encoders.target_codes,
    )
    users = UserTable(np.ones(len(_USER_IDS), np.int32), np.ones((len(_USER_IDS), 1), np.int32))
    snapshot = Snapshot(items, ranker_item_part(model.ranker, items), histories, users)
    searcher = Int8ExactSearcher.of(vectors)
    for name, data in model.files().items():
        (directory / name).write_bytes(data)
    save_file(snapshot.item_arrays(), directory / ITEMS_FILE)
    save_file(snapshot.user_arrays(), directory / USERS_FILE)
    (directory / ITEM_IDS_FILE).write_bytes(ItemIds.from_ids(_ITEM_IDS).to_bytes())
    (directory / USER_IDS_FILE).write_bytes(ItemIds.from_ids(_USER_IDS).to_bytes())
    save_searcher(searcher, directory / index_file_name(searcher))


def _model() -> TrainedModel:
    """Of random weights, with one of everything that a model can have."""
    features = FeatureSettings(affinity_attributes=(_ATTRIBUTE,), user_id_buckets=1)
    settings = LearningSettings(features=features)
    values = Vocabulary(_VALUES)
    encoders = Encoders(
        items=ItemEncoder(ids=Vocabulary(()), categorical={_ATTRIBUTE: values}, numeric={}, text=()),
        user_attributes={_ATTRIBUTE: values},
        contexts={_ATTRIBUTE: values},
        event_types=("purchase",),
        target_event_types=("purchase",),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        item_tower = ItemTower(encoders.item_shape, settings.towers.dimension, settings.towers.id_dropout)
        user_tower = UserTower(encoders.user_shape, settings.towers, settings.features)
        ranker = Ranker(ranker_shape(settings))
    return TrainedModel(settings, encoders, item_tower.eval(), user_tower.eval(), ranker.eval(), _NOW_S, _NOW_S, {})
