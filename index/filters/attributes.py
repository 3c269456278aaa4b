"""The attributes of a generation's items: categories as codes, numbers as float32, row by row.

Two files of a generation: `attributes.safetensors` holds one tensor an attribute, `attributes.json` names them, their
kinds and the values that codes stand for. The tensors are mapped copy-on-write: what is set at run time is seen by
this process alone, and the pages that nobody changes are shared by all.

Errors:
    ValueError
    └── AttributesInvalid   the files contradict each other, or a row cannot be set so
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from index.filters.kinds import AttributeKind as AttributeKind
from index.filters.kinds import Value as Value
from index.mapped_tensors import TensorFileInvalid, open_tensors

ATTRIBUTES_FILE, VOCABULARIES_FILE = "attributes.safetensors", "attributes.json"
UNKNOWN = "unknown"
"""The value of a category that an item does not have; the datasets call it so, too. A missing number is NaN."""

Codes = npt.NDArray[np.int32]
Numbers = npt.NDArray[np.float32]


class AttributesInvalid(ValueError):
    """Attributes that contradict each other; the message names file, attribute and value."""


class AttributeTable:
    """The attributes of n rows, the last of which may be spare ones that no item has taken yet.

    A row is changed by one thread at a time; readers on others see each attribute of it before or after.
    """

    def __init__(
        self,
        codes: Mapping[str, Codes],
        vocabularies: Mapping[str, Sequence[str]],
        numbers: Mapping[str, Numbers],
        texts: Sequence[str] = (),
        row_count: int | None = None,
    ) -> None:
        """`codes` (n,) int32 into `vocabularies` of the same name; `numbers` (n,) float32; `texts`: names alone.

        `row_count`: n, where there is no column that says it. Raises AttributesInvalid.
        """
        self._codes, self._numbers = dict(codes), dict(numbers)
        self._values = {name: list(vocabularies[name]) for name in codes}
        self._code_of = {name: {value: code for code, value in enumerate(self._values[name])} for name in codes}
        self._kinds = {
            **dict.fromkeys(self._codes, AttributeKind.CATEGORICAL),
            **dict.fromkeys(self._numbers, AttributeKind.NUMERIC),
            **dict.fromkeys(texts, AttributeKind.TEXT),
        }
        lengths = {len(column) for column in [*self._codes.values(), *self._numbers.values()]}
        if len(lengths | ({row_count} if row_count is not None else set())) > 1:
            raise AttributesInvalid(f"the columns of attributes have different lengths: {sorted(lengths)}")
        self._row_count = lengths.pop() if lengths else row_count or 0
        self.version = 0
        """Counts the changes of rows."""

    @classmethod
    def of_columns(
        cls,
        categorical: Mapping[str, Sequence[str]],
        numeric: Mapping[str, npt.NDArray[np.float32]],
        texts: Sequence[str] = (),
        *,
        row_count: int,
        spare_count: int = 0,
    ) -> AttributeTable:
        """From the items' values, row by row, and as many spare rows behind them, of unknown attributes."""
        codes, vocabularies = {}, {}
        for name, values in categorical.items():
            vocabularies[name] = sorted({*values, UNKNOWN})
            code_of = {value: code for code, value in enumerate(vocabularies[name])}
            codes[name] = np.full(row_count + spare_count, code_of[UNKNOWN], np.int32)
            codes[name][:row_count] = [code_of[value] for value in values]
        spare = np.full(spare_count, np.nan, np.float32)
        numbers = {name: np.concatenate([values.astype(np.float32), spare]) for name, values in numeric.items()}
        return cls(codes, vocabularies, numbers, texts, row_count + spare_count)

    @classmethod
    def open(cls, columns_path: Path, path: Path) -> AttributeTable:
        """Map both files of a generation whose checksums have been verified. Raises AttributesInvalid, OSError."""
        try:
            facts = json.loads(path.read_bytes())
            tensors = open_tensors(columns_path, private=True)
            columns = {kind: facts[kind] for kind in AttributeKind}
            table = cls(
                {name: _typed(tensors[name], np.int32) for name in columns[AttributeKind.CATEGORICAL]},
                columns[AttributeKind.CATEGORICAL],
                {name: _typed(tensors[name], np.float32) for name in columns[AttributeKind.NUMERIC]},
                columns[AttributeKind.TEXT],
                int(facts["row_count"]),
            )
        except (TensorFileInvalid, KeyError, TypeError, ValueError) as error:
            raise AttributesInvalid(f"{path} and {ATTRIBUTES_FILE} hold no attributes: {error}") from error
        for name, codes in table._codes.items():
            if len(codes) and not 0 <= codes.min() <= codes.max() < table.code_count(name):
                raise AttributesInvalid(f"{ATTRIBUTES_FILE}: {name!r} has codes that {VOCABULARIES_FILE} does not name")
        return table

    def save(self, columns_path: Path, path: Path) -> None:
        """Write both files."""
        columns: dict[str, npt.NDArray[Any]] = {**self._codes, **self._numbers}
        save_file(columns, columns_path)
        facts = {
            "row_count": self._row_count,
            AttributeKind.CATEGORICAL: self._values,
            AttributeKind.NUMERIC: list(self._numbers),
            AttributeKind.TEXT: [name for name, kind in self._kinds.items() if kind is AttributeKind.TEXT],
        }
        path.write_text(json.dumps(facts, ensure_ascii=False))

    @property
    def row_count(self) -> int:
        """n."""
        return self._row_count

    @property
    def kinds(self) -> Mapping[str, AttributeKind]:
        """Every attribute and its kind."""
        return self._kinds

    def codes(self, name: str) -> Codes:
        """(n,) int32 of a categorical attribute."""
        return self._codes[name]

    def numbers(self, name: str) -> Numbers:
        """(n,) float32 of a numeric attribute; NaN where an item has none."""
        return self._numbers[name]

    def code(self, name: str, value: str) -> int:
        """The code of a category's value; -1 where no item has it."""
        return self._code_of[name].get(value, -1)

    def code_count(self, name: str) -> int:
        """How many codes a categorical attribute has."""
        return len(self._values[name])

    def row(self, row: int) -> dict[str, Value]:
        """The attributes of one row; those that it does not have are left out."""
        found: dict[str, Value] = {}
        for name, codes in self._codes.items():
            value = self._values[name][codes[row]]
            if value != UNKNOWN:
                found[name] = value
        for name, numbers in self._numbers.items():
            if not np.isnan(numbers[row]):
                found[name] = float(numbers[row])
        return found

    def set(self, row: int, attributes: Mapping[str, Value]) -> None:
        """Makes these the attributes of the row; those that are not named become unknown, texts are passed over.

        Masks must be told (`Masks.changed`). Raises AttributesInvalid, and changes nothing then.
        """
        if not 0 <= row < self._row_count:
            raise AttributesInvalid(f"row {row} is none of the {self._row_count} rows")
        for name, value in attributes.items():
            kind = self._kinds.get(name)
            if kind is None:
                raise AttributesInvalid(f"{name!r} is no attribute; known: {', '.join(sorted(self._kinds)) or 'none'}")
            wants = float | int if kind is AttributeKind.NUMERIC else str
            if not isinstance(value, wants) or (not isinstance(value, str) and not np.isfinite(value)):
                raise AttributesInvalid(f"{name!r} is {kind}, {value!r} is not")
        for name, codes in self._codes.items():
            codes[row] = self._code_for(name, str(attributes.get(name, UNKNOWN)))
        for name, numbers in self._numbers.items():
            numbers[row] = attributes.get(name, np.nan)
        self.version += 1

    def _code_for(self, name: str, value: str) -> int:
        """The code of a category's value, which may be a new one."""
        code = self._code_of[name].get(value)
        if code is None:
            code = len(self._values[name])
            self._values[name].append(value)  # before its code is known, so that every known code has a value
            self._code_of[name][value] = code
        return code


def _typed(column: npt.NDArray[Any], dtype: type[np.generic]) -> npt.NDArray[Any]:
    if column.dtype != dtype or column.ndim != 1:
        raise ValueError(f"a column is {column.dtype} of shape {column.shape}, expected {np.dtype(dtype)} of (n,)")
    return column
