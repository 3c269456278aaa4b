"""Filters to protobuf and back."""

from __future__ import annotations

from twinrank.v1 import filter_pb2 as pb

from twinrank_client.filter import AllOf, AnyOf, Available, Equals, Filter, IsIn, Not, Range, Value


def write_filter(condition: Filter) -> pb.Filter:
    """A filter, as sent."""
    match condition:
        case Equals(attribute, value):
            return pb.Filter(equals=pb.EqualsFilter(attribute=attribute, value=_write_value(value)))
        case IsIn(attribute, values):
            return pb.Filter(is_in=pb.InFilter(attribute=attribute, values=[_write_value(value) for value in values]))
        case Range(attribute, minimum, maximum):
            return pb.Filter(range=pb.RangeFilter(attribute=attribute, minimum=minimum, maximum=maximum))
        case AllOf(filters):
            return pb.Filter(all=pb.AllFilter(filters=[write_filter(each) for each in filters]))
        case AnyOf(filters):
            return pb.Filter(any=pb.AnyFilter(filters=[write_filter(each) for each in filters]))
        case Not(negated):
            return pb.Filter(negation=pb.NotFilter(filter=write_filter(negated)))
        case Available(available):
            return pb.Filter(available=available)
    raise TypeError(f"{type(condition).__name__} is no filter that can be sent")


def read_filter(message: pb.Filter) -> Filter:
    """A filter, as received. Raises ValueError when no kind is set."""
    match message.WhichOneof("kind"):
        case "equals":
            return Equals(message.equals.attribute, _read_value(message.equals.value))
        case "is_in":
            return IsIn(message.is_in.attribute, [_read_value(value) for value in message.is_in.values])
        case "range":
            bounds = message.range
            minimum = bounds.minimum if bounds.HasField("minimum") else None
            return Range(bounds.attribute, minimum, bounds.maximum if bounds.HasField("maximum") else None)
        case "all":
            return AllOf(map(read_filter, message.all.filters))
        case "any":
            return AnyOf(map(read_filter, message.any.filters))
        case "negation":
            return Not(read_filter(message.negation.filter))
        case "available":
            return Available(message.available)
    raise ValueError("a filter without any kind")


def _write_value(value: Value) -> pb.AttributeValue:
    return pb.AttributeValue(text=value) if isinstance(value, str) else pb.AttributeValue(number=value)


def _read_value(message: pb.AttributeValue) -> Value:
    return message.text if message.WhichOneof("kind") == "text" else message.number
