"""The report's first paragraph: the figures said in words by fixed rules, so that no sentence says more than they."""

from __future__ import annotations

from typing import Any

from towers.reporting.measure import MAIN_K, MODEL

NDCG = f"ndcg@{MAIN_K}"

Figures = dict[str, Any]


def verdict(figures: Figures) -> str:
    """One paragraph; a section that was not measured gets no sentence."""
    about = figures["about"]
    sentences = [
        _lead(figures, "all", f"{about['lists'].capitalize()}, on the {about['split']} split, the lists"),
        _lead(figures, "new", "On items new to the user they"),
        _spread(figures),
        _sources(figures, "all", "all items"),
        _sources(figures, "new", "new items"),
        _calibration(figures),
        _fairness(figures),
    ]
    if about["seen_in_training"]:
        sentences.insert(0, "Caution: the model has learned from the time that it is asked about here.")
    return " ".join(sentence for sentence in sentences if sentence)


def _lead(figures: Figures, question: str, subject: str) -> str:
    metrics, tests = figures["metrics"][question], figures["significance"][question]
    if metrics is None:
        return ""
    ours, baselines = metrics["models"][MODEL], metrics["baselines"]
    low, high = ours[f"{NDCG}_ci"]
    best = max(baselines, key=lambda name: baselines[name][NDCG])
    theirs = baselines[best][NDCG]
    rows = [row for row in tests if row["metric"] == NDCG]
    ahead = sum(row["significant"] and row["difference"] > 0 for row in rows)
    behind = sum(row["significant"] and row["difference"] < 0 for row in rows)
    against = "" if theirs == 0 else f", {abs(ours[NDCG] / theirs - 1):.1%} {_side(ours[NDCG], theirs)}"
    sentence = (
        f"{subject} reach NDCG@{MAIN_K} {ours[NDCG]:.4f} [{low:.4f}, {high:.4f}]{against} the best baseline "
        f"({words(best)}, {theirs:.4f})"
    )
    sentence += f", and are significantly better than {ahead} of {len(rows)} baselines"
    return sentence + (f" and worse than {behind}." if behind else ".")


def _side(ours: float, theirs: float) -> str:
    return "above" if ours >= theirs else "below"


def _spread(figures: Figures) -> str:
    lists, demand = figures["lists"]["of"][MODEL], figures["lists"]["demand"]
    shown, bought = lists[f"exposure_by_decile@{MAIN_K}"][0], demand["by_decile"][0]
    if shown is None or bought is None:
        return ""
    return (
        f"All lists together show {lists[f'coverage@{MAIN_K}']:.1%} of the candidate items; the most popular tenth of "
        f"these takes {shown:.1%} of the exposure and has {bought:.1%} of the purchases."
    )


def _sources(figures: Figures, question: str, what: str) -> str:
    sources = figures["sources"][question]
    if not sources or not sources["ablation"]:
        return ""
    certain = [row for row in sources["ablation"] if row["significant"]]
    idle = [words(row["source"]) for row in sources["ablation"] if not row["significant"]]
    missed = [row for row in certain if row["loss"] > 0]
    harmful = [words(row["source"]) for row in certain if row["loss"] < 0]
    gain = f" Without {' or '.join(harmful)} alone NDCG would rise significantly." if harmful else ""
    if not missed:
        return f"For {what}, no source is missed significantly when it alone is left out.{gain}"
    most = max(missed, key=lambda row: row["loss"])
    sentence = f"For {what}, {words(most['source'])} is missed most: NDCG falls by {most['loss']:.4f} without it"
    return sentence + (f", and not significantly without {', '.join(idle)}." if idle else ".") + gain


def _calibration(figures: Figures) -> str:
    found = figures["calibration"]
    if "note" in found:
        return ""
    return f"The scores miss the frequencies by {found['calibration_error']:.4f} on average over ten bins."


def _fairness(figures: Figures) -> str:
    widest = [(entry["attribute"], entry["widest"][NDCG]) for entry in figures["fairness"] if entry["widest"]]
    if not widest:
        return ""
    attribute, gap = max(widest, key=lambda entry: float(entry[1]["ci"][0]))
    return (
        f"The surest gap between groups of users is by {words(attribute)}: NDCG {gap['gap']:.4f} higher for "
        f"«{gap['highest']}» than for «{gap['lowest']}» (best baseline: {gap['baseline_gap']:+.4f})."
    )


def words(name: str) -> str:
    """`als_tuned` → `als tuned`."""
    return name.replace("_", " ")
