"""`python -m index …`: what an operator sees."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from index.__main__ import app
from index.generation import GenerationWriter, current_id, set_current


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """`<work_dir>/generations` of a shop, with two generations, the second current."""
    root = tmp_path / "work" / "generations"
    for text in ("first", "second"):
        with GenerationWriter(root) as writer:
            writer.add_bytes("data", text.encode())
            set_current(root, writer.publish({"text": text}))
    (tmp_path / "shop.toml").write_text(f'[shop]\nname = "small"\nwork_dir = "{tmp_path / "work"}"\n')
    return root


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def _refused(result: Result, message: str) -> None:
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


def test_list_shows_every_generation_and_marks_the_current(root: Path) -> None:
    result = run("list", "--root", root)
    assert result.exit_code == 0
    current = str(current_id(root))
    lines = result.stdout.splitlines()
    assert [line for line in lines if "current" in line and current in line.split("│")[2]]
    assert sum(generation.name in result.stdout for generation in root.glob("2*")) == 2


def test_list_names_what_is_wrong_with_a_manifest(root: Path) -> None:
    with (root / str(current_id(root)) / "manifest.json").open("ab") as file:
        file.write(b" ")
    result = run("list", "--root", root)
    assert result.exit_code == 0
    assert "ManifestMismatch" in result.stdout


def test_verify_the_current_one_a_given_one_or_all(root: Path) -> None:
    first = str(next(path.name for path in root.glob("2*") if path.name != current_id(root)))
    for arguments, count in (((), 1), ((first,), 1), (("--all",), 2)):
        result = run("verify", *arguments, "--root", root)
        assert result.exit_code == 0
        assert result.stdout.count("verified") == count


def test_verify_refuses_a_damaged_file_by_name(root: Path) -> None:
    (root / str(current_id(root)) / "data").write_bytes(b"SECOND")
    _refused(run("verify", "--root", root), f"generation {current_id(root)}: data has SHA-256")


def test_activate_and_rollback(root: Path, tmp_path: Path) -> None:
    second = str(current_id(root))
    first = str(next(path.name for path in root.glob("2*") if path.name != second))
    config = tmp_path / "shop.toml"
    assert run("rollback", "--config", config).stdout == f"current: {first} (was {second})\n"
    assert run("activate", second, "--config", config).stdout == f"current: {second}\n"
    assert current_id(root) == second


def test_a_key_file_refuses_unsigned_generations(root: Path, tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_bytes(b"0123456789abcdef")
    _refused(run("verify", "--root", root, "--key-file", key_file), "manifest.sig is missing")
    _refused(run("activate", current_id(root), "--root", root, "--key-file", key_file), "manifest.sig is missing")


@pytest.mark.parametrize("command", ["list", "verify", "rollback"])
def test_where_the_generations_are_must_be_told_once(command: str, root: Path, tmp_path: Path) -> None:
    _refused(run(command), "either --root DIR or --config")
    _refused(run(command, "--root", root, "--config", tmp_path / "shop.toml"), "either --root DIR or --config")
    _refused(run(command, "--root", tmp_path / "missing"), "no directory of generations")


@pytest.mark.parametrize(
    ("content", "message"),
    [("[shop", "is not TOML"), ("[items]", "has no [shop] work_dir"), ("[shop]\nwork_dir = 7", "is 7, not a string")],
)
def test_a_shop_config_without_a_place_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "bad.toml").write_text(content)
    _refused(run("list", "--config", tmp_path / "bad.toml"), message)


def test_a_missing_shop_config_is_named(tmp_path: Path) -> None:
    _refused(run("list", "--config", tmp_path / "none.toml"), "none.toml cannot be read: No such file")


def test_an_id_that_is_none_is_refused(root: Path) -> None:
    _refused(run("activate", "latest", "--root", root), "'latest' is no generation id")
