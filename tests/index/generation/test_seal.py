"""A seal: files that still have their mark are not hashed again, and every other one is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from index.generation import ChecksumMismatch, GenerationError, Seal, open_generation
from index.generation import seal as seal_module
from index.generation.seal import FileMark

Publish = Callable[..., str]
FILES = {"empty", "golden.json", "weights.safetensors"}


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a test are young; only one test is about that."""
    monkeypatch.setattr(seal_module, "SETTLED_AFTER_S", 0.0)


def flip_first_bit(path: Path) -> None:
    """In place: the same inode, the same size."""
    with path.open("r+b") as file:
        first = file.read(1)[0]
        file.seek(0)
        file.write(bytes([first ^ 1]))


def mark_of(path: Path) -> FileMark:
    with path.open("rb") as file:
        return FileMark.of(file.fileno())


def test_a_verified_generation_has_a_mark_for_every_file_and_opens_with_them(root: Path, publish: Publish) -> None:
    generation_id = publish()
    seal = open_generation(root, generation_id).seal
    assert set(seal.marks) == FILES
    assert open_generation(root, generation_id, seal=seal).seal == seal
    assert Seal.model_validate_json(seal.model_dump_json()) == seal


def test_a_file_with_its_mark_is_not_hashed_again(root: Path, publish: Publish) -> None:
    """Only so does a seal spare anything: whoever makes one answers for it."""
    generation_id = publish()
    golden = root / generation_id / "golden.json"
    flip_first_bit(golden)
    lying = Seal(generation_id=generation_id, marks={"golden.json": mark_of(golden)})
    open_generation(root, generation_id, seal=lying)
    with pytest.raises(ChecksumMismatch, match=r"golden\.json"):
        open_generation(root, generation_id)


def test_a_bit_flipped_after_the_seal_is_found_even_when_the_times_are_set_back(root: Path, publish: Publish) -> None:
    for name in ("golden.json", "weights.safetensors"):
        generation_id = publish(name)
        seal = open_generation(root, generation_id).seal
        path = root / generation_id / name
        before = path.stat()
        flip_first_bit(path)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        with pytest.raises(ChecksumMismatch, match=name):
            open_generation(root, generation_id, seal=seal)


def test_a_file_that_was_replaced_is_hashed(root: Path, publish: Publish) -> None:
    generation_id = publish()
    seal = open_generation(root, generation_id).seal
    golden = root / generation_id / "golden.json"
    other = golden.with_name("other")
    other.write_bytes(golden.read_bytes()[::-1])
    os.replace(other, golden)
    with pytest.raises(ChecksumMismatch, match=r"golden\.json"):
        open_generation(root, generation_id, seal=seal)


def test_a_seal_of_another_generation_spares_nothing(root: Path, publish: Publish) -> None:
    first, second = publish("first"), publish("second")
    golden = root / second / "golden.json"
    flip_first_bit(golden)
    seal = Seal(generation_id=first, marks={"golden.json": mark_of(golden)})
    with pytest.raises(ChecksumMismatch, match=r"golden\.json"):
        open_generation(root, second, seal=seal)


def test_the_manifest_and_the_directory_are_looked_at_in_any_case(root: Path, publish: Publish) -> None:
    generation_id = publish()
    seal = open_generation(root, generation_id).seal
    (root / generation_id / "evil.pickle").touch()
    with pytest.raises(GenerationError, match=r"evil\.pickle"):
        open_generation(root, generation_id, seal=seal)
    (root / generation_id / "evil.pickle").unlink()
    flip_first_bit(root / generation_id / "manifest.json")
    with pytest.raises(GenerationError, match=r"manifest\.json"):
        open_generation(root, generation_id, seal=seal)


def test_a_file_that_has_just_changed_gets_no_mark(
    root: Path, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another change within the same tick of the kernel's clock would leave it as it is."""
    monkeypatch.setattr(seal_module, "SETTLED_AFTER_S", 3600.0)
    assert open_generation(root, publish()).seal.marks == {}
