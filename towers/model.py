"""A trained model: both towers, the ranker, and every vocabulary they read; as objects and as three files.

    model.json            settings, encoders, times, metrics
    towers.safetensors    weights of both towers
    ranker.safetensors    weights of the ranker

Weights are safetensors and never pickle, so that reading a model runs no code.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from towers.candidates import SOURCE_BITS
from towers.features.item_statistics import STATISTIC_NAMES
from towers.features.items import ItemEncoder
from towers.features.requests import REQUEST_FEATURES
from towers.features.vocabularies import Quantiles, Vocabulary
from towers.learning_data import Encoders
from towers.models.item_tower import ItemTower
from towers.models.ranker import Ranker, RankerShape
from towers.models.user_tower import UserTower
from towers.ranking import pair_input_names
from towers.schema import DataError
from towers.settings import LearningSettings

FORMAT_VERSION = 1
MODEL_FILE, TOWERS_FILE, RANKER_FILE = "model.json", "towers.safetensors", "ranker.safetensors"


class ModelInvalid(DataError, ValueError):
    """The files are no trained model that this code can read; the message names the file and what is wrong."""


class _ItemRecord(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    ids: tuple[str, ...]
    categorical: dict[str, tuple[str, ...]]
    numeric: dict[str, tuple[float, float]]
    text: tuple[str, ...]


class ModelRecord(BaseModel):
    """What model.json says.

    Attributes:
        feature_hash: hash of the names and order of all model inputs; a server with other features refuses the model.
        towers_until_s, ranker_until_s: events from then on were not learned from.
        metrics: what validation found, by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    format_version: int
    feature_hash: str
    settings: LearningSettings
    items: _ItemRecord
    user_vocabularies: dict[str, tuple[str, ...]]
    user_quantiles: dict[str, tuple[float, ...]]
    user_attributes: tuple[str, ...]
    contexts: dict[str, tuple[str, ...]]
    event_types: tuple[str, ...]
    target_event_types: tuple[str, ...]
    towers_until_s: int
    ranker_until_s: int
    metrics: dict[str, Any]


@dataclass(frozen=True)
class TrainedModel:
    """What training leaves and rebuild reads."""

    settings: LearningSettings
    encoders: Encoders
    item_tower: ItemTower
    user_tower: UserTower
    ranker: Ranker
    towers_until_s: int
    ranker_until_s: int
    metrics: dict[str, Any]

    @property
    def feature_hash(self) -> str:
        """Hash of every input's name and order."""
        return feature_hash(self.settings, self.encoders)

    def files(self) -> dict[str, bytes]:
        """The three files, by name."""
        encoders = self.encoders
        record = ModelRecord(
            format_version=FORMAT_VERSION,
            feature_hash=self.feature_hash,
            settings=self.settings,
            items=_ItemRecord(
                ids=encoders.items.ids.values,
                categorical={name: vocabulary.values for name, vocabulary in encoders.items.categorical.items()},
                numeric=dict(encoders.items.numeric),
                text=encoders.items.text,
            ),
            user_vocabularies={n: v.values for n, v in encoders.user_attributes.items() if isinstance(v, Vocabulary)},
            user_quantiles={n: v.edges for n, v in encoders.user_attributes.items() if isinstance(v, Quantiles)},
            user_attributes=tuple(encoders.user_attributes),
            contexts={name: vocabulary.values for name, vocabulary in encoders.contexts.items()},
            event_types=encoders.event_types,
            target_event_types=encoders.target_event_types,
            towers_until_s=self.towers_until_s,
            ranker_until_s=self.ranker_until_s,
            metrics=self.metrics,
        )
        towers = {f"item.{name}": value for name, value in self.item_tower.state_dict().items()}
        towers |= {f"user.{name}": value for name, value in self.user_tower.state_dict().items()}
        return {
            MODEL_FILE: record.model_dump_json(indent=1).encode(),
            TOWERS_FILE: save({name: value.contiguous() for name, value in towers.items()}),
            RANKER_FILE: save({name: value.contiguous() for name, value in self.ranker.state_dict().items()}),
        }

    def write(self, directory: Path) -> None:
        """Writes the files into a new directory beside `directory`, then puts it in its place."""
        beside, old = directory.with_name(directory.name + ".tmp"), directory.with_name(directory.name + ".old")
        for stale in (beside, old):
            shutil.rmtree(stale, ignore_errors=True)
        beside.mkdir(parents=True)
        for name, data in self.files().items():
            (beside / name).write_bytes(data)
        if directory.exists():
            os.replace(directory, old)
        os.replace(beside, directory)
        shutil.rmtree(old, ignore_errors=True)


def feature_hash(settings: LearningSettings, encoders: Encoders) -> str:
    """16 hex digits over the names and order of every input, so that code and weights cannot disagree unseen."""
    inputs = {
        "request": REQUEST_FEATURES,
        "item": STATISTIC_NAMES,
        "pair": pair_input_names(settings.features.affinity_attributes, settings.candidates.scored),
        "sources": SOURCE_BITS,
        "attributes": (*encoders.items.categorical, "|", *encoders.items.numeric, "|", *encoders.items.text),
        "user": tuple(encoders.user_attributes),
        "context": tuple(encoders.contexts),
        "events": encoders.event_types,
        "settings": settings.features.model_dump(mode="json"),
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]


def ranker_shape(settings: LearningSettings) -> RankerShape:
    """The ranker's input widths under the settings."""
    dimension = settings.towers.dimension
    return RankerShape(
        request=dimension + len(REQUEST_FEATURES),
        item=dimension + len(STATISTIC_NAMES),
        pair=len(pair_input_names(settings.features.affinity_attributes, settings.candidates.scored)),
        hidden=settings.ranker.hidden,
        vector=dimension,
        heads=settings.ranker.heads.on,
        dropout=settings.ranker.dropout,
    )


def read_model(directory: Path) -> TrainedModel:
    """Reads what `TrainedModel.write` wrote. Raises ModelInvalid."""
    if not directory.is_dir():
        raise ModelInvalid(f"no trained model at {directory}; run python -m towers train CONFIG")
    try:
        return model_from_files(
            {name: (directory / name).read_bytes() for name in (MODEL_FILE, TOWERS_FILE, RANKER_FILE)}
        )
    except OSError as error:
        raise ModelInvalid(f"{directory}: {error}") from error


def model_from_files(files: Mapping[str, bytes]) -> TrainedModel:
    """The model of the three files' contents. Raises ModelInvalid."""
    weights = {}
    for name in (TOWERS_FILE, RANKER_FILE):
        try:
            weights[name] = load(files[name])
        except SafetensorError as error:
            raise ModelInvalid(f"{name}: {error}") from error
    return _model(files[MODEL_FILE], weights)


def model_over(
    record_json: bytes, towers: Mapping[str, NDArray[Any]], ranker: Mapping[str, NDArray[Any]]
) -> TrainedModel:
    """The model whose weights are these writable arrays, such as those of mapped files; none is copied.

    Raises ModelInvalid.
    """
    files = {TOWERS_FILE: towers, RANKER_FILE: ranker}
    weights = {name: {key: torch.from_numpy(array) for key, array in arrays.items()} for name, arrays in files.items()}
    return _model(record_json, weights)


def _model(record_json: bytes, weights: Mapping[str, Mapping[str, Tensor]]) -> TrainedModel:
    try:
        record = ModelRecord.model_validate_json(record_json)
    except ValidationError as error:
        raise ModelInvalid(f"{MODEL_FILE}: {error}") from error
    if record.format_version != FORMAT_VERSION:
        raise ModelInvalid(f"{MODEL_FILE}: format_version {record.format_version}; this code reads {FORMAT_VERSION}")
    settings, encoders = record.settings, _encoders(record)
    expected = feature_hash(settings, encoders)
    if record.feature_hash != expected:
        raise ModelInvalid(f"{MODEL_FILE}: feature_hash {record.feature_hash}, but this code's features are {expected}")
    with _NoInitialValues():
        item_tower = ItemTower(encoders.item_shape, settings.towers.dimension, settings.towers.id_dropout)
        user_tower = UserTower(encoders.user_shape, settings.towers, settings.features)
        ranker = Ranker(ranker_shape(settings))
    _fill(nn.ModuleDict({"item": item_tower, "user": user_tower}), TOWERS_FILE, weights[TOWERS_FILE])
    _fill(ranker, RANKER_FILE, weights[RANKER_FILE])
    return TrainedModel(
        settings,
        encoders,
        item_tower.eval(),
        user_tower.eval(),
        ranker.eval(),
        record.towers_until_s,
        record.ranker_until_s,
        record.metrics,
    )


class _NoInitialValues(TorchFunctionMode):
    """Leaves weights as memory is: drawing what the file replaces is half of the time that a model takes to load."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        if getattr(func, "__module__", "") == nn.init.__name__ or func in (Tensor.normal_, Tensor.uniform_):
            return kwargs["tensor"] if kwargs and "tensor" in kwargs else args[0]
        return func(*args, **(kwargs or {}))


def _fill(module: nn.Module, name: str, weights: Mapping[str, Tensor]) -> None:
    """Takes over the weights as they are, without a copy."""
    for key, wanted in module.state_dict().items():
        if key in weights and weights[key].dtype != wanted.dtype:
            raise ModelInvalid(f"{name}: {key} is {weights[key].dtype}, not {wanted.dtype}")
    try:
        module.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise ModelInvalid(f"{name}: {error}") from error


def _encoders(record: ModelRecord) -> Encoders:
    strangers = set(record.target_event_types) - set(record.event_types)
    if strangers:
        raise ModelInvalid(f"{MODEL_FILE}: target_event_types {sorted(strangers)} are not among event_types")
    try:
        return Encoders(
            items=ItemEncoder(
                ids=Vocabulary(record.items.ids),
                categorical={name: Vocabulary(values) for name, values in record.items.categorical.items()},
                numeric=record.items.numeric,
                text=record.items.text,
            ),
            user_attributes={
                name: Vocabulary(record.user_vocabularies[name])
                if name in record.user_vocabularies
                else Quantiles(record.user_quantiles[name])
                for name in record.user_attributes
            },
            contexts={name: Vocabulary(values) for name, values in record.contexts.items()},
            event_types=record.event_types,
            target_event_types=record.target_event_types,
        )
    except KeyError as error:
        raise ModelInvalid(f"{MODEL_FILE}: user attribute {error} has neither vocabulary nor quantiles") from error
