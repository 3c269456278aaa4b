"""A source is fitted once for the same log and settings, and never given for others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.towers.sources.small_logs import random_log
from towers.settings import CandidateSettings, LearningSettings, TrainingSettings
from towers.sources import registry
from towers.sources.kept import KeptFits, log_key
from towers.sources.settings import SourceSettings


def test_the_same_key_gives_the_same_fit() -> None:
    kept, made = KeptFits(), []

    def fit() -> object:
        made.append(object())
        return made[-1]

    first = kept.of("als", "a", fit)  # type: ignore[arg-type]
    assert kept.of("als", "a", fit) is first  # type: ignore[arg-type]
    assert kept.of("bpr", "a", fit) is not first  # type: ignore[arg-type]
    assert kept.of("als", "b", fit) is not first  # type: ignore[arg-type]
    assert kept.of("als", "a", fit) is not first, "only the newest is kept"  # type: ignore[arg-type]
    assert len(made) == 4


def test_a_fit_that_fails_leaves_nothing() -> None:
    kept = KeptFits()

    def fails() -> object:
        raise ValueError("no")

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            kept.of("als", "a", fails)  # type: ignore[arg-type]


def test_the_key_is_of_all_that_a_source_may_learn_from() -> None:
    log = random_log(seed=1, user_count=5, item_count=7, events_max=6)
    same = replace(log, user_row=log.user_row.copy())
    assert log_key(same) == log_key(log)
    codes = replace(log, items=replace(log.items, id_code=log.items.id_code + 1))
    assert log_key(codes) == log_key(log), "codes of ids are no matter of sources"
    for other in (
        replace(log, until_s=log.until_s + 1),
        replace(log, item_row=(log.item_row + 1).astype(np.int32)),
        replace(log, time_s=log.time_s - 1),
        replace(log, is_target=~log.is_target),
        replace(log, users=np.ones((5, 1), np.int32), user_attributes=("age",)),
        replace(log, items=replace(log.items, number=np.ones((7, 1), np.float32))),
        replace(log, items=replace(log.items, attribute_code=np.ones((7, 1), np.int32))),
    ):
        assert log_key(other) != log_key(log)


def test_a_source_is_fitted_anew_for_another_seed_moment_or_setting_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    log = random_log(seed=1, user_count=5, item_count=7, events_max=6)
    fitted: list[str] = []

    def kind(name: str) -> registry.Kind:
        def fit(*_: object) -> object:
            fitted.append(name)
            return object()

        return registry.Kind(fit, registry.KINDS[name].form)  # type: ignore[arg-type]

    monkeypatch.setattr(registry, "_KEPT", KeptFits())
    monkeypatch.setattr(registry, "KINDS", {name: kind(name) for name in registry.NAMES})
    monkeypatch.setattr(registry.SourceLog, "of", lambda _, until_s: replace(log, until_s=until_s))
    settings = LearningSettings(candidates=CandidateSettings(als=5, bpr=5))

    def fits(settings: LearningSettings, as_of_s: int = 10) -> list[str]:
        fitted.clear()
        registry.sources_at(None, settings, as_of_s, as_of_s)  # type: ignore[arg-type]
        return list(fitted)

    assert fits(settings) == ["als", "bpr"]
    assert fits(settings) == []
    other_als = SourceSettings(als=SourceSettings().als.model_copy(update={"confidence": 3.0}))
    assert fits(settings.model_copy(update={"sources": other_als})) == ["als"]
    assert fits(settings) == ["als"]
    assert fits(settings, 11) == ["als", "bpr"]
    assert fits(settings.model_copy(update={"training": TrainingSettings(seed=5)}), 11) == ["als", "bpr"]
