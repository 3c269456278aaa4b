"""The prequential replay: every household-day of a month asked before its first basket, then learned.

    python -m tests.benchmarks.freshness.prequential --json var/bench/prequential.json

    frozen             the model and the histories of before the month
    fresh              the same model and item table, histories up to the question
    updated            fresh, and after every day the weights learn it and the item table is made anew
    decayed_frequency  what the household bought, half-life 60 days; `frozen` and updated `daily`

Cold start: `new_users` have no purchase before the month; `strangers` are households whose past is hidden from the
models (every tenth); `new_items` were bought by fewer than `item_users_min` users before the month, and are judged on
questions of their own.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from towers.commands.train import exact_search
from towers.evaluation import Bootstrap
from towers.evaluation.baselines import decayed_frequency
from towers.evaluation.train_log import TrainLog
from towers.features.histories import Histories
from towers.learning_data import LearningData
from towers.model import TrainedModel, read_model
from towers.schema import Dataset, load_dataset
from towers.training.cuts import DAY_S
from towers.updating.judging import LIST_LENGTH, Contender, answer, lead, ndcg
from towers.updating.learning import Source, learn_on
from towers.updating.questions import Questions, user_days
from towers.updating.recipe import Recipe

STRANGER_EVERY = 10
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Replay:
    """The month and what is asked in it.

    Attributes:
        begin_s, end_s: of the month.
        questions: on items that enough users bought before the month. of_new_items: on the others.
        new_user: (users,) no purchase before the month. stranger: (users,) whose past is hidden in that slice.
    """

    source: Source
    model: TrainedModel
    begin_s: int
    end_s: int
    questions: Questions
    of_new_items: Questions
    new_user: npt.NDArray[np.bool_]
    stranger: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, dataset: Dataset, model: TrainedModel, begin_s: int, end_s: int) -> Replay:
        """The month [begin_s, end_s)."""
        source = Source.of(dataset, model)
        targets = source.targets
        before = targets.where(targets.time_s < begin_s).distinct_pairs()
        users_min = max(model.settings.training.item_users_min, 1)
        candidates = np.asarray(np.bincount(before.indices, minlength=targets.item_count) >= users_min)
        new_user = np.diff(before.indptr) == 0
        return cls(
            source,
            model,
            begin_s,
            end_s,
            user_days(targets, begin_s, end_s, candidates),
            user_days(targets, begin_s, end_s, ~candidates),
            new_user,
            np.arange(targets.user_count) % STRANGER_EVERY == 0,
        )

    def days(self) -> list[tuple[int, int]]:
        """[begin, end) of each day."""
        return [(begin, min(begin + DAY_S, self.end_s)) for begin in range(self.begin_s, self.end_s, DAY_S)]

    def of_strangers(self, data: LearningData) -> LearningData:
        """The same, where strangers have neither a past before the month nor attributes."""
        events, log = self.source.dataset.events, data.histories
        kept = ~self.stranger[events.user_row] | (events.time_s >= self.begin_s)
        columns = (events.user_row[kept], events.item_row[kept], events.event_type[kept], events.time_s[kept])
        users = data.users
        return replace(
            data,
            histories=Histories.from_events(*columns, self.source.dataset.user_count, log.target_types),
            context=data.context[kept],
            users=replace(
                users,
                bucket=np.where(self.stranger, 0, users.bucket).astype(np.int32),
                attribute=np.where(self.stranger[:, None], 0, users.attribute).astype(np.int32),
            ),
        )


class Answers:
    """NDCG of one mode, by slice, in the order of the questions."""

    def __init__(self) -> None:
        self._parts: dict[str, list[Scores]] = {}

    def ask(
        self, replay: Replay, data: LearningData, asked: Contender, span: tuple[int, int], until_s: int | None
    ) -> None:
        """Answers the questions of [begin, end), and keeps what they are worth."""
        hidden = replay.of_strangers(data)
        everything, of_new = replay.questions.between(*span), replay.of_new_items.between(*span)
        for name, events, questions in (
            ("all", data, everything),
            ("new_items", data, of_new),
            ("strangers", hidden, everything.where(replay.stranger[everything.user_row])),
            ("strangers_new_items", hidden, of_new.where(replay.stranger[of_new.user_row])),
        ):
            found = ndcg(answer(events, asked, questions, until_s), questions) if len(questions) else np.zeros(0)
            self._parts.setdefault(name, []).append(found)

    def scores(self) -> dict[str, Scores]:
        """(Q,) of each slice."""
        return {name: np.concatenate(parts) for name, parts in self._parts.items()}


def ask_frozen_and_fresh(replay: Replay, days: list[tuple[int, int]]) -> dict[str, dict[str, Scores]]:
    """Both modes of the model as it is."""
    data = replay.source.as_read_by(replay.model)
    asked = replay.source.contender(replay.model, exact_search, replay.begin_s)
    frozen, fresh = Answers(), Answers()
    for span in days:
        frozen.ask(replay, data, asked, span, replay.begin_s)
        fresh.ask(replay, data, asked, span, None)
    return {"frozen": frozen.scores(), "fresh": fresh.scores()}


def ask_updated(
    replay: Replay, days: list[tuple[int, int]], recipe: Recipe, seconds_max: float, say: Callable[[str], None]
) -> tuple[dict[str, dict[str, Scores]], int]:
    """Test, then learn, day by day, as long as the time lasts: `updated`, and `tables` that are made anew alone.

    Returns:
        Scores by mode and slice, and how many days there were time for.
    """
    started = time.monotonic()
    model, updated, tables = replay.model, Answers(), Answers()
    old = replay.source.as_read_by(replay.model)
    done = 0
    for place, (begin_s, end_s) in enumerate(days):
        if place:
            learned = learn_on(model, replay.source, days[place - 1][0], begin_s, exact_search, recipe)
            model = learned.model
            say(f"day {place}: {learned.tower_steps} + {learned.ranker_steps} steps in {learned.seconds:.1f} s")
        learned_of, frozen_of = (replay.source.contender(each, exact_search, begin_s) for each in (model, replay.model))
        updated.ask(replay, replay.source.as_read_by(model), learned_of, (begin_s, end_s), None)
        tables.ask(replay, old, frozen_of, (begin_s, end_s), None)
        done += 1
        if time.monotonic() - started > seconds_max:
            break
    return {"updated": updated.scores(), "tables": tables.scores()}, done


def ask_decayed_frequency(replay: Replay, days: list[tuple[int, int]]) -> dict[str, Scores]:
    """The baseline, frozen at the month's begin, and knowing everything up to each day's begin."""
    targets, begin_s = replay.source.targets, replay.begin_s
    before = targets.where(targets.time_s < begin_s).distinct_pairs()
    users_of_item = np.bincount(before.indices, minlength=targets.item_count)
    rows = np.flatnonzero(users_of_item >= max(replay.model.settings.training.item_users_min, 1)).astype(np.int32)
    rows = rows[np.lexsort((rows, -users_of_item[rows]))]
    column = np.full(targets.item_count, -1, np.int32)
    column[rows] = np.arange(len(rows), dtype=np.int32)
    known = targets.where(column[targets.item_row] >= 0)
    parts: dict[str, list[Scores]] = {"frozen": [], "daily": []}
    for day_s, end_s in days:
        asked = replay.questions.between(day_s, end_s)
        if len(asked) == 0:  # nobody shops at Christmas
            continue
        for name, until_s in (("frozen", begin_s), ("daily", day_s)):
            past = known.where(known.time_s < until_s)
            age_days = (until_s - past.time_s) / DAY_S
            columns = (past.user_row, column[past.item_row], age_days, targets.user_count, rows, users_of_item[rows])
            fitted = decayed_frequency(TrainLog(*columns))
            lists = fitted.recommend(asked.user_row, LIST_LENGTH, exclude_bought=False)
            parts[name].append(ndcg(lists, asked))
    return {name: np.concatenate(found) for name, found in parts.items()}


def summary(scores: Mapping[str, Scores]) -> dict[str, dict[str, Any]]:
    """Mean, interval and count of each mode."""
    return {
        name: {
            "ndcg@20": float(values.mean()),
            "ndcg@20_ci": _interval(Bootstrap().intervals({name: values})[name]),
            "household_days": len(values),
        }
        for name, values in scores.items()
        if len(values)
    }


def differences(scores: Mapping[str, Scores], pairs: list[tuple[str, str]]) -> dict[str, list[float]]:
    """Mean and interval of first - second, paired, over the questions that both were asked."""
    found = {}
    for first, second in pairs:
        if first in scores and second in scores:
            count = min(len(scores[first]), len(scores[second]))
            if count:
                ahead = lead(scores[first][:count], scores[second][:count])
                found[f"{first} - {second}"] = [ahead.mean, ahead.low, ahead.high]
    return found


def _interval(interval: Any) -> list[float]:
    return [interval.low, interval.high]


PAIRS = [
    ("fresh", "frozen"),
    ("fresh", "decayed_frequency"),
    ("decayed_frequency", "decayed_frequency_frozen"),
    ("updated", "fresh"),
    ("updated", "tables"),
    ("tables", "fresh"),
    ("updated", "decayed_frequency"),
]


def run(
    replay: Replay, recipe: Recipe, day_count: int | None, update_seconds_max: float, say: Callable[[str], None]
) -> dict[str, Any]:
    """The figures, JSON-able: `prequential` as in freshness.json."""
    days = replay.days()[:day_count]
    by_mode = ask_frozen_and_fresh(replay, days)
    say(f"frozen {by_mode['frozen']['all'].mean():.4f}, fresh {by_mode['fresh']['all'].mean():.4f}")
    baseline = ask_decayed_frequency(replay, days)
    say(f"decayed frequency: frozen {baseline['frozen'].mean():.4f}, daily {baseline['daily'].mean():.4f}")
    done = 0
    if update_seconds_max > 0:
        more, done = ask_updated(replay, days, recipe, update_seconds_max, say)
        by_mode |= more
    main = {name: slices["all"] for name, slices in by_mode.items()}
    main |= {"decayed_frequency": baseline["daily"], "decayed_frequency_frozen": baseline["frozen"]}
    cold = {}
    asked = np.concatenate([replay.questions.between(*day).user_row for day in days])
    new_user = replay.new_user[asked]
    for name in ("new_items", "strangers", "strangers_new_items"):
        cold[name] = {mode: slices[name] for mode, slices in by_mode.items()}
    cold["new_users"] = {mode: slices["all"][new_user[: len(slices["all"])]] for mode, slices in by_mode.items()}
    return {
        "prequential": summary(main)
        | {
            "differences": differences(main, PAIRS),
            "cold_start": {
                name: summary(scores) | {"differences": differences(scores, PAIRS)} for name, scores in cold.items()
            },
            "days": len(days),
            "days_updated": done,
            "recipe": recipe.model_dump(mode="json"),
        }
    }


def main() -> None:
    """Runs the replay and writes its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, default=Path("var/demo/dataset"))
    parser.add_argument("--model", type=Path, default=Path("var/demo/run/model"))
    parser.add_argument("--begin", type=datetime.fromisoformat, default=datetime.fromisoformat("2017-12-01T00:00:00Z"))
    parser.add_argument("--end", type=datetime.fromisoformat, default=datetime.fromisoformat("2018-01-02T00:00:00Z"))
    parser.add_argument("--days", type=int, default=None, help="ask only the first days")
    parser.add_argument("--update-seconds-max", type=float, default=2_100.0, help="0: no updates")
    parser.add_argument("--recipe", default="{}", help="JSON of changes to the recipe")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", type=Path, default=None)
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    model = read_model(given.model)
    begin_s, end_s = int(given.begin.timestamp()), int(given.end.timestamp())
    if model.ranker_until_s > begin_s:
        raise SystemExit(f"the model learned until {model.ranker_until_s}, after the month begins: {begin_s}")
    replay = Replay.of(load_dataset(given.dataset), model, begin_s, end_s)
    recipe = Recipe(**{"seconds_max": 300.0} | json.loads(given.recipe))  # the same steps on a busy machine
    figures = run(replay, recipe, given.days, given.update_seconds_max, lambda line: print(line, flush=True))
    text = json.dumps(figures, indent=1)
    if given.json is not None:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
