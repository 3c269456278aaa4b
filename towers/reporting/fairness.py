"""Gaps between groups of users: whether some get worse lists than others, with intervals.

Groups buy different amounts, so part of a gap is in the question and not in the model: the baseline's gap beside it
tells how much of it any method has.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from towers.evaluation import Bootstrap
from towers.evaluation.metrics import FloatArray
from towers.reporting.significance import ALPHA, holm
from towers.reporting.slices import FEW_USERS, Slicing

UNKNOWN = "unknown"
"""What ingest writes where an attribute is missing; such users are compared, but they are no group of people."""


def gaps(
    slicings: list[Slicing], measures: dict[str, FloatArray], baseline: dict[str, FloatArray]
) -> list[dict[str, Any]]:
    """One entry an attribute: each group against all others of a known group, and the widest gap between two of these.

    Args:
        slicings: by the users' attributes.
        measures: name → (U,) what the model's lists are worth to each user.
        baseline: the same of the baseline.

    Returns:
        {attribute, groups: [{group, users, NAME, NAME_gap, NAME_gap_ci, NAME_p_holm, NAME_significant}], widest:
        {NAME: {highest, lowest, gap, ci, baseline_gap}}, left_out: groups of fewer than FEW_USERS users}. The p values
        are corrected over all groups of all attributes and all measures.
    """
    entries = [_entry(slicing, measures, baseline) for slicing in slicings]
    tested = [(row, name) for entry in entries for row in entry["groups"] for name in measures if f"{name}_p" in row]
    for (row, name), adjusted in zip(tested, holm([row[f"{name}_p"] for row, name in tested]), strict=True):
        row[f"{name}_p_holm"], row[f"{name}_significant"] = adjusted, adjusted < ALPHA
    return entries


def _entry(slicing: Slicing, measures: dict[str, FloatArray], baseline: dict[str, FloatArray]) -> dict[str, Any]:
    counts = np.bincount(slicing.group_of[slicing.group_of >= 0], minlength=len(slicing.groups))
    large = [place for place in range(len(slicing.groups)) if counts[place] >= FEW_USERS]
    unknown = [place for place, group in enumerate(slicing.groups) if group == UNKNOWN]
    known = (slicing.group_of >= 0) & ~np.isin(slicing.group_of, unknown)
    return {
        "attribute": slicing.name,
        "groups": [
            _against_the_rest(slicing.groups[place], slicing.group_of == place, known, measures) for place in large
        ],
        "widest": _widest(slicing, [place for place in large if place not in unknown], measures, baseline),
        "left_out": [slicing.groups[place] for place in range(len(slicing.groups)) if place not in large],
    }


def _against_the_rest(
    group: str, inside: NDArray[np.bool_], known: NDArray[np.bool_], measures: dict[str, FloatArray]
) -> dict[str, Any]:
    rest = known & ~inside
    row: dict[str, Any] = {"group": group, "users": int(inside.sum())}
    for name, values in measures.items():
        row[name] = float(values[inside].mean())
        if rest.sum() < FEW_USERS:
            continue
        interval = Bootstrap().unpaired_difference(values[inside], values[rest])
        row[f"{name}_gap"], row[f"{name}_gap_ci"] = interval.mean, [interval.low, interval.high]
        row[f"{name}_p"] = welch_p(values[inside], values[rest])
    return row


def _widest(
    slicing: Slicing, places: list[int], measures: dict[str, FloatArray], baseline: dict[str, FloatArray]
) -> dict[str, Any]:
    """The gap between the best and the worst served group; empty with fewer than two groups."""
    if len(places) < 2:
        return {}
    widest = {}
    for name, values in measures.items():
        means = [float(values[slicing.group_of == place].mean()) for place in places]
        best, worst = places[int(np.argmax(means))], places[int(np.argmin(means))]
        high, low = slicing.group_of == best, slicing.group_of == worst
        interval = Bootstrap().unpaired_difference(values[high], values[low])
        widest[name] = {
            "highest": slicing.groups[best],
            "lowest": slicing.groups[worst],
            "gap": interval.mean,
            "ci": [interval.low, interval.high],
            "baseline_gap": float(baseline[name][high].mean() - baseline[name][low].mean()),
        }
    return widest


def welch_p(first: FloatArray, second: FloatArray) -> float:
    """Two-sided p of equal means of two groups of unequal variance (Welch 1947); 1 where nothing varies."""
    from scipy.stats import ttest_ind

    if first.std() == 0 and second.std() == 0:
        return 1.0 if first.mean() == second.mean() else 0.0
    return float(ttest_ind(first, second, equal_var=False).pvalue)
