"""A search over the parts that are asked for, one after the other; each goes on from what the last one found."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from towers.schema import ConfigError, Dataset
from towers.settings import LearningSettings
from towers.training.cuts import RetrieverFactory
from towers.training.run import fingerprint
from towers.tuning.known import known_before
from towers.tuning.problems import Known, Problem, RankerProblem, SourceProblem, TowersProblem
from towers.tuning.settings import TuneSettings
from towers.tuning.space import PARTS, Space, space_of, with_values
from towers.tuning.study import Budget, Found, Search


@dataclass
class Tuning:
    """Settings of a shop, searched for on its validation time.

    Attributes:
        dataset, settings, tune: what is learned from, from where the search starts, and how it goes.
        directory: keeps journals and shared towers; a search that finds them goes on.
        show: told of the running trial: the search's name and a few words.
    """

    dataset: Dataset
    settings: LearningSettings
    tune: TuneSettings
    retrievers: RetrieverFactory
    directory: Path
    show: Callable[[str, str], None] = field(default=lambda *_: None)

    def __post_init__(self) -> None:
        end = self.settings.training.train_end
        end_s = int(end.timestamp()) if end is not None else self.dataset.meta.last_time_s + 1
        known = known_before(self.dataset, end_s)  # nothing after this line sees an event of train_end or later
        self._known = Known(known, end_s, self.retrievers, self.directory, lambda _: None)
        self._fingerprint = fingerprint(known, LearningSettings())

    def run(self, part: str, minutes: float, trials_max: int | None) -> list[Found]:
        """Searches; each search has the same share of the time that is left when it begins.

        Args:
            part: towers, sources, ranker, or all. minutes: for everything. trials_max: for each search, in all.

        Raises:
            ConfigError: there is nothing to search for. LogTooShortError: the log is too short for the folds.
        """
        deadline_s = time.monotonic() + 60 * minutes
        settings, found = self.settings, []
        wanted = list(self._searches(part, settings))
        if not wanted:
            raise ConfigError(f"nothing to tune in {part}: all its sources are off, or [tune.space] leaves all out")
        for place, (own_part, name) in enumerate(wanted):
            left_s = max(deadline_s - time.monotonic(), 0.0)
            budget = Budget(time.monotonic() + left_s / (len(wanted) - place), trials_max)
            found.append(self._search(own_part, name, settings).run(budget))
            settings = with_values(settings, found[-1].best.values)
        return found

    def _searches(self, part: str, settings: LearningSettings) -> Iterator[tuple[str, str]]:
        """(part, name) of every search; each source has one of its own."""
        for own_part in PARTS if part == "all" else (part,):
            space = space_of(own_part, settings, self.tune)
            names = [path.split(".")[1] for path in space] if own_part == "sources" else [own_part] * bool(space)
            yield from ((own_part, name) for name in dict.fromkeys(names))

    def _search(self, part: str, name: str, settings: LearningSettings) -> Search:
        space: Space = space_of(part, settings, self.tune)
        problem: Problem
        if part == "towers":
            problem = TowersProblem(self._known)
        elif part == "ranker":
            problem = RankerProblem(self._known, settings)
        else:
            space = {path: dimension for path, dimension in space.items() if path.split(".")[1] == name}
            problem = SourceProblem(self._known, settings, name, self.tune.source_targets == "new")
        return Search(
            problem,
            settings,
            self.tune,
            space,
            self._fingerprint,
            self.directory,
            lambda state: self.show(problem.name, state),
        )
