import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Event(_message.Message):
    __slots__ = ("event_id", "event_type", "user_id", "visitor_id", "session_id", "item_id", "time", "quantity", "value", "rating", "position", "dwell_s", "context", "attribution_token", "query")
    class ContextEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    VISITOR_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    RATING_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    DWELL_S_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    event_type: str
    user_id: str
    visitor_id: str
    session_id: str
    item_id: str
    time: _timestamp_pb2.Timestamp
    quantity: float
    value: float
    rating: float
    position: int
    dwell_s: float
    context: _containers.ScalarMap[str, str]
    attribution_token: str
    query: str
    def __init__(self, event_id: _Optional[str] = ..., event_type: _Optional[str] = ..., user_id: _Optional[str] = ..., visitor_id: _Optional[str] = ..., session_id: _Optional[str] = ..., item_id: _Optional[str] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., quantity: _Optional[float] = ..., value: _Optional[float] = ..., rating: _Optional[float] = ..., position: _Optional[int] = ..., dwell_s: _Optional[float] = ..., context: _Optional[_Mapping[str, str]] = ..., attribution_token: _Optional[str] = ..., query: _Optional[str] = ...) -> None: ...

class WriteEventsRequest(_message.Message):
    __slots__ = ("request_id", "events")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    events: _containers.RepeatedCompositeFieldContainer[Event]
    def __init__(self, request_id: _Optional[str] = ..., events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ...) -> None: ...

class WriteEventsResponse(_message.Message):
    __slots__ = ("request_id", "written_count", "duplicate_count", "position_token")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    WRITTEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_COUNT_FIELD_NUMBER: _ClassVar[int]
    POSITION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    written_count: int
    duplicate_count: int
    position_token: str
    def __init__(self, request_id: _Optional[str] = ..., written_count: _Optional[int] = ..., duplicate_count: _Optional[int] = ..., position_token: _Optional[str] = ...) -> None: ...

class StreamEventsRequest(_message.Message):
    __slots__ = ("sequence_number", "events")
    SEQUENCE_NUMBER_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    sequence_number: int
    events: _containers.RepeatedCompositeFieldContainer[Event]
    def __init__(self, sequence_number: _Optional[int] = ..., events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ...) -> None: ...

class StreamEventsResponse(_message.Message):
    __slots__ = ("sequence_number", "written_count", "duplicate_count", "position_token", "error")
    SEQUENCE_NUMBER_FIELD_NUMBER: _ClassVar[int]
    WRITTEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_COUNT_FIELD_NUMBER: _ClassVar[int]
    POSITION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    sequence_number: int
    written_count: int
    duplicate_count: int
    position_token: str
    error: EventsError
    def __init__(self, sequence_number: _Optional[int] = ..., written_count: _Optional[int] = ..., duplicate_count: _Optional[int] = ..., position_token: _Optional[str] = ..., error: _Optional[_Union[EventsError, _Mapping]] = ...) -> None: ...

class EventsError(_message.Message):
    __slots__ = ("code", "message", "reason", "fields")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    reason: str
    fields: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., reason: _Optional[str] = ..., fields: _Optional[_Iterable[str]] = ...) -> None: ...

class PurgeUserRequest(_message.Message):
    __slots__ = ("request_id", "user_id", "visitor_id")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    VISITOR_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    user_id: str
    visitor_id: str
    def __init__(self, request_id: _Optional[str] = ..., user_id: _Optional[str] = ..., visitor_id: _Optional[str] = ...) -> None: ...

class PurgeUserResponse(_message.Message):
    __slots__ = ("request_id", "purged_at", "log_event_count", "state_event_count", "visitor_ids", "generation_ids")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PURGED_AT_FIELD_NUMBER: _ClassVar[int]
    LOG_EVENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    STATE_EVENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    VISITOR_IDS_FIELD_NUMBER: _ClassVar[int]
    GENERATION_IDS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    purged_at: _timestamp_pb2.Timestamp
    log_event_count: int
    state_event_count: int
    visitor_ids: _containers.RepeatedScalarFieldContainer[str]
    generation_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, request_id: _Optional[str] = ..., purged_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., log_event_count: _Optional[int] = ..., state_event_count: _Optional[int] = ..., visitor_ids: _Optional[_Iterable[str]] = ..., generation_ids: _Optional[_Iterable[str]] = ...) -> None: ...
