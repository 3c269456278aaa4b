"""Configuration: where values come from, what is refused, and that the page describes what there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr, ValidationError

from server.config import AdminConfig, ConfigError, ContextItems, PlacementConfig, ServerConfig, read_config
from server.configuration_page import PAGE_PATH, page


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "server.toml"
    path.write_text(text)
    return path


def test_the_page_is_what_the_model_says() -> None:
    assert PAGE_PATH.read_text(encoding="utf-8") == page(), "run python -m server.configuration_page"


def settings(model: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= settings(field.annotation, f"{prefix}{name}.")
        else:
            found[prefix + name] = field
    return found


def test_every_setting_has_a_default_and_a_reason() -> None:
    everything = settings(ServerConfig) | settings(PlacementConfig, "placements.")
    for name, field in everything.items():
        assert not field.is_required(), name
        assert name == "placements" or len(field.description or "") > 20, name


def test_defaults_hold_without_a_file() -> None:
    config = read_config()
    assert config.listen.host == config.admin.host == config.metrics.host == "127.0.0.1"
    assert not config.time.replay_allowed
    assert {name: block.context_items for name, block in config.placements.items()} == {
        "home": ContextItems.IGNORE,
        "product": ContextItems.SEED,
        "cart": ContextItems.CART,
    }


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "[listen]\nport = 1\nhost = '127.0.0.2'\n[placements.home]\npage_size = 7\n")
    monkeypatch.setenv("TWINRANK_LISTEN__PORT", "2")
    monkeypatch.setenv("TWINRANK_PLACEMENTS__HOME__PAGE_SIZE_MAX", "9")
    config = read_config(path)
    assert (config.listen.port, config.listen.host) == (2, "127.0.0.2")
    assert (config.placements["home"].page_size, config.placements["home"].page_size_max) == (7, 9)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[listen]\nprot = 1\n", "listen.prot: Extra inputs are not permitted"),
        ("[lisen]\nport = 1\n", "lisen: Extra inputs are not permitted"),
        ("[listen]\nport = 70000\n", "listen.port: Input should be less than or equal to 65535"),
        ("[placements.cart]\npage_size = 3\n", "placements must hold 'home'"),
        ("[placements.home]\npage_size = 300\n", "page_size 300 is above page_size_max 100"),
        ("[placements.home]\nrepeat_policy = 'never'\n", "placements.home.repeat_policy: Input should be 'allow'"),
        ("[state]\nsignals_max = 32768\n", "state.signals_max: Input should be less than or equal to 32767"),
        ("[batching]\nqueue_length_max = 8\n", "batch_size_max 32 is above queue_length_max 8"),
        ("[listen\n", "is not valid TOML"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as failure:
        read_config(path)
    assert str(path) in str(failure.value)
    assert message in str(failure.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read"):
        read_config(tmp_path / "nowhere.toml")


@pytest.mark.parametrize("name", ["TWINRANK_LISTEN__PRT", "TWINRANK_LISTN__PORT"])
def test_an_unknown_variable_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(ConfigError, match=r"(?i)listen\.prt|no section 'listn'"):
        read_config()


def test_a_configuration_does_not_change_and_hides_the_token() -> None:
    config = ServerConfig(admin=AdminConfig(token=SecretStr("something secret")))
    assert "something secret" not in repr(config)
    with pytest.raises(ValidationError):
        config.listen.port = 1  # type: ignore[misc]
