"""What can be wrong with a shop's configuration, its files or its dataset.

Every message says what was wrong, where (file, row, column), with what value, and what to do about it.

    DataError
    ├── ConfigError              the shop's TOML file cannot be read or has a wrong key or value
    ├── DatasetError             a dataset directory is missing, incomplete or of another format
    ├── LogTooShortError         the log holds too little to learn from at the moments that the settings ask for
    ├── ModelInvalid             a trained model is missing, damaged or of other features (towers/model.py)
    └── IngestError              the shop's own files cannot become a dataset
        ├── MissingFileError     a path or glob of the config finds no file
        ├── UnreadableFileError  a file is not what its name says
        ├── EmptyFileError       a file without a single row
        ├── MissingColumnError   a column that the config names is not in the file
        ├── ColumnTypeError      a column's type cannot hold what the config says it holds
        ├── UncleanRowError      a row that no dataset can hold, while its rule is switched off
        ├── RejectRatioError     more rows quarantined than `reject_ratio_max`
        ├── NothingLeftError     no row survived the cleaning
        └── IngestRunningError   another ingest of the same shop is at work
"""

from __future__ import annotations


class DataError(Exception):
    """Anything wrong with configuration or data; commands print it as one line and exit with status 1."""


class ConfigError(DataError):
    """The shop's TOML file cannot be read or has a wrong key or value."""


class DatasetError(DataError):
    """A dataset directory is missing, incomplete or of another format."""


class LogTooShortError(DataError):
    """The log holds too little to learn from at the moments that the settings ask for."""


class IngestError(DataError):
    """The shop's own files cannot become a dataset."""


class MissingFileError(IngestError):
    """A path or glob of the config finds no file."""


class UnreadableFileError(IngestError):
    """A file is not what its name says."""


class EmptyFileError(IngestError):
    """A file without a single row."""


class MissingColumnError(IngestError):
    """A column that the config names is not in the file."""


class ColumnTypeError(IngestError):
    """A column's type cannot hold what the config says it holds."""


class UncleanRowError(IngestError):
    """A row that no dataset can hold, while the rule that would quarantine it is switched off."""


class RejectRatioError(IngestError):
    """More rows quarantined than `reject_ratio_max` allows."""


class NothingLeftError(IngestError):
    """No row survived the cleaning."""


class IngestRunningError(IngestError):
    """Another ingest of the same shop is at work."""
