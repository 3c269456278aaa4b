"""Messages of CatalogService in, changes out: every field checked, all violations collected under their paths."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from twinrank.v1 import catalog_pb2 as pb
from twinrank.v1 import filter_pb2

from server.catalogue.base import ValueKind
from server.catalogue.change import FieldMask, ItemChange
from server.catalogue.document import Value
from server.config import CatalogueConfig
from server.errors import VIOLATIONS_MAX, InvalidRequest, Violation
from server.fields import check_count, check_id, check_ids, check_text, shown

NUMBER_MAX = 3.0e38
"""Attributes are float32 in a generation."""
_ATTRIBUTES = "attributes"
_MASK_PATHS = "available, stock_count, attributes, attributes.<name>"


class CatalogueDecoder:
    """Checks against the configured limits and the attributes that the generation's items have."""

    def __init__(self, config: CatalogueConfig, id_bytes_max: int) -> None:
        self._config = config
        self._id_bytes_max = id_bytes_max

    def upsert(self, request: pb.UpsertItemsRequest, columns: Mapping[str, ValueKind]) -> list[ItemChange]:
        """Raises InvalidRequest."""
        violations: list[Violation] = []
        check_text(request.request_id, self._id_bytes_max, "request_id", violations)
        mask = _mask(request, columns, violations) if request.HasField("update_mask") else None
        if not request.items:
            violations.append(Violation("items", "must hold at least one item"))
        changes = []
        if check_count(len(request.items), self._config.items_max, "items", violations):
            for place, item in enumerate(request.items):
                changes.append(self._change(item, columns, mask, f"items[{place}].", violations))
                if len(violations) >= VIOLATIONS_MAX:
                    break
            _refuse_repeated([item.item_id for item in request.items], "items[{}].item_id", violations)
        if violations:
            raise InvalidRequest(violations)
        return changes

    def delete(self, request: pb.DeleteItemsRequest) -> tuple[str, ...]:
        """Raises InvalidRequest."""
        violations: list[Violation] = []
        check_text(request.request_id, self._id_bytes_max, "request_id", violations)
        if not request.item_ids:
            violations.append(Violation("item_ids", "must hold at least one item"))
        ids = check_ids(request.item_ids, self._config.items_max, self._id_bytes_max, "item_ids", violations)
        _refuse_repeated(ids, "item_ids[{}]", violations)
        if violations:
            raise InvalidRequest(violations)
        return ids

    def get(self, request: pb.GetItemRequest) -> str:
        """Raises InvalidRequest."""
        violations: list[Violation] = []
        check_id(request.item_id, self._id_bytes_max, "item_id", violations)
        if violations:
            raise InvalidRequest(violations)
        return request.item_id

    def _change(
        self,
        item: pb.Item,
        columns: Mapping[str, ValueKind],
        mask: FieldMask | None,
        prefix: str,
        violations: list[Violation],
    ) -> ItemChange:
        check_id(item.item_id, self._id_bytes_max, prefix + "item_id", violations)
        attributes: dict[str, Value] = {}
        if check_count(len(item.attributes), self._config.attributes_max, prefix + _ATTRIBUTES, violations):
            for name in sorted(item.attributes):
                path = f'{prefix}{_ATTRIBUTES}["{name[:64]}"]'
                value = self._value(name, item.attributes[name], columns, path, violations)
                if value is not None:
                    attributes[name] = value
        stock_count = item.stock_count if item.HasField("stock_count") else None
        if stock_count is not None and stock_count < 0:
            violations.append(Violation(prefix + "stock_count", f"is {stock_count}; pieces are 0 or more"))
        available = item.available if item.HasField("available") else None
        return ItemChange(item.item_id, attributes, available, stock_count, mask)

    def _value(
        self,
        name: str,
        value: filter_pb2.AttributeValue,
        columns: Mapping[str, ValueKind],
        path: str,
        violations: list[Violation],
    ) -> Value | None:
        if name not in columns:
            violations.append(Violation(path, f"{shown(name)} is no attribute of this shop; known: {_known(columns)}"))
            return None
        kind = value.WhichOneof("kind")
        if kind is None:
            violations.append(Violation(path, f"must be set to a {columns[name]}; leave unknown attributes out"))
        elif kind != columns[name]:
            violations.append(Violation(path, f"is a {kind}; this attribute is a {columns[name]}"))
        elif kind == ValueKind.NUMBER:
            if math.isfinite(value.number) and abs(value.number) <= NUMBER_MAX:
                return value.number
            violations.append(Violation(path, f"is {value.number}; must be a number between ±{NUMBER_MAX:g}"))
        else:
            before = len(violations)
            check_text(value.text, self._config.text_bytes_max, path, violations)
            if len(violations) == before:
                return value.text
        return None


def _mask(
    request: pb.UpsertItemsRequest, columns: Mapping[str, ValueKind], violations: list[Violation]
) -> FieldMask | None:
    paths = request.update_mask.paths
    names: set[str] = set()
    for place, path in enumerate(paths):
        field, dot, name = path.partition(".")
        where = f"update_mask.paths[{place}]"
        if field == _ATTRIBUTES and dot:
            if name not in columns:
                description = f"{shown(name)} is no attribute of this shop; known: {_known(columns)}"
                violations.append(Violation(where, description))
            names.add(name)
        elif path not in ("available", "stock_count", _ATTRIBUTES):
            violations.append(Violation(where, f"{shown(path)} is no field that can change; known: {_MASK_PATHS}"))
        if len(violations) >= VIOLATIONS_MAX:
            break
    if not paths:
        return None
    return FieldMask("available" in paths, "stock_count" in paths, _ATTRIBUTES in paths, frozenset(names))


def _known(columns: Mapping[str, ValueKind]) -> str:
    return ", ".join(sorted(columns)) or "none"


def _refuse_repeated(ids: Sequence[str], path: str, violations: list[Violation]) -> None:
    """One call changes an item once: of two changes nobody could say which is meant."""
    first: dict[str, int] = {}
    for place, item_id in enumerate(ids):
        if first.setdefault(item_id, place) != place and len(violations) < VIOLATIONS_MAX:
            violations.append(Violation(path.format(place), f"{shown(item_id)} stands at place {first[item_id]}, too"))
