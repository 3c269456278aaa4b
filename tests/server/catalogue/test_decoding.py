"""What a message of CatalogService may say, and what is refused by which name."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask as FieldMaskMessage
from twinrank.v1 import catalog_pb2 as pb
from twinrank.v1 import filter_pb2

from server.catalogue.base import ValueKind
from server.catalogue.change import FieldMask, ItemChange
from server.catalogue.decoding import CatalogueDecoder
from server.catalogue.document import ItemDocument
from server.config import CatalogueConfig
from server.errors import InvalidRequest

COLUMNS = {"brand": ValueKind.TEXT, "price": ValueKind.NUMBER, "size.eu": ValueKind.NUMBER}
DECODER = CatalogueDecoder(CatalogueConfig(items_max=3, attributes_max=2, text_bytes_max=8), id_bytes_max=16)


def value(of: str | float | None) -> filter_pb2.AttributeValue:
    if of is None:
        return filter_pb2.AttributeValue()
    return filter_pb2.AttributeValue(text=of) if isinstance(of, str) else filter_pb2.AttributeValue(number=of)


def message(item_id: str = "boots", **attributes: Any) -> pb.Item:
    return pb.Item(item_id=item_id, attributes={name: value(of) for name, of in attributes.items()})


def decoded(*items: pb.Item, mask: list[str] | None = None) -> list[ItemChange]:
    update_mask = None if mask is None else FieldMaskMessage(paths=mask)
    return DECODER.upsert(pb.UpsertItemsRequest(items=items, update_mask=update_mask), COLUMNS)


def refused(*items: pb.Item, mask: list[str] | None = None) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as failure:
        decoded(*items, mask=mask)
    return {violation.field: violation.description for violation in failure.value.violations}


def test_every_field_arrives() -> None:
    item = message(brand="Kestrel", price=129.5)
    item.available, item.stock_count = False, 7
    assert decoded(item) == [ItemChange("boots", {"brand": "Kestrel", "price": 129.5}, False, 7, None)]
    assert decoded(message()) == [ItemChange("boots", {}, None, None, None)]


def test_an_unknown_attribute_is_named_and_the_known_ones_are_listed() -> None:
    assert refused(message(colr="red")) == {
        'items[0].attributes["colr"]': "'colr' is no attribute of this shop; known: brand, price, size.eu"
    }
    assert refused(message(), mask=["attributes.colr"]) == {
        "update_mask.paths[0]": "'colr' is no attribute of this shop; known: brand, price, size.eu"
    }


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"brand": 3.0}, "is a number; this attribute is a text"),
        ({"price": "cheap"}, "is a text; this attribute is a number"),
        ({"price": None}, "must be set to a number"),
        ({"price": float("nan")}, "must be a number between"),
        ({"price": float("inf")}, "must be a number between"),
        ({"price": 1e39}, "must be a number between"),
        ({"brand": "ninebytes"}, "is 9 bytes long; at most 8 are allowed"),
        ({"brand": "a\x00b"}, "holds a control character"),
    ],
)
def test_a_value_that_no_item_can_have_is_refused(attributes: dict[str, Any], words: str) -> None:
    [(field, description)] = refused(message(**attributes)).items()
    assert field == f'items[0].attributes["{next(iter(attributes))}"]'
    assert words in description


def test_limits_are_named() -> None:
    assert "at most 3 are allowed" in refused(*(message(f"i{n}") for n in range(4)))["items"]
    many = refused(message(brand="a", price=1.0, **{"size.eu": 1.0}))
    assert "at most 2 are allowed" in many["items[0].attributes"]
    assert "must hold at least one item" in refused()["items"]
    assert "must not be empty" in refused(message(""))["items[0].item_id"]
    assert "16" in refused(message("x" * 17))["items[0].item_id"]
    item = message()
    item.stock_count = -1
    assert "0 or more" in refused(item)["items[0].stock_count"]
    assert "place 0" in refused(message("a"), message("a"))["items[1].item_id"]
    with pytest.raises(InvalidRequest, match="item_ids"):
        DECODER.delete(pb.DeleteItemsRequest(item_ids=["a", "b", "a"]))
    with pytest.raises(InvalidRequest, match="item_ids"):
        DECODER.delete(pb.DeleteItemsRequest())
    with pytest.raises(InvalidRequest, match="item_id"):
        DECODER.get(pb.GetItemRequest())


def test_a_mask_names_fields_and_attributes() -> None:
    [change] = decoded(message(price=1.0), mask=["available", "attributes.size.eu", "attributes.price"])
    assert change.mask == FieldMask(available=True, attributes=frozenset({"size.eu", "price"}))
    assert "known: available, stock_count" in refused(message(), mask=["title"])["update_mask.paths[0]"]
    assert decoded(message(), mask=[])[0].mask is None


BEFORE = ItemDocument({"brand": "Kestrel", "price": 10.0}, available=False, stock_count=4, at="5-0")


@pytest.mark.parametrize(
    ("change", "after"),
    [
        (ItemChange("x", {"price": 5.0}), ({"brand": "Kestrel", "price": 5.0}, False, 4)),
        (ItemChange("x", {}, True, 0), ({"brand": "Kestrel", "price": 10.0}, True, 0)),
        (ItemChange("x", {"price": 5.0}, True, 0, FieldMask(stock_count=True)), (BEFORE.attributes, False, 0)),
        (ItemChange("x", {}, None, None, FieldMask(stock_count=True)), (BEFORE.attributes, False, None)),
        (ItemChange("x", {}, None, None, FieldMask(available=True)), (BEFORE.attributes, True, 4)),
        (ItemChange("x", {"price": 5.0}, None, None, FieldMask(all_attributes=True)), ({"price": 5.0}, False, 4)),
        (
            ItemChange("x", {"price": 5.0, "brand": "no"}, None, 9, FieldMask(attributes=frozenset({"price"}))),
            ({"brand": "Kestrel", "price": 5.0}, False, 4),
        ),
        (ItemChange("x", {}, None, None, FieldMask(attributes=frozenset({"price"}))), ({"brand": "Kestrel"}, False, 4)),
    ],
)
def test_what_a_change_makes_of_the_item_that_is_there(change: ItemChange, after: Any) -> None:
    merged = change.merge(BEFORE)
    assert (merged.attributes, merged.available, merged.stock_count) == after
    assert (merged.at, merged.deleted) == ("", False)


def test_a_document_goes_to_the_store_and_comes_back() -> None:
    for document in (BEFORE, ItemDocument(deleted=True, at="7-1"), ItemDocument({"title": 'Ä " } 雪'}, at="1-0")):
        stored = document.to_json()[:-1] + b',"at":"' + document.at.encode() + b'"}'  # as the script does
        assert ItemDocument.from_json(stored) == document
    assert [each.retrievable for each in (BEFORE, ItemDocument(), ItemDocument(stock_count=0))] == [False, True, False]
