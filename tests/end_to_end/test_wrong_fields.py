"""Every field of every request made wrong in turn, at the real service: the field is named, and it lives on."""

from __future__ import annotations

import grpc
import pytest
from google.rpc import code_pb2
from twinrank.v1 import recommendation_pb2 as pb

from tests.conftest import SmallGeneration
from tests.server.conftest import Running, make_config, serve
from tests.server.real_engine import loader
from tests.server.statuses import fields_of
from tests.server.wrong_requests import CASES, broken, good_requests

GOOD = good_requests("shoes-1")


async def test_a_wrong_field_is_named_and_the_server_lives(small_generation: SmallGeneration) -> None:
    config = make_config(small_generation.root)
    async with serve(config, loader(config)) as running:
        for method in ("Recommend", "BatchRecommend", "Score", "SimilarItems"):
            await every_wrong_field(running, method)
        await every_wrong_field_on_a_stream(running)
        assert running.server.metrics.answered_count > 0
        assert len((await running.stub.Recommend(pb.RecommendRequest(user_id="u01"))).item_ids) == 20


async def every_wrong_field(running: Running, method: str) -> None:
    call = getattr(running.stub, method)
    for case in CASES[method]:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await call(broken(GOOD[method], case))
        assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT, case
        assert fields_of(failure.value) == [case.violation], case
    assert (await call(GOOD[method])).ByteSize() > 0


async def every_wrong_field_on_a_stream(running: Running) -> None:
    stream = running.stub.StreamRecommend()
    for case in CASES["StreamRecommend"]:
        await stream.write(broken(GOOD["StreamRecommend"], case))
        answer = await stream.read()
        assert answer.error.code == code_pb2.INVALID_ARGUMENT, case
        assert list(answer.error.fields) == [case.violation], case
    await stream.write(GOOD["StreamRecommend"])
    assert len((await stream.read()).response.item_ids) == 20
    await stream.done_writing()
    assert await stream.read() is grpc.aio.EOF
