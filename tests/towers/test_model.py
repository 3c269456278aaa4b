from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conftest import SmallModel
from towers import model as module
from towers.model import MODEL_FILE, RANKER_FILE, TOWERS_FILE, ModelInvalid, read_model
from towers.models.item_tower import ItemTower


@pytest.fixture
def model_dir(small_model: SmallModel, tmp_path: Path) -> Path:
    """A copy of the small shop's model, to tamper with."""
    return Path(shutil.copytree(small_model.model_dir, tmp_path / "model"))


def rewrite(model_dir: Path, change: Callable[[dict[str, Any]], object]) -> None:
    record = json.loads((model_dir / MODEL_FILE).read_bytes())
    change(record)
    (model_dir / MODEL_FILE).write_text(json.dumps(record))


def test_what_is_written_is_read_again_bit_for_bit(small_model: SmallModel, tmp_path: Path) -> None:
    model = read_model(small_model.model_dir)
    model.write(tmp_path / "deep" / "model")
    again = read_model(tmp_path / "deep" / "model")
    assert again.files() == model.files()
    assert again.encoders == model.encoders
    assert again.settings == model.settings == small_model.config.learning
    assert (again.towers_until_s, again.ranker_until_s) == (model.towers_until_s, model.ranker_until_s)
    assert not any(tower.training for tower in (again.item_tower, again.user_tower, again.ranker))


def test_a_table_that_is_read_is_not_drawn_before(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    untouched = []

    def tower(*arguments: Any) -> ItemTower:
        before = torch.random.get_rng_state()
        made = ItemTower(*arguments)
        untouched.append(torch.equal(before, torch.random.get_rng_state()))
        return made

    monkeypatch.setattr(module, "ItemTower", tower)
    read_model(model_dir)
    assert untouched == [True]


def test_a_model_replaces_the_one_before_and_leaves_nothing_beside(model_dir: Path) -> None:
    model = read_model(model_dir)
    (model_dir / "stale").write_text("of the model before")
    model.write(model_dir)
    assert sorted(path.name for path in model_dir.iterdir()) == [MODEL_FILE, RANKER_FILE, TOWERS_FILE]
    assert [path.name for path in model_dir.parent.iterdir()] == ["model"]


def test_a_missing_model_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(ModelInvalid, match=r"no trained model at .*nowhere; run python -m towers train CONFIG"):
        read_model(tmp_path / "nowhere")


@pytest.mark.parametrize("name", [MODEL_FILE, TOWERS_FILE, RANKER_FILE])
def test_a_missing_file_is_named(model_dir: Path, name: str) -> None:
    (model_dir / name).unlink()
    with pytest.raises(ModelInvalid, match=name):
        read_model(model_dir)


@pytest.mark.parametrize("name", [MODEL_FILE, TOWERS_FILE, RANKER_FILE])
@pytest.mark.parametrize("damage", ["cut off", "emptied", "another kind of file"])
def test_a_damaged_file_is_refused_by_name(model_dir: Path, name: str, damage: str) -> None:
    content = (model_dir / name).read_bytes()
    broken = {"cut off": content[:-7], "emptied": b"", "another kind of file": b"\x80\x04N."}[damage]
    (model_dir / name).write_bytes(broken)
    with pytest.raises(ModelInvalid, match=name):
        read_model(model_dir)


TAMPERINGS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "another format": (lambda record: record.update(format_version=9), "format_version 9; this code reads 1"),
    "another hash": (lambda record: record.update(feature_hash="0" * 16), "feature_hash 0{16}, but"),
    "an unknown key": (lambda record: record.update(surprise=1), "surprise"),
    "a missing key": (lambda record: record.pop("event_types"), "event_types"),
    "other features": (lambda record: record["settings"]["features"].update(user_id_buckets=17), "feature_hash"),
    "another order of events": (lambda record: record["event_types"].reverse(), "feature_hash"),
    "a context column less": (lambda record: record["contexts"].clear(), "feature_hash"),
    "a value out of range": (lambda record: record["settings"]["towers"].update(dimension=10**9), "dimension"),
    "heads that do not fit": (lambda record: record["settings"]["towers"].update(heads=5), "heads: 5 does not divide"),
    "an unknown goal": (lambda record: record.update(target_event_types=["theft"]), "'theft'.* not among event_types"),
    "an attribute without codes": (lambda record: record["user_vocabularies"].pop("city"), "'city' has neither"),
}


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_a_tampered_description_is_refused_and_named(model_dir: Path, tampering: str) -> None:
    change, message = TAMPERINGS[tampering]
    rewrite(model_dir, change)
    with pytest.raises(ModelInvalid, match=f"(?s){MODEL_FILE}.*{message}"):
        read_model(model_dir)


def test_weights_of_another_shape_are_refused_by_name(model_dir: Path) -> None:
    rewrite(model_dir, lambda record: record["settings"]["towers"].update(dimension=8))
    with pytest.raises(ModelInvalid, match=TOWERS_FILE):
        read_model(model_dir)


@pytest.mark.parametrize("name", [TOWERS_FILE, RANKER_FILE])
def test_weights_of_another_type_are_refused_by_name(model_dir: Path, name: str) -> None:
    tensors = load_file(model_dir / name)
    key = next(key for key, tensor in tensors.items() if tensor.dtype == torch.float32)
    save_file({**tensors, key: tensors[key].half()}, model_dir / name)
    with pytest.raises(ModelInvalid, match=f"{name}: .* is torch.float16, not torch.float32"):
        read_model(model_dir)


@pytest.mark.parametrize("name", [TOWERS_FILE, RANKER_FILE])
@pytest.mark.parametrize("change", ["missing", "unexpected"])
def test_a_tensor_too_few_or_too_many_is_refused(model_dir: Path, name: str, change: str) -> None:
    tensors = load_file(model_dir / name)
    if change == "missing":
        tensors.pop(sorted(tensors)[0])
    else:
        tensors["surprise"] = torch.zeros(1)
    save_file(tensors, model_dir / name)
    with pytest.raises(ModelInvalid, match=f"(?si){name}.*{change}"):
        read_model(model_dir)


@pytest.mark.parametrize(
    ("constant", "value"),
    [
        ("REQUEST_FEATURES", ("hour_sin",)),
        ("STATISTIC_NAMES", ("log_buyers", "trend")),
        ("SOURCE_BITS", (1, 2, 4)),
    ],
)
def test_a_model_of_other_features_is_refused(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch, constant: str, value: tuple[object, ...]
) -> None:
    monkeypatch.setattr(module, constant, value)
    with pytest.raises(ModelInvalid, match=f"{MODEL_FILE}: feature_hash .* but this code's features are"):
        read_model(model_dir)
