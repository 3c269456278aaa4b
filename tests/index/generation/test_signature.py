"""The optional signature: whoever does not hold the key cannot make a generation load."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from index.generation import (
    GenerationWriter,
    NotRegularFile,
    SignatureKeyInvalid,
    SignatureMismatch,
    SignatureMissing,
    SizeMismatch,
    activate,
    current_id,
    open_generation,
    read_key,
    rollback,
)

Publish = Callable[..., str]
KEY = b"a key of enough length"


def test_a_signed_generation_opens_with_its_key_and_without_one(root: Path, publish: Publish) -> None:
    generation_id = publish(key=KEY)
    assert (root / generation_id / "manifest.sig").read_bytes().startswith(b"hmac-sha256 ")
    for key in (KEY, None):
        assert open_generation(root, generation_id, key).id == generation_id


def test_another_key_is_refused(root: Path, publish: Publish) -> None:
    generation_id = publish(key=KEY)
    with pytest.raises(SignatureMismatch, match=f"{generation_id}: manifest.sig does not fit"):
        open_generation(root, generation_id, b"another key of length")


def test_an_unsigned_generation_is_refused_when_a_key_is_configured(root: Path, publish: Publish) -> None:
    generation_id = publish()
    with pytest.raises(SignatureMissing, match=f"{generation_id}: manifest.sig is missing"):
        open_generation(root, generation_id, KEY)


def test_the_signature_of_another_generation_is_refused(root: Path, publish: Publish) -> None:
    signed, other = publish("signed", key=KEY), publish("other")
    (root / other / "manifest.sig").write_bytes((root / signed / "manifest.sig").read_bytes())
    with pytest.raises(SignatureMismatch):
        open_generation(root, other, KEY)


@pytest.mark.parametrize("content", [b"", b"hmac-sha256 \n", b"\xff" * 2000])
def test_a_signature_of_any_other_content_is_refused(root: Path, publish: Publish, content: bytes) -> None:
    generation_id = publish(key=KEY)
    (root / generation_id / "manifest.sig").write_bytes(content)
    with pytest.raises((SignatureMismatch, SizeMismatch), match=r"manifest\.sig"):
        open_generation(root, generation_id, KEY)


def test_a_linked_signature_is_refused(root: Path, publish: Publish, tmp_path: Path) -> None:
    generation_id = publish(key=KEY)
    path = root / generation_id / "manifest.sig"
    os.rename(path, tmp_path / "sig")
    path.symlink_to(tmp_path / "sig")
    for key in (KEY, None):
        with pytest.raises(NotRegularFile, match=r"manifest\.sig"):
            open_generation(root, generation_id, key)


def test_activation_and_rollback_ask_for_the_signature(root: Path, publish: Publish) -> None:
    unsigned, signed = publish("unsigned"), publish("signed", key=KEY)
    with pytest.raises(SignatureMissing):
        activate(root, unsigned, KEY)
    activate(root, unsigned)
    activate(root, signed, KEY)
    with pytest.raises(SignatureMissing):
        rollback(root, KEY)
    assert current_id(root) == signed


def test_a_key_comes_from_a_file_without_its_line_break(tmp_path: Path, root: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(KEY + b"\r\n")
    assert read_key(path) == KEY
    with GenerationWriter(root, read_key(path)) as writer:
        open_generation(root, writer.publish({}), KEY)


@pytest.mark.parametrize("content", [b"", b"short\n", b"x" * 5000])
def test_a_key_too_short_or_too_long_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(SignatureKeyInvalid, match="not 16 to 4096"):
        read_key(path)


def test_a_key_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SignatureKeyInvalid, match="nokey cannot be read: No such file"):
        read_key(tmp_path / "nokey")
