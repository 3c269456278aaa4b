"""The optional signature: HMAC-SHA256 over the manifest, whose checksums cover every other file.

Without a key the directory is trusted as far as its checksums go; with one, whoever can write to the directory but does
not hold the key cannot make the server load anything.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from index.generation.errors import SignatureKeyInvalid, SignatureMismatch, SignatureMissing
from index.generation.layout import SIGNATURE_NAME

SIGNATURE_SIZE_BYTES_MAX = 1024
_KEY_SIZE_BYTES_MIN = 16
_KEY_SIZE_BYTES_MAX = 4096


def read_key(path: Path) -> bytes:
    """The key in a file, without the line break at its end. Raises SignatureKeyInvalid."""
    try:
        with path.open("rb") as file:
            key = file.read(_KEY_SIZE_BYTES_MAX + 3).rstrip(b"\r\n")
    except OSError as error:
        raise SignatureKeyInvalid(f"the signature key {path} cannot be read: {error.strerror}") from error
    if not _KEY_SIZE_BYTES_MIN <= len(key) <= _KEY_SIZE_BYTES_MAX:
        raise SignatureKeyInvalid(
            f"the signature key {path} has {len(key)} bytes, not {_KEY_SIZE_BYTES_MIN} to {_KEY_SIZE_BYTES_MAX}"
        )
    return key


def sign(manifest: bytes, key: bytes) -> bytes:
    """The content of manifest.sig."""
    return b"hmac-sha256 " + hmac.new(key, manifest, hashlib.sha256).hexdigest().encode() + b"\n"


def check_signature(generation_id: str, manifest: bytes, signature: bytes | None, key: bytes) -> None:
    """Raises SignatureMissing, SignatureMismatch."""
    if signature is None:
        raise SignatureMissing(f"generation {generation_id}: {SIGNATURE_NAME} is missing, and a key is configured")
    if not hmac.compare_digest(signature, sign(manifest, key)):
        raise SignatureMismatch(f"generation {generation_id}: {SIGNATURE_NAME} does not fit the manifest and the key")
