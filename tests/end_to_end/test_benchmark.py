"""`python -m towers benchmark` over made files of both formats: the real command, the real server, in a minute."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from towers.__main__ import main
from towers.commands.benchmarking.run import BenchmarkRun
from towers.schema import load_dataset, read_shop_config
from towers.schema.plain import Protocol, read_plain_config

pytestmark = pytest.mark.timeout(300)  # servers start in it, on machines that may be busy
GROUPS, ITEMS_IN_GROUP, USERS = 6, 20, 200
SMALL = """
[plain]
ranker_share = 0.25
validation_share = 0.2
[features]
sequence_events_max = 10
user_id_buckets = 64
[towers]
dimension = 16
encoder = "mean"
epochs_max = 6
batch_size = 64
uniform_negatives = 60
id_dropout = 0.5
learning_rate = 0.02
[candidates]
two_tower = 40
popular = 20
buy_again = 0
item_item = 60
[ranker]
repeats = false
cuts = 1
epochs_max = 12
patience = 4
hidden = [16, 8]
batch_size = 512
learning_rate = 0.02
[training]
threads = 1
device = "cpu"
"""


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A directory with 200 users who each keep to one of six groups of items, as sequences and as sets."""
    generator = np.random.default_rng(3)
    sequences, train, test = [], [], []
    for user in range(USERS):
        group, count = int(generator.integers(GROUPS)), int(generator.integers(6, 12))
        items = [f"i{group * ITEMS_IN_GROUP + int(place)}" for place in generator.permutation(ITEMS_IN_GROUP)[:count]]
        sequences.append(" ".join([f"u{user}", *items]))
        train.append(" ".join([f"u{user}", *items[:-2]]))
        test.append(" ".join([f"u{user}", *items[-2:]]))
    for name, lines in (("sequences", sequences), ("train", train), ("test", test)):
        (tmp_path / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    attributes = {f"i{item}": [item // ITEMS_IN_GROUP] for item in range(GROUPS * ITEMS_IN_GROUP)}
    (tmp_path / "attributes.json").write_text(json.dumps(attributes), encoding="utf-8")
    (tmp_path / "small.toml").write_text(SMALL, encoding="utf-8")
    return tmp_path


def benchmark(monkeypatch: pytest.MonkeyPatch, made: Path, *arguments: str) -> dict[str, Any]:
    """What the command writes."""
    out = made / "out.json"
    settings = ["--config", str(made / "small.toml"), "--work-dir", str(made / "work"), "--json", str(out)]
    monkeypatch.setattr(sys, "argv", ["towers", "benchmark", *arguments, *settings])
    with pytest.raises(SystemExit) as leaving:
        main()
    assert not leaving.value.code
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found


def by_chance(k: int) -> float:
    """Recall of lists that know nothing."""
    return k / (GROUPS * ITEMS_IN_GROUP)


def test_leave_last_out_from_lines_to_figures(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = made / "sequences.txt"
    arguments = [str(lines), "--attributes", str(made / "attributes.json"), "--protocol", "leave-last-out"]
    figures = benchmark(monkeypatch, made, *arguments)
    assert figures["users"] == USERS
    assert figures["items"] == GROUPS * ITEMS_IN_GROUP
    assert figures["seconds"] > 0
    for found in (figures, figures["refit"]):
        assert found["recall@10"] > 3 * by_chance(10)  # who knows the group finds 10 of the at most 15 left
        assert found["recall@20"] > 3 * by_chance(20)
        assert found["ndcg@20"] > found["ndcg@10"] > 0
        for metric, value in found["offline"].items():
            assert found[metric] == pytest.approx(value, rel=0.01)
    assert not (made / "work" / "benchmark.json").exists()  # a run that ended begins anew


def test_holdout_goes_on_where_it_was_interrupted(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(run: BenchmarkRun, name: str) -> None:
        raise KeyboardInterrupt

    arguments = [str(made / "train.txt"), "--test", str(made / "test.txt"), "--protocol", "holdout"]
    with monkeypatch.context() as patched:
        patched.setattr(BenchmarkRun, "_serve", interrupted)
        with pytest.raises(AssertionError):  # a status that is not 0
            benchmark(monkeypatch, made, *arguments)
    capsys.readouterr()
    figures = benchmark(monkeypatch, made, *arguments)
    said = capsys.readouterr().out
    assert "goes on after load, train" in said
    assert "── train" not in said
    assert set(figures) >= {"recall@20", "ndcg@20", "offline", "seconds", "users"}
    assert "recall@10" not in figures
    assert figures["recall@20"] > 1.5 * by_chance(20)
    assert figures["recall@20"] == pytest.approx(figures["offline"]["recall@20"], rel=0.01)
    assert not (made / "work" / "benchmark.json").exists()  # a run that ended begins anew

    # Another test file over the model that is there: the figures move, and what is learned from does not.
    dataset = (made / "work" / "dataset" / "events.parquet").read_bytes()
    (made / "test.txt").write_text("u0 nowhere\nu1 nowhere else\nstranger i1\n", encoding="utf-8")
    monkeypatch.setattr(BenchmarkRun, "_train", lambda run: None)
    figures = benchmark(monkeypatch, made, *arguments)
    assert (figures["users"], figures["recall@20"], figures["ndcg@20"]) == (2, 0, 0)
    assert figures["held_out_items_not_in_the_catalogue"] == 2
    assert figures["left_out"] == {"user_without_train": 1}
    assert (made / "work" / "dataset" / "events.parquet").read_bytes() == dataset


def test_only_loaded_it_is_a_shop_for_the_other_commands(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [str(made / "sequences.txt"), "--protocol", "leave-last-out", "--only-load"]
    (made / "out.json").write_text("{}", encoding="utf-8")
    assert benchmark(monkeypatch, made, *arguments) == {}  # no figures yet
    settings, work = read_plain_config(made / "small.toml"), made / "work"
    shop = read_shop_config(work / "shop.toml")
    assert shop == settings.shop(made / "sequences.txt", None, Protocol.LEAVE_LAST_OUT, work)
    assert load_dataset(shop.dataset_dir).user_count == USERS


def test_what_the_protocol_fixes_cannot_be_set(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (made / "small.toml").write_text("[training]\nitem_users_min = 5\n", encoding="utf-8")
    with pytest.raises(AssertionError):
        benchmark(monkeypatch, made, str(made / "sequences.txt"), "--protocol", "leave-last-out")
    assert "[training] item_users_min: 5, but the protocol leave-last-out fixes it at 0" in capsys.readouterr().err
