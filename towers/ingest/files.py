"""The shop's files: find them, open them lazily, and say clearly what is wrong with them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from glob import glob
from pathlib import Path

import polars as pl

from towers.schema.config import PACKAGE_PREFIX, Source
from towers.schema.errors import (
    ColumnTypeError,
    EmptyFileError,
    MissingColumnError,
    MissingFileError,
    UnreadableFileError,
)

_PARQUET_SUFFIXES = (".parquet", ".pq")
_CSV_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")


def find_files(source: str, patterns: Sequence[str]) -> list[Path]:
    """Find the files of a source: of each pattern in turn, in the order of their names.

    Raises:
        MissingFileError: a pattern finds nothing.
    """
    found: list[Path] = []
    for pattern in patterns:
        if pattern.startswith(PACKAGE_PREFIX):
            matches = [_package_file(source, pattern)]
        else:
            matches = [Path(pattern)] if Path(pattern).is_file() else sorted(Path(match) for match in glob(pattern))
            matches = [match for match in matches if match.is_file()]
        if not matches:
            raise MissingFileError(f"[{source}] files: there is no file {pattern}")
        found += [match for match in matches if match not in found]
    return found


def scan_file(file: Path, config: Source) -> pl.LazyFrame:
    """Open a file lazily; all columns of a CSV file are text.

    Raises:
        EmptyFileError: the file has no bytes.
        UnreadableFileError: its name says neither CSV nor Parquet.
    """
    name = file.name.lower()
    if file.stat().st_size == 0:
        raise EmptyFileError(f"{file}: the file is empty (0 bytes)")
    if name.endswith(_PARQUET_SUFFIXES):
        return pl.scan_parquet(file, glob=False)
    if name.endswith(_CSV_SUFFIXES):
        return pl.scan_csv(
            file,
            glob=False,
            infer_schema=False,
            separator=config.csv.separator,
            null_values=list(config.csv.null_values) or None,
        )
    raise UnreadableFileError(
        f"{file}: unknown kind of file; expected one of {', '.join(_PARQUET_SUFFIXES + _CSV_SUFFIXES)}"
    )


def require_columns(file: Path, schema: pl.Schema, wanted: dict[str, str]) -> None:
    """Check that the file has the columns; `wanted` maps each to the config's key that names it.

    Raises:
        MissingColumnError: names all that are missing, and the columns that are there.
    """
    missing = [f"{column!r} (from {key})" for column, key in wanted.items() if column not in schema]
    if missing:
        raise MissingColumnError(f"{file}: no column {', '.join(missing)}; the file has {', '.join(schema.names())}")


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Turn what polars raises while it reads `file` into an error that names the file."""
    try:
        yield
    except ColumnTypeError as error:
        raise ColumnTypeError(f"{file}: {error}") from error
    except pl.exceptions.NoDataError as error:
        raise EmptyFileError(f"{file}: the file is empty") from error
    except (pl.exceptions.PolarsError, OSError) as error:
        first_line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UnreadableFileError(f"{file}: cannot be read: {first_line}") from error


def _package_file(source: str, pattern: str) -> Path:
    package, _, inside = pattern.removeprefix(PACKAGE_PREFIX).partition("/")
    # find_spec, not importlib.resources: the latter runs the package's own imports, pandas for one.
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise MissingFileError(f"[{source}] files: {pattern}: the Python package {package!r} is not installed")
    file = Path(spec.submodule_search_locations[0], inside)
    if not file.is_file():
        raise MissingFileError(f"[{source}] files: {pattern}: there is no file {file}")
    return file
