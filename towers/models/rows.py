"""Rows of a table that is being learned."""

from __future__ import annotations

from torch import Tensor, nn


def rows_of(table: Tensor, rows: Tensor) -> Tensor:
    """(…, D) of a table (n, D), as `table[rows]`, whose gradient is the same in every run.

    Indexing adds gradients up in whatever order threads come; on the CPU an embedding gives each row to one of them.
    """
    return nn.functional.embedding(rows, table)
