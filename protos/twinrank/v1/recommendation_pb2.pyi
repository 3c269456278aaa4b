import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from twinrank.v1 import filter_pb2 as _filter_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RepeatPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REPEAT_POLICY_UNSPECIFIED: _ClassVar[RepeatPolicy]
    REPEAT_POLICY_ALLOW: _ClassVar[RepeatPolicy]
    REPEAT_POLICY_EXCLUDE_BOUGHT: _ClassVar[RepeatPolicy]

class CandidateSource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CANDIDATE_SOURCE_UNSPECIFIED: _ClassVar[CandidateSource]
    CANDIDATE_SOURCE_TWO_TOWER: _ClassVar[CandidateSource]
    CANDIDATE_SOURCE_BUY_AGAIN: _ClassVar[CandidateSource]
    CANDIDATE_SOURCE_POPULAR: _ClassVar[CandidateSource]
    CANDIDATE_SOURCE_SIMILAR: _ClassVar[CandidateSource]
    CANDIDATE_SOURCE_ITEM_ITEM: _ClassVar[CandidateSource]
    CANDIDATE_SOURCE_BOUGHT_NEXT: _ClassVar[CandidateSource]
    CANDIDATE_SOURCE_BOUGHT_TOGETHER: _ClassVar[CandidateSource]
    CANDIDATE_SOURCE_USER_USER: _ClassVar[CandidateSource]
    CANDIDATE_SOURCE_ALS: _ClassVar[CandidateSource]
    CANDIDATE_SOURCE_BPR: _ClassVar[CandidateSource]
    CANDIDATE_SOURCE_LIGHT_GCN: _ClassVar[CandidateSource]
    CANDIDATE_SOURCE_GRAPH_FILTER: _ClassVar[CandidateSource]
    CANDIDATE_SOURCE_CONTENT: _ClassVar[CandidateSource]
    CANDIDATE_SOURCE_TRENDING: _ClassVar[CandidateSource]
    CANDIDATE_SOURCE_SEGMENT: _ClassVar[CandidateSource]

class DegradedReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DEGRADED_REASON_UNSPECIFIED: _ClassVar[DegradedReason]
    DEGRADED_REASON_SHORTFALL: _ClassVar[DegradedReason]
    DEGRADED_REASON_STATE_UNAVAILABLE: _ClassVar[DegradedReason]
    DEGRADED_REASON_BEHIND_POSITION: _ClassVar[DegradedReason]
REPEAT_POLICY_UNSPECIFIED: RepeatPolicy
REPEAT_POLICY_ALLOW: RepeatPolicy
REPEAT_POLICY_EXCLUDE_BOUGHT: RepeatPolicy
CANDIDATE_SOURCE_UNSPECIFIED: CandidateSource
CANDIDATE_SOURCE_TWO_TOWER: CandidateSource
CANDIDATE_SOURCE_BUY_AGAIN: CandidateSource
CANDIDATE_SOURCE_POPULAR: CandidateSource
CANDIDATE_SOURCE_SIMILAR: CandidateSource
CANDIDATE_SOURCE_ITEM_ITEM: CandidateSource
CANDIDATE_SOURCE_BOUGHT_NEXT: CandidateSource
CANDIDATE_SOURCE_BOUGHT_TOGETHER: CandidateSource
CANDIDATE_SOURCE_USER_USER: CandidateSource
CANDIDATE_SOURCE_ALS: CandidateSource
CANDIDATE_SOURCE_BPR: CandidateSource
CANDIDATE_SOURCE_LIGHT_GCN: CandidateSource
CANDIDATE_SOURCE_GRAPH_FILTER: CandidateSource
CANDIDATE_SOURCE_CONTENT: CandidateSource
CANDIDATE_SOURCE_TRENDING: CandidateSource
CANDIDATE_SOURCE_SEGMENT: CandidateSource
DEGRADED_REASON_UNSPECIFIED: DegradedReason
DEGRADED_REASON_SHORTFALL: DegradedReason
DEGRADED_REASON_STATE_UNAVAILABLE: DegradedReason
DEGRADED_REASON_BEHIND_POSITION: DegradedReason

class RecentEvent(_message.Message):
    __slots__ = ("item_id", "event_type", "time")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    event_type: str
    time: _timestamp_pb2.Timestamp
    def __init__(self, item_id: _Optional[str] = ..., event_type: _Optional[str] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class RecommendRequest(_message.Message):
    __slots__ = ("request_id", "placement", "user_id", "visitor_id", "session_id", "recent_events", "context_item_ids", "context", "request_time", "page_size", "exclude_item_ids", "repeat_policy", "read_options", "position_token", "filter")
    class ContextEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    VISITOR_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    RECENT_EVENTS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_TIME_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    REPEAT_POLICY_FIELD_NUMBER: _ClassVar[int]
    READ_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    POSITION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    placement: str
    user_id: str
    visitor_id: str
    session_id: str
    recent_events: _containers.RepeatedCompositeFieldContainer[RecentEvent]
    context_item_ids: _containers.RepeatedScalarFieldContainer[str]
    context: _containers.ScalarMap[str, str]
    request_time: _timestamp_pb2.Timestamp
    page_size: int
    exclude_item_ids: _containers.RepeatedScalarFieldContainer[str]
    repeat_policy: RepeatPolicy
    read_options: ReadOptions
    position_token: str
    filter: _filter_pb2.Filter
    def __init__(self, request_id: _Optional[str] = ..., placement: _Optional[str] = ..., user_id: _Optional[str] = ..., visitor_id: _Optional[str] = ..., session_id: _Optional[str] = ..., recent_events: _Optional[_Iterable[_Union[RecentEvent, _Mapping]]] = ..., context_item_ids: _Optional[_Iterable[str]] = ..., context: _Optional[_Mapping[str, str]] = ..., request_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., page_size: _Optional[int] = ..., exclude_item_ids: _Optional[_Iterable[str]] = ..., repeat_policy: _Optional[_Union[RepeatPolicy, str]] = ..., read_options: _Optional[_Union[ReadOptions, _Mapping]] = ..., position_token: _Optional[str] = ..., filter: _Optional[_Union[_filter_pb2.Filter, _Mapping]] = ...) -> None: ...

class ReadOptions(_message.Message):
    __slots__ = ("explain", "timings")
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    explain: bool
    timings: bool
    def __init__(self, explain: _Optional[bool] = ..., timings: _Optional[bool] = ...) -> None: ...

class RecommendResponse(_message.Message):
    __slots__ = ("request_id", "item_ids", "scores", "sources", "attribution_token", "generation_id", "degraded", "degraded_reason", "timings", "explanations")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    GENERATION_ID_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_REASON_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    EXPLANATIONS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    scores: _containers.RepeatedScalarFieldContainer[float]
    sources: _containers.RepeatedScalarFieldContainer[CandidateSource]
    attribution_token: str
    generation_id: str
    degraded: bool
    degraded_reason: DegradedReason
    timings: StageTimings
    explanations: _containers.RepeatedCompositeFieldContainer[Explanation]
    def __init__(self, request_id: _Optional[str] = ..., item_ids: _Optional[_Iterable[str]] = ..., scores: _Optional[_Iterable[float]] = ..., sources: _Optional[_Iterable[_Union[CandidateSource, str]]] = ..., attribution_token: _Optional[str] = ..., generation_id: _Optional[str] = ..., degraded: _Optional[bool] = ..., degraded_reason: _Optional[_Union[DegradedReason, str]] = ..., timings: _Optional[_Union[StageTimings, _Mapping]] = ..., explanations: _Optional[_Iterable[_Union[Explanation, _Mapping]]] = ...) -> None: ...

class StageTimings(_message.Message):
    __slots__ = ("queue_us", "state_us", "user_tower_us", "retrieve_us", "rank_us", "batch_size")
    QUEUE_US_FIELD_NUMBER: _ClassVar[int]
    STATE_US_FIELD_NUMBER: _ClassVar[int]
    USER_TOWER_US_FIELD_NUMBER: _ClassVar[int]
    RETRIEVE_US_FIELD_NUMBER: _ClassVar[int]
    RANK_US_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    queue_us: int
    state_us: int
    user_tower_us: int
    retrieve_us: int
    rank_us: int
    batch_size: int
    def __init__(self, queue_us: _Optional[int] = ..., state_us: _Optional[int] = ..., user_tower_us: _Optional[int] = ..., retrieve_us: _Optional[int] = ..., rank_us: _Optional[int] = ..., batch_size: _Optional[int] = ...) -> None: ...

class Explanation(_message.Message):
    __slots__ = ("sources", "similarity", "times_bought", "days_since_bought")
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    SIMILARITY_FIELD_NUMBER: _ClassVar[int]
    TIMES_BOUGHT_FIELD_NUMBER: _ClassVar[int]
    DAYS_SINCE_BOUGHT_FIELD_NUMBER: _ClassVar[int]
    sources: _containers.RepeatedScalarFieldContainer[CandidateSource]
    similarity: float
    times_bought: float
    days_since_bought: float
    def __init__(self, sources: _Optional[_Iterable[_Union[CandidateSource, str]]] = ..., similarity: _Optional[float] = ..., times_bought: _Optional[float] = ..., days_since_bought: _Optional[float] = ...) -> None: ...

class BatchRecommendRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[RecommendRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[RecommendRequest, _Mapping]]] = ...) -> None: ...

class BatchRecommendResponse(_message.Message):
    __slots__ = ("responses",)
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    responses: _containers.RepeatedCompositeFieldContainer[RecommendResponse]
    def __init__(self, responses: _Optional[_Iterable[_Union[RecommendResponse, _Mapping]]] = ...) -> None: ...

class StreamRecommendRequest(_message.Message):
    __slots__ = ("request",)
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    request: RecommendRequest
    def __init__(self, request: _Optional[_Union[RecommendRequest, _Mapping]] = ...) -> None: ...

class StreamRecommendResponse(_message.Message):
    __slots__ = ("response", "error")
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    response: RecommendResponse
    error: StreamError
    def __init__(self, response: _Optional[_Union[RecommendResponse, _Mapping]] = ..., error: _Optional[_Union[StreamError, _Mapping]] = ...) -> None: ...

class StreamError(_message.Message):
    __slots__ = ("request_id", "code", "message", "reason", "fields")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    code: int
    message: str
    reason: str
    fields: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, request_id: _Optional[str] = ..., code: _Optional[int] = ..., message: _Optional[str] = ..., reason: _Optional[str] = ..., fields: _Optional[_Iterable[str]] = ...) -> None: ...

class ScoreRequest(_message.Message):
    __slots__ = ("request_id", "placement", "user_id", "visitor_id", "recent_events", "context_item_ids", "context", "request_time", "item_ids", "position_token")
    class ContextEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    VISITOR_ID_FIELD_NUMBER: _ClassVar[int]
    RECENT_EVENTS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_TIME_FIELD_NUMBER: _ClassVar[int]
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    POSITION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    placement: str
    user_id: str
    visitor_id: str
    recent_events: _containers.RepeatedCompositeFieldContainer[RecentEvent]
    context_item_ids: _containers.RepeatedScalarFieldContainer[str]
    context: _containers.ScalarMap[str, str]
    request_time: _timestamp_pb2.Timestamp
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    position_token: str
    def __init__(self, request_id: _Optional[str] = ..., placement: _Optional[str] = ..., user_id: _Optional[str] = ..., visitor_id: _Optional[str] = ..., recent_events: _Optional[_Iterable[_Union[RecentEvent, _Mapping]]] = ..., context_item_ids: _Optional[_Iterable[str]] = ..., context: _Optional[_Mapping[str, str]] = ..., request_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., item_ids: _Optional[_Iterable[str]] = ..., position_token: _Optional[str] = ...) -> None: ...

class ScoreResponse(_message.Message):
    __slots__ = ("request_id", "scores", "known", "generation_id")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    GENERATION_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    scores: _containers.RepeatedScalarFieldContainer[float]
    known: _containers.RepeatedScalarFieldContainer[bool]
    generation_id: str
    def __init__(self, request_id: _Optional[str] = ..., scores: _Optional[_Iterable[float]] = ..., known: _Optional[_Iterable[bool]] = ..., generation_id: _Optional[str] = ...) -> None: ...

class SimilarItemsRequest(_message.Message):
    __slots__ = ("request_id", "item_id", "page_size", "exclude_item_ids", "filter")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    item_id: str
    page_size: int
    exclude_item_ids: _containers.RepeatedScalarFieldContainer[str]
    filter: _filter_pb2.Filter
    def __init__(self, request_id: _Optional[str] = ..., item_id: _Optional[str] = ..., page_size: _Optional[int] = ..., exclude_item_ids: _Optional[_Iterable[str]] = ..., filter: _Optional[_Union[_filter_pb2.Filter, _Mapping]] = ...) -> None: ...

class SimilarItemsResponse(_message.Message):
    __slots__ = ("request_id", "item_ids", "scores", "generation_id")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    GENERATION_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    scores: _containers.RepeatedScalarFieldContainer[float]
    generation_id: str
    def __init__(self, request_id: _Optional[str] = ..., item_ids: _Optional[_Iterable[str]] = ..., scores: _Optional[_Iterable[float]] = ..., generation_id: _Optional[str] = ...) -> None: ...
