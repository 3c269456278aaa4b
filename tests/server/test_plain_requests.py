"""Plain requests: what a burst decodes to is what the decoder makes of each message, or it is left to the decoder."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twinrank.v1 import recommendation_pb2 as pb

from server.config import ServerConfig
from server.decoding import Decoder, parse
from server.errors import InvalidRequest, MalformedMessage
from server.plain_requests import PlainRequest
from tests.server.wrong_requests import CASES, broken
from tests.server.wrong_requests import NOW_S as WRONG_S

NOW_S = 1_793_700_000.25
CONFIG = ServerConfig()
DECODER = Decoder(CONFIG, ("view", "purchase"), ("device",))
REPLAYING = Decoder(CONFIG.model_copy(update={"time": CONFIG.time.model_copy(update={"replay_allowed": True})}), (), ())
TEXTS = st.text(max_size=12) | st.sampled_from(["", "home", "cart", "nowhere", "x" * 128, "x" * 129, "tab\t", "ü"])
NUMBERS = st.integers(0, 2**32 - 1) | st.sampled_from([0, 20, 100, 101, 500])


def some_times(seconds: int, nanos: int) -> dict[str, int]:
    return {"seconds": seconds, "nanos": nanos}


TIMES = st.builds(
    some_times,
    st.sampled_from([0, 1, -1, int(NOW_S), int(NOW_S) - 5, int(NOW_S) - 10**6, 253_402_300_800, 2**62]),
    st.sampled_from([0, 5, 999_999_999, 1_000_000_000, -1]),
)
REQUESTS = st.builds(
    lambda fields: pb.RecommendRequest(**fields),
    st.fixed_dictionaries(
        {},
        optional={
            "request_id": TEXTS,
            "placement": TEXTS,
            "user_id": TEXTS,
            "visitor_id": TEXTS,
            "session_id": TEXTS,
            "request_time": TIMES,
            "page_size": NUMBERS,
            "repeat_policy": st.integers(-1, 3),
            "context_item_ids": st.lists(TEXTS, max_size=2),
            "read_options": st.just({"explain": True}),
        },
    ),
)


def judged(decoder: Decoder, raw: bytes) -> PlainRequest | None:
    """By the decoder; None for a message that it refuses."""
    try:
        request = parse(pb.RecommendRequest, raw)
        return request.request_id, decoder.recommend(request, NOW_S)
    except (InvalidRequest, MalformedMessage):
        return None


def assert_agrees(raws: list[bytes], decoder: Decoder = DECODER) -> None:
    for raw, plain in zip(raws, decoder.plain(raws, NOW_S), strict=True):
        assert plain is None or plain == judged(decoder, raw), raw


@given(st.lists(REQUESTS, max_size=5))
def test_a_burst_is_what_its_messages_are_alone(requests: list[pb.RecommendRequest]) -> None:
    raws = [request.SerializeToString() for request in requests]
    assert_agrees(raws)
    assert_agrees(raws, REPLAYING)


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_bytes_of_any_kind_are_judged_or_left_alone(raws: list[bytes]) -> None:
    assert_agrees(raws)


@given(REQUESTS, st.data())
def test_damaged_messages_are_judged_or_left_alone(request: pb.RecommendRequest, data: Any) -> None:
    raw = bytearray(request.SerializeToString())
    for _ in range(data.draw(st.integers(0, 3))):
        if raw:
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    assert_agrees([bytes(raw), bytes(raw[: data.draw(st.integers(0, len(raw)))]), bytes(raw) * 2])


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"request_id": "r-1", "user_id": "anna", "page_size": 20},
        {"visitor_id": "cookie", "session_id": "s", "placement": "cart"},
        {"user_id": "anna", "repeat_policy": pb.REPEAT_POLICY_EXCLUDE_BOUGHT},
        {"user_id": "x" * CONFIG.limits.id_bytes_max},
        {"user_id": "anna", "request_time": {"seconds": int(NOW_S), "nanos": 7}},
        {"user_id": "anna", "request_time": {"seconds": int(NOW_S) - 3}},
    ],
    ids=str,
)
def test_what_most_requests_say_is_plain(fields: dict[str, Any]) -> None:
    raw = pb.RecommendRequest(**fields).SerializeToString()
    [plain] = DECODER.plain([raw], NOW_S)
    assert plain is not None
    assert plain == judged(DECODER, raw)


def test_wrong_requests_are_left_to_the_decoder() -> None:
    good = pb.RecommendRequest(user_id="anna")  # plain, so that only what a case breaks can keep it from being so
    assert DECODER.plain([good.SerializeToString()], WRONG_S) != [None]
    for case in CASES["Recommend"]:
        assert DECODER.plain([broken(good, case).SerializeToString()], WRONG_S) == [None], case


@pytest.mark.parametrize("field", ["request_id", "placement", "user_id", "visitor_id", "session_id"])
def test_an_id_that_is_one_byte_too_long_is_not_plain(field: str) -> None:
    raw = pb.RecommendRequest(**{field: "x" * (CONFIG.limits.id_bytes_max + 1)}).SerializeToString()
    assert DECODER.plain([raw], NOW_S) == [None]


def test_a_message_above_the_servers_own_limit_is_not_plain() -> None:
    raw = pb.RecommendRequest(user_id="anna").SerializeToString()
    for size_bytes_max, plain in ((len(raw), True), (len(raw) - 1, False)):
        limits = CONFIG.limits.model_copy(update={"message_size_bytes_max": size_bytes_max})
        decoder = Decoder(CONFIG.model_copy(update={"limits": limits}), (), ())
        assert (decoder.plain([raw], NOW_S) != [None]) is plain


def test_a_long_message_is_not_looked_at() -> None:
    long = pb.RecommendRequest(user_id="anna", context_item_ids=["i"] * 10_000).SerializeToString()
    short = pb.RecommendRequest(user_id="anna").SerializeToString()
    first, second, third = DECODER.plain([short, long, short], NOW_S)
    assert second is None
    assert first is not None
    assert first == third


def test_no_message_is_no_answer() -> None:
    assert DECODER.plain([], NOW_S) == []
