"""Rows of a learned table: what they are, and a gradient that is the same in every run."""

from __future__ import annotations

import torch

from towers.models.rows import rows_of


def test_rows_and_their_gradient_are_those_of_indexing() -> None:
    table = torch.randn(5, 3, requires_grad=True)
    rows = torch.tensor([[4, 0], [4, 2]])
    found = rows_of(table, rows)
    assert torch.equal(found, table[rows])
    (found * torch.arange(12.0).reshape(2, 2, 3)).sum().backward()  # type: ignore[no-untyped-call]
    assert table.grad is not None
    assert table.grad.tolist() == [[3, 4, 5], [0, 0, 0], [9, 10, 11], [0, 0, 0], [6, 8, 10]]


def test_threads_do_not_change_the_gradient() -> None:
    """Many rows that meet in few places, so that threads that added up as they come would differ."""
    random = torch.Generator().manual_seed(1)
    table, rows = torch.randn(7, 64, generator=random), torch.randint(7, (20_000,), generator=random)
    outer = torch.randn(20_000, 64, generator=random)
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        gradients = []
        for _ in range(10):
            own = table.clone().requires_grad_()
            rows_of(own, rows).backward(outer)  # type: ignore[no-untyped-call]
            gradients.append(own.grad)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(gradients[0], other) for other in gradients[1:])
