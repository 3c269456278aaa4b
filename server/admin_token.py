"""The operator's bearer token: where it comes from, and how a call's is compared with it."""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

from server.call import Call
from server.config import AdminConfig, ConfigError
from server.errors import Unauthenticated

TOKEN_CHARACTERS_MIN = 16
_SCHEME = "bearer "


def admin_token(config: AdminConfig, generations_root: Path) -> str:
    """The configured token, the one in the token file, or a new random one written there for its owner only.

    Raises:
        ConfigError: the token is too short to be one, or the file can be neither read nor written.
    """
    if config.token is not None:
        return _long_enough(config.token.get_secret_value(), "admin.token")
    path = config.token_file or generations_root.parent / "admin.token"
    try:
        try:
            return _long_enough(path.read_text(encoding="utf-8").strip(), str(path))
        except FileNotFoundError:
            token = secrets.token_urlsafe(32)
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(token + "\n")
            return token
    except OSError as error:
        raise ConfigError(f"admin.token_file {path}: {error.strerror}") from error


def check_token(call: Call, token: str) -> None:
    """Compares in constant time. Raises `Unauthenticated`, with the same words whatever was wrong."""
    for key, value in call.metadata():
        if key == "authorization" and isinstance(value, str) and value[: len(_SCHEME)].lower() == _SCHEME:
            given = value[len(_SCHEME) :]
            if hmac.compare_digest(given.encode(), token.encode()):
                return
    raise Unauthenticated("the call needs metadata 'authorization: Bearer <admin token>'")


def _long_enough(token: str, source: str) -> str:
    if len(token) < TOKEN_CHARACTERS_MIN:
        raise ConfigError(
            f"{source}: the admin token has {len(token)} characters; at least {TOKEN_CHARACTERS_MIN} are needed"
        )
    return token
