"""Documentation and code stay together: the map of files, settings, metrics, dependencies, calls and links.

`python -m tests.test_docs` rewrites the generated parts (the map, the tables of learning settings).
"""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_health.v1 import health_pb2
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from twinrank.v1 import admin_pb2, catalog_pb2, events_pb2, recommendation_pb2

from index.config import IndexConfig
from towers.schema import Cleaning, EventsSection, ItemsSection, ShopConfig, UsersSection
from towers.settings import LearningSettings

ROOT = Path(__file__).parent.parent
ARCHITECTURE, DATA, OPERATIONS = (ROOT / "docs" / name for name in ("architecture.md", "data.md", "operations.md"))
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
ROOMS = ("towers", "index", "server", "client")
FILE_LINES_MAX = 400
# Imported, so that their services are known here.
CALLED = (recommendation_pb2, events_pb2, catalog_pb2, admin_pb2, health_pb2)


def sources(*folders: str) -> list[Path]:
    """The python files under the folders, relative to the root."""
    return sorted(path.relative_to(ROOT) for folder in folders for path in (ROOT / folder).rglob("*.py"))


def first_sentence(path: Path) -> str:
    """What a module says of itself, first line of its docstring, without a full stop."""
    docstring = ast.get_docstring(ast.parse((ROOT / path).read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0].removesuffix(".").replace("|", "\\|")


def the_map() -> str:
    """The map of the rooms' files, one table a folder."""
    tables: dict[str, list[str]] = {}
    for path in sources(*ROOMS):
        rows = tables.setdefault(f"{path.parent}/", [f"### `{path.parent}/`", "", "| File | What it is |", "|---|---|"])
        rows.append(f"| `{path.name}` | {first_sentence(path)} |")
    return "\n\n".join("\n".join(rows) for rows in tables.values()) + "\n\n"


def settings_tables() -> str:
    """The learning sections of a shop's TOML, one table a section, those within a section behind it."""
    parts: list[str] = []
    for name, field in LearningSettings.model_fields.items():
        parts += _tables(name, field)
    return "\n\n".join(parts) + "\n\n"


def _tables(name: str, field: FieldInfo) -> list[str]:
    section = field.annotation
    assert isinstance(section, type)
    assert issubclass(section, BaseModel)
    own = {key: entry for key, entry in section.model_fields.items() if not _is_section(entry)}
    rows = [f"### `[{name}]`", "", section.__doc__ or ""]
    if own:
        # What a section has for default may be another's than its class says.
        values = field.get_default() if field.default is not PydanticUndefined else section()
        rows += ["", "| Key | Default | Meaning |", "|---|---|---|"]
        rows += [f"| `{key}` | {_shown(getattr(values, key))} | {entry.description} |" for key, entry in own.items()]
    inner = [
        table
        for key, entry in section.model_fields.items()
        if key not in own
        for table in _tables(f"{name}.{key}", entry)
    ]
    return ["\n".join(rows), *inner]


def _is_section(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _shown(value: object) -> str:
    return "unset" if value is None else f"`{json.dumps(value)}`"


def generated(page: Path, name: str) -> tuple[str, str, str]:
    """A page before, in and after its generated part."""
    begin, end = f"<!-- {name}: generated, python -m tests.test_docs -->\n\n", f"<!-- end of {name} -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    inside, closed, after = rest.partition(end)
    assert found, f"{page.name} has no {begin!r}"
    assert closed, f"{page.name} has no {end!r}"
    return before + begin, inside, end + after


def blocks(page: Path, language: str) -> list[str]:
    """The fenced code blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def test_the_map_names_every_file_of_the_rooms_and_no_other() -> None:
    _, inside, _ = generated(ARCHITECTURE, "map")
    named = []
    folder = ""
    for line in inside.splitlines():
        if heading := re.fullmatch(r"### `(.+)/`", line):
            folder = heading[1]
        elif row := re.match(r"\| `(.+?)` \| ", line):
            named.append(f"{folder}/{row[1]}")
    assert sorted(named) == sorted(map(str, sources(*ROOMS))), "run python -m tests.test_docs"


@pytest.mark.parametrize("path", sources(*ROOMS, "tests"), ids=str)
def test_a_file_is_one_idea(path: Path) -> None:
    lines = (ROOT / path).read_text(encoding="utf-8").count("\n")
    assert lines <= FILE_LINES_MAX, f"{path} has {lines} lines: two ideas"


def test_the_tables_of_learning_settings_are_those_of_the_code() -> None:
    _, inside, _ = generated(DATA, "settings")
    assert inside == settings_tables(), "run python -m tests.test_docs"


@pytest.mark.parametrize("section", [EventsSection, ItemsSection, UsersSection, Cleaning, IndexConfig])
def test_the_data_page_names_every_key(section: type[BaseModel]) -> None:
    page = DATA.read_text(encoding="utf-8")
    missing = [key for key in section.model_fields if f"`{key}`" not in page and f"`[cleaning.{key}]`" not in page]
    assert not missing


def test_the_sections_shown_make_a_shop() -> None:
    shown = tomllib.loads("\n".join(blocks(DATA, "toml")))
    shop = ShopConfig.model_validate(shown)
    IndexConfig.model_validate(shop.index)
    assert shop.model_fields_set == set(ShopConfig.model_fields)


def test_the_operations_page_names_every_metric() -> None:
    page = OPERATIONS.read_text(encoding="utf-8")
    names = re.findall(r'"(twinrank_\w+)"', (ROOT / "server" / "metrics.py").read_text(encoding="utf-8"))
    assert names
    assert [name for name in names if f"`{name}" not in page] == []


def test_every_dependency_has_its_line_of_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    page = (ROOT / "docs" / "decisions" / "0003-dependencies.md").read_text(encoding="utf-8")
    names = [re.split(r"[<>=\[ ]", requirement)[0] for requirement in wanted]
    assert [name for name in names if f"`{name}`" not in page] == []


def grpcurl_calls() -> Iterator[tuple[str, str, str]]:
    """Every grpcurl call of the pages: (page, full method name, JSON of the request)."""
    for page in PAGES:
        for block in blocks(page, "sh"):
            for call in re.split(r"^grpcurl ", block, flags=re.MULTILINE)[1:]:
                method = re.search(r"([\w.]+/\w+)$", call, re.MULTILINE)
                data = re.search(r"-d '(.*?)'", call, re.DOTALL)
                if method is not None:  # list and describe name none
                    yield page.name, method[1], data[1] if data else "{}"


@pytest.mark.parametrize(("page", "method", "data"), list(grpcurl_calls()))
def test_a_call_shown_fits_the_contract(page: str, method: str, data: str) -> None:
    service, _, name = method.partition("/")
    pool: Any = descriptor_pool.Default()
    request = pool.FindServiceByName(service).methods_by_name[name].input_type
    json_format.Parse(data, message_factory.GetMessageClass(request)())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_shown_compiles(page: Path) -> None:
    for block in blocks(page, "python"):
        compile(block, str(page), "exec")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


def rewrite() -> None:
    """Writes the generated parts anew."""
    for page, name, content in ((ARCHITECTURE, "map", the_map()), (DATA, "settings", settings_tables())):
        before, _, after = generated(page, name)
        page.write_text(before + content + after, encoding="utf-8")


if __name__ == "__main__":
    rewrite()
