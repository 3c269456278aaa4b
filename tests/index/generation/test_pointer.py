"""CURRENT: replaced in one step, and the way back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from index.generation import (
    ChecksumMismatch,
    GenerationIdInvalid,
    GenerationNotFound,
    NothingToRollBackTo,
    PointerInvalid,
    activate,
    current_id,
    list_generations,
    open_generation,
    rollback,
    set_current,
)
from index.generation import pointer as pointer_module

Publish = Callable[..., str]


def test_without_a_pointer_nothing_is_current(root: Path, publish: Publish) -> None:
    assert current_id(root) is None
    publish()
    assert current_id(root) is None


def test_activating_points_at_a_verified_generation(root: Path, publish: Publish) -> None:
    generation_id = publish()
    assert activate(root, generation_id).id == generation_id
    assert current_id(root) == generation_id
    assert (root / "CURRENT").read_text() == generation_id + "\n"


def test_a_damaged_generation_does_not_become_current(root: Path, publish: Publish) -> None:
    good, bad = publish("good"), publish("bad")
    activate(root, good)
    path = root / bad / "golden.json"
    path.write_bytes(path.read_bytes().replace(b"answers", b"answerS"))
    with pytest.raises(ChecksumMismatch, match=r"golden\.json"):
        activate(root, bad)
    assert current_id(root) == good


@pytest.mark.parametrize("content", ["", "../../etc", "x" * 5000, "\xff", "20260131T120000-0123456789ABCDEF"])
def test_a_pointer_that_holds_no_id_is_refused(root: Path, content: str) -> None:
    root.mkdir()
    (root / "CURRENT").write_text(content)
    with pytest.raises(PointerInvalid, match="is no generation id"):
        current_id(root)


def test_a_pointer_to_nowhere_is_not_set(root: Path, publish: Publish) -> None:
    publish()
    with pytest.raises(GenerationNotFound):
        set_current(root, "20260131T120000-0123456789abcdef")
    with pytest.raises(GenerationIdInvalid):
        set_current(root, "..")
    with pytest.raises(GenerationNotFound):
        set_current(root / "missing", "20260131T120000-0123456789abcdef")
    assert current_id(root) is None


def test_each_rollback_goes_one_generation_further_back(root: Path, publish: Publish) -> None:
    first, second, third = (publish(text) for text in ("first", "second", "third"))
    for generation_id in (first, second, second, third):
        set_current(root, generation_id)
    assert rollback(root) == second
    assert rollback(root) == first
    with pytest.raises(NothingToRollBackTo, match=f"before {first}"):
        rollback(root)
    assert current_id(root) == first


def test_after_a_rollback_and_a_new_generation_the_abandoned_one_is_not_returned_to(
    root: Path, publish: Publish
) -> None:
    first, bad, fixed = (publish(text) for text in ("first", "bad", "fixed"))
    set_current(root, first)
    set_current(root, bad)
    rollback(root)
    set_current(root, fixed)
    assert rollback(root) == first


def test_activating_an_older_generation_by_hand_can_be_undone(root: Path, publish: Publish) -> None:
    first, second = publish("first"), publish("second")
    for generation_id in (first, second, first):
        set_current(root, generation_id)
    assert rollback(root) == second


def test_nothing_to_roll_back_to_in_an_empty_root(root: Path) -> None:
    root.mkdir()
    with pytest.raises(NothingToRollBackTo):
        rollback(root)


def test_a_rollback_to_a_damaged_generation_changes_nothing(root: Path, publish: Publish) -> None:
    first, second = publish("first"), publish("second")
    set_current(root, first)
    set_current(root, second)
    (root / first / "golden.json").write_bytes(b"other content..")
    with pytest.raises(ChecksumMismatch, match=first):
        rollback(root)
    assert current_id(root) == second


@pytest.mark.parametrize("torn", [b'{"at": "2026-01-3', b"\xff\xfe", b"[]", b'{"action": "activate", "id": "../x"}'])
def test_a_torn_line_of_the_history_is_left_out(root: Path, publish: Publish, torn: bytes) -> None:
    first, second = publish("first"), publish("second")
    set_current(root, first)
    with (root / "HISTORY").open("ab") as file:
        file.write(torn)
    set_current(root, second)
    assert rollback(root) == first


def test_a_crash_between_pointer_and_history_does_not_lose_the_way_back(
    root: Path, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (publish(text) for text in ("first", "second", "third"))
    set_current(root, first)
    set_current(root, second)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pointer_module, "append_durably", crash)
        with pytest.raises(KeyboardInterrupt):
            set_current(root, third)
    assert current_id(root) == third
    assert rollback(root) == second

    with monkeypatch.context() as patch:
        patch.setattr(pointer_module, "append_durably", crash)
        with pytest.raises(KeyboardInterrupt):
            rollback(root)
    assert current_id(root) == first
    with pytest.raises(NothingToRollBackTo):
        rollback(root)


def test_readers_see_the_old_or_the_new_pointer_while_it_is_replaced(root: Path, publish: Publish) -> None:
    ids = [publish("a"), publish("b")]
    set_current(root, ids[0])
    done = threading.Event()
    seen: set[str | None] = set()
    failures: list[Exception] = []

    def read() -> None:
        try:
            while not done.is_set():
                generation_id = current_id(root)
                seen.add(generation_id)
                assert generation_id is not None
                open_generation(root, generation_id)
        except Exception as failure:
            failures.append(failure)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for turn in range(150):
        set_current(root, ids[turn % 2])
    done.set()
    for reader in readers:
        reader.join(timeout=30)
    assert failures == []
    assert seen == set(ids)
    assert not list(root.glob(".tmp-*"))
    assert sorted(list_generations(root)) == sorted(ids)
