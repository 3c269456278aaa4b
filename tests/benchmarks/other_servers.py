"""The servers that ours is compared with, each a process of its own: `python -m tests.benchmarks.other_servers KIND …`.

naive   what a competent engineer writes first: grpc.aio, and in each call the plain pipeline for this one request.
echo    grpc.aio and the contract's messages around a constant answer: what the front costs by itself.

Both answer Recommend and, as a plain number, how many answers they gave: COUNT_METHOD.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
from grpc import aio
from twinrank.v1 import recommendation_pb2 as pb

SERVICE = "twinrank.v1.RecommendationService"
COUNT_SERVICE = "benchmarks.Counter"
COUNT_METHOD = f"/{COUNT_SERVICE}/Count"
Answer = Callable[[pb.RecommendRequest], pb.RecommendResponse]


def naive(root: Path) -> Answer:
    """One request at a time through the plain pipeline."""
    from tests.benchmarks.plain import PlainPipeline, to_message

    pipeline = PlainPipeline.open(root)

    def answer(request: pb.RecommendRequest) -> pb.RecommendResponse:
        as_of_s = request.request_time.seconds + request.request_time.nanos * 1e-9
        [found] = pipeline.answer([request.user_id], [as_of_s], request.page_size)
        return to_message(request.request_id, found, pipeline.generation_id)

    return answer


def echo() -> Answer:
    """Twenty items, always the same, built anew each time as a server must."""
    item_ids = [f"i{row:08d}" for row in range(20)]
    scores = [1 / (place + 2) for place in range(20)]
    sources = [pb.CANDIDATE_SOURCE_TWO_TOWER] * 20

    def answer(request: pb.RecommendRequest) -> pb.RecommendResponse:
        return pb.RecommendResponse(
            request_id=request.request_id,
            item_ids=item_ids,
            scores=scores,
            sources=sources,
            attribution_token="t" * 80,
            generation_id="g" * 40,
        )

    return answer


async def serve(answer: Answer, port: int) -> None:
    """Serves until SIGTERM; prints the port when ready."""
    count = 0

    async def recommend(request: pb.RecommendRequest, _: Any) -> pb.RecommendResponse:
        nonlocal count
        response = answer(request)
        count += 1
        return response

    async def stream(requests: AsyncIterator[pb.StreamRecommendRequest], _: Any) -> AsyncIterator[Any]:
        nonlocal count
        async for request in requests:
            count += 1
            yield pb.StreamRecommendResponse(response=answer(request.request))

    async def counted(_: bytes, __: Any) -> bytes:
        return str(count).encode()

    server = aio.server()
    methods: dict[str, Any] = {
        "Recommend": grpc.unary_unary_rpc_method_handler(
            recommend, pb.RecommendRequest.FromString, pb.RecommendResponse.SerializeToString
        ),
        "StreamRecommend": grpc.stream_stream_rpc_method_handler(
            stream, pb.StreamRecommendRequest.FromString, pb.StreamRecommendResponse.SerializeToString
        ),
    }
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(SERVICE, methods),
            grpc.method_handlers_generic_handler(
                COUNT_SERVICE, {"Count": grpc.unary_unary_rpc_method_handler(counted)}
            ),
        )
    )
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    gc.collect()
    gc.freeze()
    print(f"port {bound}", flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.stop(0.2)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["naive", "echo"])
    parser.add_argument("--root", type=Path)
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.kind == "naive":
        asyncio.run(serve(naive(arguments.root), arguments.port))
    else:
        import uvloop  # as our own front has it

        uvloop.run(serve(echo(), arguments.port))


if __name__ == "__main__":
    main()
