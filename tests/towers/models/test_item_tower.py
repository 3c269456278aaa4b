from __future__ import annotations

import pytest
import torch

from towers.models.item_tower import ItemShape, ItemTensors, ItemTower

SHAPE = ItemShape(id_count=5, attribute_counts=(4, 3), number_count=2, has_words=True)


def items_of(count: int, seed: int = 0) -> ItemTensors:
    generator = torch.Generator().manual_seed(seed)

    def codes(high: int, *shape: int) -> torch.Tensor:
        return torch.randint(high, shape, generator=generator)

    return ItemTensors(
        id_code=codes(5, count),
        attribute_code=torch.stack([codes(4, count), codes(3, count)], dim=1),
        number=torch.randn(count, 2, generator=generator),
        word=codes(100, count, 6),
    )


@pytest.fixture
def tower() -> ItemTower:
    torch.manual_seed(1)
    return ItemTower(SHAPE, dimension=8, id_dropout=0.5).eval()


def test_embeddings_have_unit_length(tower: ItemTower) -> None:
    vectors = tower(items_of(20))
    assert vectors.shape == (20, 8)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(20))


def test_an_item_is_embedded_alike_in_any_batch(tower: ItemTower) -> None:
    items = items_of(20)
    together = tower(items)
    for row in (0, 7, 19):
        torch.testing.assert_close(tower(items.take(torch.tensor([row])))[0], together[row], atol=1e-6, rtol=0)


def test_ids_are_hidden_in_training_only(tower: ItemTower) -> None:
    items = items_of(50)
    assert torch.equal(tower(items), tower(items))
    tower.train()
    assert not torch.equal(tower(items), tower(items))
    hidden = ItemTensors(torch.zeros(50, dtype=torch.int64), items.attribute_code, items.number, items.word)
    as_hidden = (tower(items) == tower(hidden)).all(dim=1) & (items.id_code > 0)
    assert 10 < int(as_hidden.sum()) < 35  # half of about 40 ids


def test_an_item_without_id_is_its_attributes_numbers_and_words(tower: ItemTower) -> None:
    one = items_of(1)
    stranger = ItemTensors(torch.zeros(1, dtype=torch.int64), one.attribute_code, one.number, one.word)
    before = tower(stranger)
    with torch.no_grad():
        tower.id_embedding.weight[1:] += 1
    assert torch.equal(tower(stranger), before)
    for part in ("attribute_code", "number", "word"):
        other = {name: getattr(stranger, name) for name in ("id_code", "attribute_code", "number", "word")}
        other[part] = (other[part] + 1) % 3
        assert not torch.allclose(tower(ItemTensors(**other)), before)


def test_values_and_words_that_training_never_saw_say_nothing(tower: ItemTower) -> None:
    one = items_of(1)
    unseen = ItemTensors(one.id_code, torch.zeros_like(one.attribute_code), one.number, torch.zeros_like(one.word))
    before = tower(unseen)
    tower.train()
    tower.id_dropout = 0.0
    optimizer = torch.optim.AdamW(tower.parameters(), lr=0.1)
    tower(unseen).sum().backward()
    tables = [table for table in tower.attribute_embeddings if isinstance(table, torch.nn.Embedding)]
    gradients = [table.weight.grad for table in tables]
    optimizer.step()
    assert all(gradient is not None and not gradient.any() for gradient in gradients)
    assert len(tables) == 2
    assert all(not table.weight[0].any() for table in tables)
    assert torch.isfinite(before).all()


@pytest.mark.parametrize(
    "shape",
    [ItemShape(5, (), 0, False), ItemShape(1, (4, 3), 0, False), ItemShape(1, (), 2, False), ItemShape(1, (), 0, True)],
    ids=["ids alone", "attributes alone", "numbers alone", "words alone"],
)
def test_any_kind_of_column_is_enough(shape: ItemShape) -> None:
    items = items_of(9)
    chosen = ItemTensors(
        items.id_code % shape.id_count,
        items.attribute_code[:, : len(shape.attribute_counts)],
        items.number[:, : shape.number_count],
        items.word[:, : 6 if shape.has_words else 0],
    )
    vectors = ItemTower(shape, dimension=8, id_dropout=0.1)(chosen)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(9))
