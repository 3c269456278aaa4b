"""The whole report of the small shop: a page that stands alone, JSON without holes, words that say what figures say."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.conftest import SmallModel
from towers.__main__ import main
from towers.evaluation import split_by_time, target_interactions, train_log
from towers.evaluation.baselines import popularity
from towers.reporting import cold_items as cold_items_module
from towers.reporting import html, plots
from towers.reporting.lists import SOURCE_BIT_OF, RankedLists, lists_table, write_lists
from towers.reporting.measure import Answers, cutoffs, finite, judge, measure_all
from towers.reporting.page import render
from towers.reporting.splits import Split, split_of
from towers.reporting.verdict import verdict
from towers.schema import Dataset, load_dataset, read_shop_config
from towers.schema.dataset import AttributeNames


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit status of the command in this process."""
    monkeypatch.setattr(sys, "argv", ["towers", *arguments])
    with pytest.raises(SystemExit) as leaving:
        main()
    return leaving.value.code if isinstance(leaving.value.code, int) else 0


@pytest.fixture(scope="module")
def shop_file(small_model: SmallModel, small_shop_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small shop's config over the work directory in which its model lies."""
    folder = tmp_path_factory.mktemp("report")
    text = small_shop_config.read_text(encoding="utf-8")
    for name in ("events.csv", "items.csv", "users.csv"):
        text = text.replace(f'"{name}"', f'"{small_shop_config.parent / name}"')
    file = folder / "shop.toml"
    file.write_text(text.replace('"var/small"', f'"{small_model.config.shop.work_dir}"'), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def written(shop_file: Path) -> Path:
    """Where the report of the validation days lies."""
    with pytest.MonkeyPatch.context() as patch:
        assert run(patch, "report", str(shop_file), "--split", "validation", "--out", str(shop_file.parent)) == 0
    return shop_file.parent


@pytest.fixture(scope="module")
def figures(written: Path) -> dict[str, Any]:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    found: dict[str, Any] = json.loads((written / "report.json").read_text(encoding="utf-8"), parse_constant=refuse)
    return found


def test_the_page_is_well_formed_and_loads_nothing(written: Path) -> None:
    text = (written / "report.html").read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    assert "http" not in text
    assert not re.search(r"url\(|@import|<script|<link", text)
    for element in root.iter():
        for name in ("src", "href", "srcset", "data"):
            assert element.get(name, "#").startswith("#")
    ids = {element.get("id") for element in root.iter() if element.get("id")}
    links = {element.get("href", "")[1:] for element in root.iter("a")}
    assert links <= ids
    assert "viewport" in text
    assert "@media print" in text
    assert len(list(root.iter("svg"))) == 7  # four curves, exposure, calibration, users of few events


def test_the_json_holds_every_section(figures: dict[str, Any]) -> None:
    assert set(figures) == {
        "about", "verdict", "metrics", "significance", "curves", "slices", "lists", "calibration", "sources",
        "fairness", "cold_start",
    }  # fmt: skip
    about = figures["about"]
    assert (about["split"], about["lists"], about["days"]) == ("validation", "offline", 14.0)
    assert about["seen_in_training"]  # the published model has learned from the validation days too
    assert figures["curves"]["ks"][-1] == 100
    assert [entry["name"] for entry in figures["slices"]] == [
        "events before", "new or again", "popularity of the item", "category", "age_group", "city", "member_years",
    ]  # fmt: skip
    assert [row["source"] for row in figures["sources"]["all"]["ablation"]] == ["two_tower", "buy_again", "popular"]
    assert figures["cold_start"]["items"] is None
    assert {entry["attribute"] for entry in figures["fairness"]} == {"age_group", "city", "member_years"}


def test_the_curve_meets_the_table_and_slices_of_users_add_up(figures: dict[str, Any]) -> None:
    ours = figures["metrics"]["all"]["models"]["twinrank"]
    curves = figures["curves"]
    assert curves["metrics"]["ndcg"]["twinrank"][curves["ks"].index(20)] == ours["ndcg@20"]
    for entry in figures["slices"]:
        if entry["of"] == "users":
            groups = [group for group in entry["groups"] if group["users"]]
            assert sum(group["users"] for group in groups) == ours["users"]
            mean = sum(group["users"] * group["ndcg@20"] for group in groups) / ours["users"]
            assert mean == pytest.approx(ours["ndcg@20"])


def test_the_verdict_says_what_the_figures_say(figures: dict[str, Any]) -> None:
    said = figures["verdict"]
    assert said.startswith("Caution: the model has learned from the time that it is asked about here.")
    ours = figures["metrics"]["all"]["models"]["twinrank"]["ndcg@20"]
    assert f"Offline, on the validation split, the lists reach NDCG@20 {ours:.4f}" in said
    tests = [row for row in figures["significance"]["all"] if row["metric"] == "ndcg@20"]
    better = sum(row["significant"] and row["difference"] > 0 for row in tests)
    assert f"significantly better than {better} of {len(tests)} baselines" in said
    honest = figures | {"about": figures["about"] | {"seen_in_training": False}}
    assert "Caution" not in verdict(honest)


def test_served_lists_are_judged_instead(
    shop_file: Path, figures: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that answers what is popular is worth just what popularity is worth."""
    shop = read_shop_config(shop_file)
    dataset = load_dataset(shop.dataset_dir)
    split = split_of(shop, dataset, Split.VALIDATION)
    asked = split.evaluation_set
    lists = RankedLists.empty(asked.user_count, 30)
    lists.rows[:] = popularity(train_log(split)).recommend(asked.user_rows, 30, exclude_bought=False)
    lists.sources[lists.rows >= 0] = SOURCE_BIT_OF["popular"]
    file = tmp_path / "lists.parquet"
    write_lists(file, lists_table(dataset, asked, "all", lists, "g7"))
    arguments = ["--split", "validation", "--out", str(tmp_path), "--lists", str(file), "--no-ablation"]
    assert run(monkeypatch, "report", str(shop_file), *arguments) == 0
    served = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    about = served["about"]
    assert (about["lists"], about["generation"], about["list_length"]) == ("served", "g7", 28)
    ours, popular = (served["metrics"]["all"][group][name] for group, name in
                     (("models", "twinrank"), ("baselines", "popularity")))  # fmt: skip
    assert ours == popular
    before = figures["metrics"]["all"]["baselines"]["popularity"]
    assert ours["ndcg@20"] == before["ndcg@20"] > 0
    assert served["significance"]["all"][0] | {"p_holm": 1.0} == {
        "other": "popularity", "metric": "ndcg@20", "difference": 0.0, "ci": [0.0, 0.0], "p": 1.0, "p_holm": 1.0,
        "significant": False,
    }  # fmt: skip
    (source,) = served["sources"]["all"]["contribution"]
    assert (source["source"], source["shown_share"], source["hits_share"]) == ("popular", 1.0, 1.0)
    assert served["metrics"]["new"] is None  # the file does not answer that question
    assert served["sources"]["all"]["ablation"] is None
    assert served["sources"]["new"] is None
    assert "note" in served["calibration"]  # no scores in the file
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "there is only one source, or the report was asked to leave this out" in page


def test_lists_of_another_moment_are_one_line(
    shop_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "lists.json"
    file.write_text("[]")
    arguments = ["--split", "validation", "--out", str(tmp_path), "--lists", str(file), "--no-ablation"]
    assert run(monkeypatch, "report", str(shop_file), *arguments) == 1
    errors = capsys.readouterr().err
    assert "lists of question 'all' were asked at []" in errors
    assert "Traceback" not in errors


def test_what_cannot_be_reported_is_said(
    shop_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "report", str(shop_file)) == 1
    assert "there is no time left to test on; take the validation split" in capsys.readouterr().err
    assert run(monkeypatch, "report", str(shop_file), "--split", "validation", "--attribute", "taste") == 1
    assert "--attribute taste: the items have category, brand, colour, price" in capsys.readouterr().err


def test_sections_without_figures_say_so(figures: dict[str, Any]) -> None:
    poor = figures | {
        "metrics": {"all": figures["metrics"]["all"], "new": None},
        "significance": {"all": figures["significance"]["all"], "new": None},
        "calibration": {"note": "the lists hold no scores"},
        "sources": {"all": {"contribution": None, "ablation": None}, "new": None},
        "fairness": [],
        "cold_start": {"users": [], "items": None},
    }
    text = render(poor)
    for said in ("nobody bought anything new", "the lists hold no scores", "do not say where", "no groups to compare"):
        assert said in text
    ElementTree.fromstring(text)


def test_text_is_escaped() -> None:
    assert "<b>" not in html.table(["<b>"], [["<b>"]]) + html.note("<b>") + html.page("<b>", [])
    assert "<b>" not in plots.bars("<b>", ["<b>"], {"<b>": [1.0]}, "<b>")


def test_plots_are_drawn_to_scale() -> None:
    axis = plots.Axis(1, 100, 0, 200, logarithmic=True)
    assert [axis.at(value) for value in (1, 10, 100)] == pytest.approx([0, 100, 200])
    bars = ElementTree.fromstring(f"<p>{plots.bars('t', ['a', 'b'], {'x': [1.0, 0.5], 'y': [None, 0.25]}, '')}</p>")
    heights = [float(rect.get("height", "")) for rect in bars.iter("rect")]
    assert heights == pytest.approx([280.0, 140.0, 70.0], abs=0.1)
    line = plots.lines("t", [1, 10, 100], {"x": [0.0, None, 1.0]}, "k")
    assert '<polyline points="56.0,294.0 624.0,14.0"' in line
    assert plots.lines("t", [1, 2], {"x": [0.0, 0.0]}, "k")  # nothing above zero


def test_figures_become_what_json_can_hold() -> None:

    found = finite({"a": np.float64("nan"), 2: [np.int64(3), float("inf")], "b": (np.bool_(True), None, "x")})
    assert found == {"a": None, "2": [3, None], "b": [True, None, "x"]}
    json.dumps(found, allow_nan=False)


def test_a_ranker_that_learned_no_repeats_is_not_asked_for_any(shop_file: Path) -> None:
    """What such a shop's placements show: lists without what the user had, the baselines' too."""
    shop = read_shop_config(shop_file)
    dataset = load_dataset(shop.dataset_dir)
    learning = {"ranker": shop.ranker.model_copy(update={"repeats": False})}
    usual, hiding = (split_of(one, dataset, Split.VALIDATION) for one in (shop, shop.model_copy(update=learning)))
    assert not usual.evaluation_set.exclude_bought
    assert hiding.evaluation_set.exclude_bought
    assert (hiding.evaluation_set.relevant != usual.evaluation_set.relevant).nnz == 0  # what is right stays
    asked = hiding.evaluation_set
    lists = RankedLists.empty(asked.user_count, 100)
    lists.rows[:] = popularity(train_log(hiding)).recommend(asked.user_rows, 100, exclude_bought=True)
    judged, _ = judge(hiding, Answers(lists, None), lambda _: None)
    assert "decayed_frequency" not in judged.baselines
    assert judged.reports["twinrank"].mean("ndcg@20") == judged.reports["popularity"].mean("ndcg@20")


def test_lists_shorter_than_the_cutoff_are_refused() -> None:
    assert cutoffs(100)[-1] == 100
    assert cutoffs(60)[-1] == 50
    with pytest.raises(ValueError, match="hold 8 places at most; the report judges the first 20"):
        cutoffs(8)


def test_losses_are_told_for_both_questions(figures: dict[str, Any]) -> None:
    new = figures["sources"]["new"]
    assert new["ablation_of"] == figures["metrics"]["new"]["models"]["twinrank"]["ndcg@20"]
    again = next(row for row in new["ablation"] if row["source"] == "buy_again")
    assert again["loss"] == 0.0  # what was bought before may not be shown
    assert "buy_again" not in {row["source"] for row in new["contribution"]}
    sources = {"all": {"ablation": [_loss("a", 0.2, True), _loss("b", 0.1, False)]}, "new": {"ablation": []}}
    said = verdict(figures | {"sources": sources})
    assert "For all items, a is missed most: NDCG falls by 0.2000 without it, and not significantly without b." in said
    assert "For new items" not in said
    none = verdict(figures | {"sources": {"all": {"ablation": [_loss("b", 0.1, False)]}, "new": None}})
    assert "For all items, no source is missed significantly when it alone is left out." in none
    worse = [_loss("a", 0.2, True), _loss("b", -0.1, True), _loss("c", 0.0, False)]
    harmed = verdict(figures | {"sources": {"all": {"ablation": worse}, "new": {"ablation": worse[1:]}}})
    assert "without it, and not significantly without c. Without b alone NDCG would rise significantly." in harmed
    assert "For new items, no source is missed significantly when it alone is left out. Without b alone NDCG" in harmed
    unsure = [_loss("a", 0.3, False), _loss("b", 0.1, True)]
    assert "b is missed most" in verdict(figures | {"sources": {"all": {"ablation": unsure}, "new": None}})


def _loss(source: str, loss: float, significant: bool) -> dict[str, Any]:
    return {"source": source, "loss": loss, "significant": significant}


def test_a_shop_without_attributes_has_its_report(small_dataset: Dataset) -> None:
    nothing = AttributeNames(categorical=(), numeric=(), text=())
    meta = small_dataset.meta.model_copy(update={"item_attributes": nothing, "user_attributes": nothing})
    dataset = replace(small_dataset, meta=meta)
    split = split_by_time(
        target_interactions(dataset), train_end_s=dataset.meta.last_time_s - 20 * 86_400, item_users_min=1
    )
    lists = RankedLists.empty(split.evaluation_set.user_count, 20)
    lists.rows[:] = popularity(train_log(split)).recommend(split.evaluation_set.user_rows, 20, exclude_bought=False)
    vectors = np.eye(dataset.item_count, dtype=np.float32)
    found = measure_all(dataset, split, Answers(lists, None, {}, vectors), None, lambda _: None)
    assert found["lists"]["diversity_by"] == "vectors"
    assert found["lists"]["of"]["twinrank"]["diversity@20"] == pytest.approx(1.0)  # all items at right angles
    assert found["fairness"] == []
    assert [entry["name"] for entry in found["slices"]] == ["events before", "new or again", "popularity of the item"]
    bare = measure_all(dataset, split, Answers(lists, None), None, lambda _: None)
    assert bare["lists"]["diversity_by"] is None


def test_cold_items_come_from_a_training_without_them(
    shop_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cold_items_module, "WITHHELD_SHARE", 0.4)
    shorter = tmp_path / "shop.toml"  # the log before the moment is too short for two cuts
    shorter.write_text(shop_file.read_text(encoding="utf-8").replace("cuts = 2", "cuts = 1"), encoding="utf-8")
    arguments = ["--split", "validation", "--out", str(tmp_path), "--no-ablation"]
    assert run(monkeypatch, "report", str(shorter), *arguments, "--cold-start") == 0
    first = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    items = first["cold_start"]["items"]
    assert items["withheld"] == round(0.4 * first["about"]["candidates"])
    assert 0 < items["users"] <= first["about"]["users"]
    assert items["among_all"]["popularity"] < items["among_withheld"]["popularity"]
    # what was found is kept for later reports of the same moment
    assert run(monkeypatch, "report", str(shorter), *arguments) == 0
    again = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert again["cold_start"]["items"] == items
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "candidate items had all their events taken out of the log" in page
