"""The operator's listener."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from twinrank.v1 import admin_pb2 as pb
from twinrank.v1 import recommendation_pb2 as recommendation

from index.generation import current_id, set_current
from server.admin_token import admin_token
from server.config import AdminConfig, ConfigError
from tests.server.conftest import TOKEN, Running, publish
from tests.server.statuses import fields_of, reason_of
from tests.server.stubs import admin_stub, recommendation_stub
from tests.server.waiting import until

AUTHORIZED = (("authorization", f"Bearer {TOKEN}"),)
METHODS = pb.DESCRIPTOR.services_by_name["AdminService"].methods_by_name


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("authorization", "Bearer "),),
        (("authorization", f"Bearer {TOKEN}x"),),
        (("authorization", f"Basic {TOKEN}"),),
        (("authorization", TOKEN),),
    ],
)
async def test_no_method_answers_without_the_token(running: Running, method: str, metadata: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await getattr(running.admin, method)(getattr(pb, METHODS[method].input_type.name)(), metadata=metadata)
    assert failure.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert reason_of(failure.value) == "TOKEN_INVALID"
    assert TOKEN not in str(failure.value)


async def test_the_two_services_never_share_a_listener(running: Running) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await admin_stub(running.channel).GetStatus(pb.GetStatusRequest(), metadata=AUTHORIZED)
    assert failure.value.code() is grpc.StatusCode.UNIMPLEMENTED
    stub = recommendation_stub(running.admin_channel)
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await stub.Recommend(recommendation.RecommendRequest())
    assert failure.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_status_tells_what_is_served_and_what_was_refused(running: Running) -> None:
    await running.stub.Recommend(recommendation.RecommendRequest())
    bad_id = publish(running.root, refuse="too new")
    set_current(running.root, bad_id)
    await until(lambda: running.server.follower.status.refused_id)
    status = await running.admin.GetStatus(pb.GetStatusRequest(), metadata=AUTHORIZED)
    assert status.generation_id == running.engine.generation_id
    assert status.generation_loaded_at.seconds >= status.started_at.seconds > 0
    assert (status.answered_count, status.in_flight_count, status.draining) == (1, 0, False)
    assert status.refused_generation_id == bad_id
    assert "too new" in status.refused_reason


async def test_generations_are_listed_activated_and_rolled_back(running: Running) -> None:
    first_id = running.engine.generation_id
    second_id = publish(running.root, second=True)
    await running.admin.ActivateGeneration(pb.ActivateGenerationRequest(generation_id=second_id), metadata=AUTHORIZED)
    await until(lambda: running.engine.generation_id == second_id)
    listed = (await running.admin.ListGenerations(pb.ListGenerationsRequest(), metadata=AUTHORIZED)).generations
    entries = {entry.generation_id: entry for entry in listed}
    assert set(entries) == {first_id, second_id}
    assert (entries[first_id].current, entries[second_id].current) == (False, True)
    assert entries[second_id].parent_id == first_id
    assert entries[second_id].item_count == 150
    assert entries[second_id].created_at.seconds > 0
    back = await running.admin.RollBackGeneration(pb.RollBackGenerationRequest(), metadata=AUTHORIZED)
    assert back.generation_id == first_id
    await until(lambda: running.engine.generation_id == first_id)


async def test_a_damaged_generation_is_refused_by_name_and_current_stays(running: Running) -> None:
    bad_id = publish(running.root, second=True)
    (running.root / bad_id / "nothing").write_bytes(b"nothinG")
    before = current_id(running.root)
    with pytest.raises(grpc.aio.AioRpcError, match="nothing has SHA-256") as failure:
        await running.admin.ActivateGeneration(pb.ActivateGenerationRequest(generation_id=bad_id), metadata=AUTHORIZED)
    assert failure.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert current_id(running.root) == before


async def test_nothing_to_roll_back_to_is_a_precondition(running: Running) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await running.admin.RollBackGeneration(pb.RollBackGenerationRequest(), metadata=AUTHORIZED)
    assert failure.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_an_unknown_generation_is_not_found(running: Running) -> None:
    request = pb.ActivateGenerationRequest(generation_id="20260131T120000-0123456789abcdef")
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await running.admin.ActivateGeneration(request, metadata=AUTHORIZED)
    assert failure.value.code() is grpc.StatusCode.NOT_FOUND
    assert reason_of(failure.value) == "GENERATION_NOT_FOUND"


@pytest.mark.parametrize("wrong", ["", "x" * 129, "../../etc", "a\nb", "latest"])
async def test_every_field_made_wrong_is_named(running: Running, wrong: str) -> None:
    fields = [field.name for method in METHODS.values() for field in method.input_type.fields]
    assert fields == ["generation_id"]
    assert pb.ActivateGenerationRequest.DESCRIPTOR.fields[0].type == FieldDescriptor.TYPE_STRING
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await running.admin.ActivateGeneration(pb.ActivateGenerationRequest(generation_id=wrong), metadata=AUTHORIZED)
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert fields_of(failure.value) == ["generation_id"]


def test_a_token_is_made_for_its_owner_only_and_kept(tmp_path: Path) -> None:
    root = tmp_path / "var" / "generations"
    token = admin_token(AdminConfig(), root)
    path = tmp_path / "var" / "admin.token"
    assert len(token) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert admin_token(AdminConfig(), root) == token
    assert admin_token(AdminConfig(token_file=path), tmp_path) == token


def test_a_short_token_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("\n")
    with pytest.raises(ConfigError, match="0 characters"):
        admin_token(AdminConfig(token_file=path), tmp_path)
