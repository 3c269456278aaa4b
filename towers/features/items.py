"""What the item tower sees of the catalogue: id codes, attribute codes, numbers and words, one row an item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from towers.features.histories import FloatArray, Int32Array
from towers.features.vocabularies import Vocabulary, word_buckets


@dataclass(frozen=True)
class ItemEncoder:
    """Turns a catalogue into arrays with the vocabularies and scales of training; a newer catalogue is welcome.

    Attributes:
        ids: items that have an id embedding; others get code 0 and live by their attributes.
        categorical: vocabulary of each categorical attribute.
        numeric: (mean, standard deviation) of each numeric attribute.
        text: names of the text attributes.
    """

    ids: Vocabulary
    categorical: Mapping[str, Vocabulary]
    numeric: Mapping[str, tuple[float, float]]
    text: tuple[str, ...]

    @classmethod
    def fit(
        cls,
        items: pl.DataFrame,
        frequent_ids: Sequence[str],
        categorical: Sequence[str],
        numeric: Sequence[str],
        text: Sequence[str],
    ) -> ItemEncoder:
        """Learns vocabularies and scales from the training catalogue."""
        scales = {}
        for name in numeric:
            column = items[name].to_numpy().astype(np.float64)
            scales[name] = (float(column.mean()), float(column.std()) or 1.0)
        vocabularies = {name: Vocabulary.of(items[name].to_list()) for name in categorical}
        return cls(Vocabulary.of(frequent_ids), vocabularies, scales, tuple(text))

    def encode(self, items: pl.DataFrame) -> ItemArrays:
        """The catalogue's rows as arrays, in the catalogue's order; columns as ingest writes them."""
        count = len(items)
        codes = [vocabulary.codes(items[name].to_list()) for name, vocabulary in self.categorical.items()]
        numbers = [
            ((items[name].to_numpy().astype(np.float64) - mean) / deviation).clip(-5, 5).astype(np.float32)
            for name, (mean, deviation) in self.numeric.items()
        ]
        words = [word_buckets(items[name].to_list()) for name in self.text]
        return ItemArrays(
            id_code=self.ids.codes(items["item_id"].to_list()),
            attribute_code=np.stack(codes, axis=1) if codes else np.zeros((count, 0), np.int32),
            number=np.stack(numbers, axis=1) if numbers else np.zeros((count, 0), np.float32),
            word=np.concatenate(words, axis=1) if words else np.zeros((count, 0), np.int32),
        )


@dataclass(frozen=True, slots=True)
class ItemArrays:
    """n items as the item tower reads them.

    Attributes:
        id_code: (n,) int32, 0 without an id embedding.
        attribute_code: (n, A) int32, 0 for an unseen value.
        number: (n, M) float32, standardised.
        word: (n, W) int32 hash buckets, 0 pads.
    """

    id_code: Int32Array
    attribute_code: NDArray[np.int32]
    number: FloatArray
    word: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.id_code)

    def take(self, rows: NDArray[np.integer]) -> ItemArrays:
        """The items of the given rows (m,)."""
        return ItemArrays(self.id_code[rows], self.attribute_code[rows], self.number[rows], self.word[rows])
