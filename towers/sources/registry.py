"""All further sources, in the order of their bits and features: their settings, how they are fitted, how they are read.

A source is fitted when its depth in `[candidates]` is above 0. Adding one: a fit in `fits/`, an entry here, a depth in
`CandidateSettings`, a value in the wire's `CandidateSource` and in `server.domain.Source`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from towers.learning_data import LearningData
from towers.settings import LearningSettings
from towers.sources.base import CandidateSource, SourceInvalid
from towers.sources.factors import ItemFactors
from towers.sources.fits.als import fit_als
from towers.sources.fits.bought_next import fit_bought_next
from towers.sources.fits.bought_together import fit_bought_together
from towers.sources.fits.bpr import fit_bpr
from towers.sources.fits.content import fit_content
from towers.sources.fits.graph_filter import fit_graph_filter
from towers.sources.fits.item_item import fit_item_item
from towers.sources.fits.light_gcn import fit_light_gcn
from towers.sources.fits.segment import fit_segment
from towers.sources.fits.trending import fit_trending
from towers.sources.fits.user_user import fit_user_user
from towers.sources.fixed_lists import FixedLists
from towers.sources.folded_factors import FoldedFactors
from towers.sources.item_lists import ItemLists
from towers.sources.kept import KeptFits, log_key
from towers.sources.log import SourceLog
from towers.sources.settings import FURTHER, SourceSettings
from towers.sources.user_lists import UserLists


@dataclass(frozen=True, slots=True)
class Kind:
    """One source: how it is learned, and the class that reads its arrays."""

    fit: Callable[[SourceLog, SourceSettings, int], CandidateSource]
    form: type[CandidateSource]


KINDS: Mapping[str, Kind] = {
    "item_item": Kind(lambda log, settings, _: fit_item_item(log, settings.item_item), ItemLists),
    "bought_next": Kind(lambda log, settings, _: fit_bought_next(log, settings.bought_next), ItemLists),
    "bought_together": Kind(lambda log, settings, _: fit_bought_together(log, settings.bought_together), ItemLists),
    "user_user": Kind(lambda log, settings, _: fit_user_user(log, settings.user_user), UserLists),
    "als": Kind(lambda log, settings, seed: fit_als(log, settings.als, seed), FoldedFactors),
    "bpr": Kind(lambda log, settings, seed: fit_bpr(log, settings.bpr, seed), ItemFactors),
    "light_gcn": Kind(lambda log, settings, seed: fit_light_gcn(log, settings.light_gcn, seed), ItemFactors),
    "graph_filter": Kind(lambda log, settings, seed: fit_graph_filter(log, settings.graph_filter, seed), ItemLists),
    "content": Kind(lambda log, settings, _: fit_content(log, settings.content), ItemLists),
    "trending": Kind(lambda log, settings, _: fit_trending(log, settings.trending), FixedLists),
    "segment": Kind(lambda log, settings, _: fit_segment(log, settings.segment), FixedLists),
}
"""By name; the third argument of a fit is the seed."""

NAMES = tuple(name for name in FURTHER if name in KINDS)
_KEPT = KeptFits()


def fit_sources(
    log: SourceLog, names: tuple[str, ...], settings: SourceSettings, seed: int
) -> dict[str, CandidateSource]:
    """Fits the named ones, in the order of NAMES."""
    return {name: KINDS[name].fit(log, settings, seed) for name in NAMES if name in names}


def sources_at(
    data: LearningData, settings: LearningSettings, as_of_s: int, towers_until_s: int
) -> dict[str, CandidateSource]:
    """The sources that the settings ask for, as of one moment; `[training] sources_end` says what they may learn.

    Asked again for the same, it gives the same objects.
    """
    names, seed = settings.candidates.further, settings.training.seed
    if not names:
        return {}
    log = SourceLog.of(data, settings.training.learned_until_s(as_of_s, towers_until_s))
    learned = log_key(log)

    def source(name: str) -> CandidateSource:
        key = f"{learned} {seed} {getattr(settings.sources, name)!r}"
        return _KEPT.of(name, key, lambda: KINDS[name].fit(log, settings.sources, seed))

    return {name: source(name) for name in NAMES if name in names}


def source_arrays(sources: Mapping[str, CandidateSource]) -> dict[str, NDArray[Any]]:
    """All arrays of all sources, as `name/array`."""
    return {f"{name}/{key}": array for name, source in sources.items() for key, array in source.arrays().items()}


def sources_from_arrays(arrays: Mapping[str, NDArray[Any]]) -> dict[str, CandidateSource]:
    """From `source_arrays`. Raises SourceInvalid, naming source and array."""
    grouped: dict[str, dict[str, NDArray[Any]]] = {}
    for path, array in arrays.items():
        name, _, key = path.partition("/")
        grouped.setdefault(name, {})[key] = array
    if strangers := sorted(set(grouped) - set(KINDS)):
        raise SourceInvalid(f"there are no sources {strangers}")
    found = {}
    for name in NAMES:
        if name in grouped:
            try:
                found[name] = KINDS[name].form.from_arrays(grouped[name])
            except SourceInvalid as error:
                raise SourceInvalid(f"source {name}: {error}") from error
    return found
