"""What can be wrong with a generation; every message names the generation, the file, what was expected and found.

Exception
└── GenerationError
    ├── GenerationIdInvalid       not of the form 20260131T120000-0123456789abcdef
    ├── GenerationNotFound        no directory of that name
    ├── ManifestError
    │   ├── ManifestMismatch      the manifest's hash is not the one in the id
    │   ├── ManifestInvalid       too large, not JSON, or not the fields that the format has
    │   └── FormatUnsupported     a format version that this program does not read
    ├── FileError
    │   ├── FileNameInvalid       a name that a generation's file may not have
    │   ├── MissingFile           listed in the manifest, not in the directory; or asked for and not listed
    │   ├── UnexpectedFile        in the directory, not in the manifest
    │   ├── NotRegularFile        a link, a directory, a pipe
    │   ├── SizeMismatch
    │   └── ChecksumMismatch
    ├── SignatureError
    │   ├── SignatureKeyInvalid   the key's file is missing or too short
    │   ├── SignatureMissing
    │   └── SignatureMismatch
    ├── PublishError              the writer was used wrongly, or the generation exists
    └── PointerError
        ├── PointerInvalid        CURRENT holds no generation id
        ├── PointerMoved          another generation became current meanwhile
        └── NothingToRollBackTo
"""

from __future__ import annotations


class GenerationError(Exception):
    """Base of everything that is wrong with a generation."""


class GenerationIdInvalid(GenerationError):
    """Not a generation id."""


class GenerationNotFound(GenerationError):
    """No generation of that id."""


class ManifestError(GenerationError):
    """The manifest cannot be used."""


class ManifestMismatch(ManifestError):
    """The manifest is not the one that the id names."""


class ManifestInvalid(ManifestError):
    """The manifest cannot be read."""


class FormatUnsupported(ManifestError):
    """A format version that this program does not read."""


class FileError(GenerationError):
    """A file of the generation is not what the manifest says."""


class FileNameInvalid(FileError):
    """A name that a generation's file may not have."""


class MissingFile(FileError):
    """A file that should be there is not."""


class UnexpectedFile(FileError):
    """A file that the manifest does not list."""


class NotRegularFile(FileError):
    """A link, a directory or another special file."""


class SizeMismatch(FileError):
    """A file of another size."""


class ChecksumMismatch(FileError):
    """A file of other content."""


class SignatureError(GenerationError):
    """The signature cannot be accepted."""


class SignatureKeyInvalid(SignatureError):
    """The key cannot be used."""


class SignatureMissing(SignatureError):
    """A key is configured and the generation is not signed."""


class SignatureMismatch(SignatureError):
    """The signature was made with another key or for another manifest."""


class PublishError(GenerationError):
    """The generation cannot be published."""


class PointerError(GenerationError):
    """The pointer to the current generation cannot be used."""


class PointerInvalid(PointerError):
    """CURRENT holds something else than a generation id."""


class PointerMoved(PointerError):
    """CURRENT names another generation than the one that was to be replaced."""


class NothingToRollBackTo(PointerError):
    """No generation was current before this one."""
