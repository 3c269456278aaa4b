"""The public listener's settings that only one front has: TLS and connections that age; the other refuses them."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from grpc import aio, ssl_channel_credentials
from twinrank.v1 import recommendation_pb2 as pb

from server.config import ConfigError, read_config
from tests.server.stubs import recommendation_stub
from tests.server.waiting import until


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for localhost, and its key."""
    chain, key = folder / "chain.pem", folder / "key.pem"
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command = ["openssl", "req", "-x509", *curve, *name, "-keyout", str(key), "-out", str(chain)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return chain, key


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl, which makes the certificate, is missing")
async def test_the_grpcio_front_speaks_tls(start: Callable[..., Any], tmp_path: Path) -> None:
    chain, key = make_certificate(tmp_path)
    running = await start(listen={"port": 0, "tls_certificate_file": chain, "tls_key_file": key})
    credentials = ssl_channel_credentials(chain.read_bytes())
    options = [("grpc.ssl_target_name_override", "localhost")]
    async with aio.secure_channel(f"127.0.0.1:{running.server.port}", credentials, options) as channel:
        response = await recommendation_stub(channel).Recommend(pb.RecommendRequest())
    assert len(response.item_ids) == 20
    with pytest.raises(aio.AioRpcError):
        await running.stub.Recommend(pb.RecommendRequest(), timeout=2)


@pytest.mark.skipif(not Path("/proc/net/tcp6").exists(), reason="the test counts connections in /proc")
async def test_a_connection_that_is_old_is_replaced_without_a_failed_call(start: Callable[..., Any]) -> None:
    running = await start(listen={"port": 0, "connection_age_s_max": 0.2})
    peers: set[int] = set()

    async def ask() -> int:
        call = running.stub.Recommend(pb.RecommendRequest())
        await call
        peers.update(local_ports(running.server.port))
        return len(peers)

    async def ask_until_two() -> None:
        while await ask() < 2:
            await asyncio.sleep(0)

    await asyncio.wait_for(ask_until_two(), 10)
    await until(lambda: running.server._service.admission.in_flight_count == 0)


def local_ports(server_port: int) -> list[int]:
    """The far ends of this machine's established connections to the port."""
    wanted = f":{server_port:04X}"
    tables = [Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table]
    return [int(row[1].rsplit(":", 1)[1], 16) for row in rows if row[2].endswith(wanted) and row[3] == "01"]


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ('front = "native"\nconnection_age_s_max = 60', "connection_age_s_max"),
        ('front = "native"\ntls_certificate_file = "c"\ntls_key_file = "k"', "tls_certificate_file"),
        ('tls_certificate_file = "c"', "tls_key_file"),
        ('front = "fast"', "listen.front"),
    ],
)
def test_what_a_front_cannot_do_is_refused_at_the_start(tmp_path: Path, lines: str, named: str) -> None:
    path = tmp_path / "server.toml"
    path.write_text(f"[listen]\n{lines}\n")
    with pytest.raises(ConfigError, match=named):
        read_config(path)
