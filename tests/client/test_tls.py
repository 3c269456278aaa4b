"""Encrypted connections, against a real gRPC server with a certificate made for the test."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from twinrank.v1 import recommendation_pb2 as pb
from twinrank.v1 import recommendation_pb2_grpc as pb_grpc
from twinrank_client import RecommendRequest, Retry, Tls, Unavailable

from tests.client.conftest import Connect

pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl, which makes the certificate, is missing"
)


class Service(pb_grpc.RecommendationServiceServicer):
    def Recommend(self, message: pb.RecommendRequest, context: grpc.ServicerContext) -> pb.RecommendResponse:
        return pb.RecommendResponse(item_ids=["secret"], scores=[1.0], sources=[pb.CANDIDATE_SOURCE_POPULAR])


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """A private key and a certificate of its own for the name twinrank.example."""
    folder = tmp_path_factory.mktemp("tls")
    key, chain = Path(folder, "key.pem"), Path(folder, "chain.pem")
    name = ["-subj", "/CN=twinrank.example", "-addext", "subjectAltName=DNS:twinrank.example"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command = [
        "openssl",
        "req",
        "-x509",
        "-nodes",
        "-days",
        "2",
        *curve,
        *name,
        "-keyout",
        str(key),
        "-out",
        str(chain),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return key.read_bytes(), chain.read_bytes()


@pytest.fixture(scope="module")
def target(certificate: tuple[bytes, bytes]) -> Iterator[str]:
    with futures.ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        pb_grpc.add_RecommendationServiceServicer_to_server(Service(), server)  # type: ignore[no-untyped-call]
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([certificate]))
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(None).wait()


async def test_a_server_with_a_trusted_certificate_answers(
    connect: Connect, target: str, certificate: tuple[bytes, bytes]
) -> None:
    tls = Tls(root_certificates=certificate[1], server_name="twinrank.example")
    async with connect(target, tls=tls, timeout_s=10) as client:
        assert (await client.recommend(RecommendRequest())).item_ids == ("secret",)


async def test_a_server_that_nobody_vouches_for_is_refused(connect: Connect, target: str) -> None:
    async with connect(target, tls=Tls(server_name="twinrank.example"), retry=Retry(attempts_max=1)) as client:
        with pytest.raises(Unavailable):
            await client.recommend(RecommendRequest(), timeout_s=10)


async def test_a_certificate_for_another_name_is_refused(
    connect: Connect, target: str, certificate: tuple[bytes, bytes]
) -> None:
    tls = Tls(root_certificates=certificate[1], server_name="other.example")
    async with connect(target, tls=tls, retry=Retry(attempts_max=1)) as client:
        with pytest.raises(Unavailable):
            await client.recommend(RecommendRequest(), timeout_s=10)
