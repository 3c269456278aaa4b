"""Ranked lists with the score and the sources of every place, and the file in which served lists are kept.

One row a place: `question` (all, new), `user`, `rank` from 1, `item`, `score`, `sources` (names joined by +),
`asked_at` (ISO 8601) and `generation`; as Parquet or as a JSON array of such objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from towers.candidates import SourceBits
from towers.evaluation import EvaluationSet
from towers.features.histories import FloatArray, Int32Array
from towers.further_candidates import FURTHER_BITS
from towers.schema import DataError, Dataset

SOURCE_BIT_OF: dict[str, int] = {"two_tower": 1, "buy_again": 2, "popular": 4, "similar": 8} | FURTHER_BITS
"""Every source's bit, in the order of the bits."""

COLUMNS = {
    "question": pl.String,
    "user": pl.String,
    "rank": pl.Int64,
    "item": pl.String,
    "score": pl.Float64,
    "sources": pl.String,
    "asked_at": pl.String,
    "generation": pl.String,
}


class ListsInvalid(DataError, ValueError):
    """A file of served lists that does not answer this report's questions; the message says why."""


@dataclass(frozen=True, eq=False)
class RankedLists:
    """One list for each of U users.

    Attributes:
        rows: (U, K) int32 item rows, best first, -1 pads.
        scores: (U, K) float32 probabilities; NaN where there is no item or no score is known.
        sources: (U, K) uint32 bits of SOURCE_BIT_OF; 0 at pads and where nothing is known.
    """

    rows: Int32Array
    scores: FloatArray
    sources: SourceBits

    @classmethod
    def empty(cls, user_count: int, k: int) -> RankedLists:
        """Lists without items, to be filled."""
        shape = (user_count, k)
        return cls(np.full(shape, -1, np.int32), np.full(shape, np.nan, np.float32), np.zeros(shape, np.uint32))


def bits_of(names: str) -> int:
    """`two_tower+popular` → bits; a name that is not known counts as nothing."""
    return sum(SOURCE_BIT_OF.get(name, 0) for name in set(names.split("+")))


def names_of(bits: int) -> str:
    """Bits → `two_tower+popular`."""
    return "+".join(name for name, bit in SOURCE_BIT_OF.items() if bits & bit)


def lists_table(
    dataset: Dataset, asked: EvaluationSet, question: str, lists: RankedLists, generation: str
) -> pl.DataFrame:
    """The lists as rows of the file."""
    user, place = np.nonzero(lists.rows >= 0)
    sources = {int(bits): names_of(int(bits)) for bits in np.unique(lists.sources)}
    return pl.DataFrame(
        {
            "question": [question] * len(user),
            "user": dataset.users["user_id"].gather(asked.user_rows[user]),
            "rank": place + 1,
            "item": dataset.items["item_id"].gather(lists.rows[user, place]),
            "score": lists.scores[user, place].astype(np.float64),
            "sources": [sources[int(bits)] for bits in lists.sources[user, place]],
            "asked_at": [_iso(asked.asked_at_s)] * len(user),
            "generation": [generation] * len(user),
        },
        schema=COLUMNS,
    )


def write_lists(path: Path, table: pl.DataFrame) -> None:
    """Parquet or JSON by the file's ending. Raises ListsInvalid on another one."""
    if path.suffix == ".parquet":
        table.write_parquet(path)
    elif path.suffix == ".json":
        table.with_columns(pl.col("score").fill_nan(None)).write_json(path)
    else:
        raise ListsInvalid(f"{path}: lists are written as .parquet or .json, not as {path.suffix or 'a bare name'}")


def read_table(path: Path) -> pl.DataFrame:
    """The rows of a file of lists. Raises ListsInvalid."""
    try:
        table = pl.read_json(path, schema=COLUMNS) if path.suffix == ".json" else pl.read_parquet(path, glob=False)
        return table.select(pl.col(name).cast(dtype) for name, dtype in COLUMNS.items())
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ListsInvalid(f"{path}: no file of lists as client.evaluate --lists writes it: {error}") from error


def lists_of(table: pl.DataFrame, dataset: Dataset, asked: EvaluationSet, question: str) -> tuple[RankedLists, int]:
    """The lists of one question, and for how many of its users there is none (an empty list).

    Raises:
        ListsInvalid: asked at another moment, an item that the dataset does not know, a rank that is no place or is
            named twice, or nobody of this question.
    """
    table = table.filter(pl.col("question") == question)
    moments = table["asked_at"].unique().to_list()
    if moments != [_iso(asked.asked_at_s)]:
        raise ListsInvalid(f"lists of question {question!r} were asked at {moments}, not at {_iso(asked.asked_at_s)}")
    place_of = {user: place for place, user in enumerate(dataset.users["user_id"].gather(asked.user_rows).to_list())}
    places = pl.Series([place_of.get(user, -1) for user in table["user"].to_list()], dtype=pl.Int64)
    table = table.with_columns(place=places).filter(pl.col("place") >= 0)
    if not table.height:
        raise ListsInvalid(f"lists of question {question!r} hold none of the {asked.user_count} users asked")
    place, rank = table["place"].to_numpy(), table["rank"].to_numpy()
    if rank.min() < 1 or len(np.unique(place * (rank.max() + 1) + rank)) != len(rank):
        raise ListsInvalid(f"lists of question {question!r}: a rank is below 1 or stands twice in a list")
    lists = RankedLists.empty(asked.user_count, int(rank.max()))
    lists.rows[place, rank - 1] = _item_rows(table["item"].to_list(), dataset)
    lists.scores[place, rank - 1] = table["score"].fill_null(float("nan")).to_numpy()
    lists.sources[place, rank - 1] = [bits_of(names) for names in table["sources"].fill_null("").to_list()]
    return lists, asked.user_count - len(np.unique(place))


def _item_rows(item_ids: list[str], dataset: Dataset) -> NDArray[np.int32]:
    row_of = {item: row for row, item in enumerate(dataset.items["item_id"].to_list())}
    strangers = sorted({item for item in item_ids if item not in row_of})
    if strangers:
        raise ListsInvalid(f"lists name {len(strangers)} items that the dataset does not know, such as {strangers[0]}")
    return np.array([row_of[item] for item in item_ids], np.int32)


def _iso(time_s: int) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat()
