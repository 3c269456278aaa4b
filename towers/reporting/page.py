"""The report's page: the figures as sections of tables and plots, in the order in which a reader needs them."""

from __future__ import annotations

from html import escape
from typing import Any

from towers.reporting import html, plots
from towers.reporting.cold_page import cold_start_parts
from towers.reporting.measure import CURVE_METRICS, MAIN_K, MODEL
from towers.reporting.verdict import words

Figures = dict[str, Any]

NDCG, RECALL = f"ndcg@{MAIN_K}", f"recall@{MAIN_K}"
TABLE_METRICS = tuple(f"{name}@{MAIN_K}" for name in ("ndcg", "recall", "precision", "mrr", "hit_rate"))
QUESTIONS = {"all": "All items", "new": "Items new to the user"}


def render(figures: Figures) -> str:
    """The whole page."""
    about = figures["about"]
    sections = [
        ("metrics", "Metrics", _metrics(figures)),
        ("significance", "Against each baseline", _significance(figures)),
        ("curves", "Over the length of the list", _curves(figures)),
        ("slices", "Slices", _slices(figures)),
        ("lists", "Coverage, diversity, novelty, exposure", _lists(figures)),
        ("sources", "Sources of candidates", _sources(figures)),
        ("calibration", "Calibration", _calibration(figures)),
        ("fairness", "Gaps between groups of users", _fairness(figures)),
        ("cold", "Cold start", cold_start_parts(figures["cold_start"])),
        ("about", "How this was made", _about(about)),
    ]
    title = f"{about['shop']}: evaluation report"
    links = "".join(f'<a href="#{name}">{heading}</a> ' for name, heading, _ in sections)
    parts = [
        f"<h1>{escape(title)}</h1>",
        html.paragraph(figures["verdict"], "verdict"),
        f"<nav>{links}</nav>",
        *(html.section(*entry) for entry in sections),
    ]
    return html.page(title, parts)


def number(value: float | None, digits: int = 4) -> str:
    """A figure, or a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    """A share in per cent."""
    return "–" if value is None else f"{value:.1%}"


def with_ci(value: float | None, ci: list[float] | None, sign: str = "") -> str:
    """`0.3651 [0.358, 0.372]`."""
    if value is None or ci is None:
        return number(value)
    return f"{value:{sign}.4f} [{ci[0]:{sign}.4f},\N{NO-BREAK SPACE}{ci[1]:{sign}.4f}]"


def _metrics(figures: Figures) -> list[str]:
    parts = [html.note("Means over users with 95 % bootstrap intervals.")]
    for key, heading in QUESTIONS.items():
        metrics = figures["metrics"][key]
        parts.append(html.heading(heading))
        if metrics is None:
            parts.append(html.note("Not measured: there are no such lists, or nobody bought anything new."))
            continue
        named = {**metrics["baselines"], **metrics["models"]}
        order = sorted(named, key=lambda name: named[name][NDCG])
        rows = [
            [words(name), *(with_ci(named[name][metric], named[name][f"{metric}_ci"]) for metric in TABLE_METRICS)]
            for name in order
        ]
        parts.append(html.table(["", *TABLE_METRICS], rows, own=[order.index(MODEL)]))
        parts.append(html.note(f"{named[MODEL]['users']:,} users, {named[MODEL]['candidates']:,} candidate items."))
    return parts


def _significance(figures: Figures) -> list[str]:
    parts = [
        html.note(
            "Our mean minus the baseline's, paired by user. p by the bootstrap, corrected by Holm over all rows of a "
            "table; below 0.05 counts as significant."
        )
    ]
    for key, heading in QUESTIONS.items():
        if figures["significance"][key] is not None:
            rows = [
                [
                    words(row["other"]),
                    row["metric"],
                    with_ci(row["difference"], row["ci"], "+"),
                    number(row["p"]),
                    number(row["p_holm"]),
                    ("better" if row["difference"] > 0 else "worse") if row["significant"] else "no difference shown",
                ]
                for row in figures["significance"][key]
            ]
            parts += [html.heading(heading), html.table(["", "metric", "difference", "p", "p (Holm)", ""], rows)]
    return parts


def _curves(figures: Figures) -> list[str]:
    curves, parts = figures["curves"], []
    for metric in CURVE_METRICS:
        series = curves["metrics"][metric]
        ordered = {words(MODEL): series[MODEL]} | {words(name): series[name] for name in series if name != MODEL}
        parts += [html.heading(f"{words(metric)}@k"), plots.lines(f"{metric} over k", curves["ks"], ordered, "k")]
    rows = [[f"{k}", *(number(curves["metrics"][name][MODEL][at]) for name in CURVE_METRICS)]
            for at, k in enumerate(curves["ks"])]  # fmt: skip
    return [*parts, html.heading(f"{MODEL} in numbers"), html.table(["k", *map(words, CURVE_METRICS)], rows)]


def _slices(figures: Figures) -> list[str]:
    parts = [
        html.note(
            "Slices of users average over their users. Slices of items keep the lists and count only the slice's items "
            "as right, over the users who bought one. ° fewer than 30 users: the interval says little."
        )
    ]
    for entry in figures["slices"]:
        head = [words(entry["name"]), "users", "purchases", NDCG, RECALL, f"{words(entry['baseline'])}, {NDCG}", "lead"]
        parts += [html.heading(f"By {words(entry['name'])} ({entry['of']})"), html.table(head, _slice_rows(entry))]
    return parts


def _slice_rows(entry: Figures) -> list[list[str]]:
    rows = []
    for group in entry["groups"]:
        name = f"{group['group']}{'°' if group.get('few') else ''}"
        if "note" in group:
            rows.append([name, "0", "0", group["note"], "–", "–", "–"])
            continue
        rows.append(
            [
                name,
                f"{group['users']:,}",
                f"{group['purchases']:,}",
                with_ci(group[NDCG], group[f"{NDCG}_ci"]),
                with_ci(group[RECALL], group[f"{RECALL}_ci"]),
                number(group[f"baseline_{NDCG}"]),
                with_ci(group["lead"], group["lead_ci"], "+"),
            ]
        )
    return rows


def _lists(figures: Figures) -> list[str]:
    lists = figures["lists"]
    names = [MODEL, *(name for name in lists["of"] if name != MODEL)]
    rows = []
    for name in names:
        row = lists["of"][name]
        rows.append(
            [
                words(name),
                percent(row[f"coverage@{MAIN_K}"]),
                with_ci(row.get(f"diversity@{MAIN_K}"), row.get(f"diversity@{MAIN_K}_ci")),
                with_ci(row[f"novelty@{MAIN_K}"], row[f"novelty@{MAIN_K}_ci"]),
                percent(row[f"known_by@{MAIN_K}"]),
                number(row[f"gini@{MAIN_K}"], 3),
            ]
        )
    demand = lists["demand"]
    rows.append(["what was bought", "–", "–", "–", percent(demand["known_by"]), number(demand["gini"], 3)])
    measured = {
        "attributes": "mean share of attributes in which two items of a list differ",
        "vectors": "mean of 1 − cosine of two items' vectors",
    }.get(lists["diversity_by"], "not measured: items have no categories and no vectors are at hand")
    share = {words(MODEL): lists["of"][MODEL][f"exposure_by_decile@{MAIN_K}"], "bought": demand["by_decile"]}
    head = ["", "coverage", "diversity", "novelty, bits", "known by", "Gini of exposure"]
    return [
        html.table(head, rows, own=[0]),
        html.note(
            f"First {MAIN_K} places. Coverage: share of the candidate items in anybody's list. Diversity: {measured}. "
            "Novelty: mean of −log₂ of the share of users who had the item before. Known by: the share of users who "
            "had an item before, mean by exposure. Exposure: 1 / log₂(place + 1) a place; Gini 0 is even, 1 is all "
            "for one item."
        ),
        html.heading("Share of exposure by popularity"),
        plots.bars(
            "share of exposure by popularity",
            [f"{place}." for place in range(1, 11)],
            share,
            "tenths of the candidate items, the most popular first",
        ),
        html.table(
            ["", *(f"{place}. tenth" for place in range(1, 11))],
            [[name, *map(percent, values)] for name, values in share.items()],
        ),
    ]


def _sources(figures: Figures) -> list[str]:
    parts = []
    for key, heading in QUESTIONS.items():
        sources = figures["sources"][key]
        if sources is not None:
            parts += [
                html.heading(f"{heading}: who brought the first {MAIN_K} places"),
                *_contribution(sources["contribution"]),
                html.heading(f"{heading}: what is lost without it"),
                *_ablation(sources),
            ]
    return parts


def _contribution(table: list[Figures] | None) -> list[str]:
    if not table:
        return [html.note("Not known: the lists do not say where their items are from.")]
    rows = [
        [
            words(row["source"]),
            *(percent(row[name]) for name in ("shown_share", "hits_share", "hit_rate")),
            f"{row['shown_alone']:,}",
            f"{row['hits_alone']:,}",
        ]
        for row in table
    ]
    head = ["", "of places", "of hits", "hits in its places", "places, it alone", "hits, it alone"]
    return [html.table(head, rows), html.note("An item that several sources brought counts for each of them.")]


def _ablation(sources: Figures) -> list[str]:
    if not sources["ablation"]:
        return [html.note("Not measured: there is only one source, or the report was asked to leave this out.")]
    rows = [
        [
            words(row["source"]),
            number(row[NDCG]),
            number(row[RECALL]),
            with_ci(row["loss"], row["loss_ci"], "+"),
            number(row["p_holm"]),
        ]
        for row in sorted(sources["ablation"], key=lambda row: -float(row["loss"]))
    ]
    return [
        html.table(["without", NDCG, RECALL, "loss of NDCG", "p (Holm)"], rows),
        html.note(
            f"Ranked again offline with the source at depth 0; with all sources offline {NDCG} is "
            f"{sources['ablation_of']:.4f}. The ranker stays as it was trained, so a model trained without the source "
            "may lose less."
        ),
    ]


def _calibration(figures: Figures) -> list[str]:
    found = figures["calibration"]
    if "note" in found:
        return [html.note(f"Not measured: {found['note']}.")]
    points = [(row["predicted"], row["observed"], *row["ci"]) for row in found["bins"]]
    rows = [
        [number(row["predicted"]), with_ci(row["observed"], row["ci"]), f"{row['places']:,}"] for row in found["bins"]
    ]
    return [
        plots.reliability("foretold against observed", points),
        html.table(["foretold", "bought", "places"], rows),
        html.note(
            f"All {found['places']:,} listed places in ten bins of equal size, observed shares with Wilson intervals. "
            f"Calibration error {found['calibration_error']:.4f}, log loss {found['log_loss']:.4f}, "
            f"AUC {number(found['auc'])}. Only listed places are seen here, and those were chosen for high scores; the "
            f"ranker foretells {figures['about']['horizon_days']} days, purchases are those of "
            f"{figures['about']['days']:.0f} days."
        ),
    ]


def _fairness(figures: Figures) -> list[str]:
    quality = f"exposure_quality@{MAIN_K}"
    parts = [
        html.note(
            "Each group against the users of all other known groups. Exposure quality: the share of a list's exposure "
            "that goes to items which the user then bought. Groups buy different amounts, so compare a gap with the "
            "best baseline's. "
            "* p < 0.05 by Welch's test, corrected by Holm over all groups and both measures."
        )
    ]
    if not figures["fairness"]:
        return [*parts, html.note("The users have no attributes: there are no groups to compare.")]
    for entry in figures["fairness"]:
        parts.append(html.heading(f"By {words(entry['attribute'])}"))
        rows = [
            [row["group"], f"{row['users']:,}"]
            + [cell for name in (NDCG, quality) for cell in (number(row[name]), _gap(row, name))]
            for row in entry["groups"]
        ]
        parts.append(html.table(["group", "users", NDCG, "gap", "exposure quality", "gap"], rows))
        for name, gap in entry["widest"].items():
            parts.append(
                html.note(
                    f"Widest known gap in {words(name)}: {gap['highest']} over {gap['lowest']}, "
                    f"{with_ci(gap['gap'], gap['ci'], '+')}; best baseline {gap['baseline_gap']:+.4f}."
                )
            )
        if entry["left_out"]:
            parts.append(html.note(f"Fewer than 30 users, left out: {', '.join(entry['left_out'])}."))
    return parts


def _gap(row: Figures, name: str) -> str:
    if f"{name}_gap" not in row:
        return "nobody to compare with"
    return with_ci(row[f"{name}_gap"], row[f"{name}_gap_ci"], "+") + (" *" if row[f"{name}_significant"] else "")


def _about(about: Figures) -> list[str]:
    labels = {
        "lists": "lists",
        "split": "split",
        "asked_at": "asked as of",
        "until": "purchases until",
        "days": "days of purchases",
        "users": "users asked",
        "users_new": "users asked for new items",
        "candidates": "candidate items",
        "list_length": "places of a list",
        "generation": "generation",
        "towers_until": "towers learned until",
        "ranker_until": "ranker learned until",
        "feature_hash": "feature hash of the model",
    }
    rows = [[label, f"{about[key]}"] for key, label in labels.items() if about.get(key) is not None]
    return [html.table(["", ""], rows), *(html.note(text) for text in about["notes"])]
