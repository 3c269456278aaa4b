"""Our own server around an engine that costs nothing: what is left is what the fronts, and all between them, cost.

`python -m tests.benchmarks.constant_server`, configured like `python -m server`. Every list is the same one of twenty
items; nothing of a generation is read.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from index.item_ids import ItemIds
from server.config import Front, read_config
from server.domain import Answer, BatchTimings, Query, RecommendAnswer, Source
from server.lifecycle import run
from server.lists import ListColumns

GENERATION_ID = "g" * 40
_ITEM_IDS = ItemIds.from_ids([f"i{row:08d}" for row in range(20)])
_SCORES = np.array([1 / (place + 2) for place in range(20)], np.float32)


class ConstantEngine:
    """Recommends the same to everybody."""

    generation_id = GENERATION_ID
    event_types = ("view", "purchase")
    context_columns = ()
    attributes = None

    def answer(self, queries: Sequence[Query], states: object = None) -> tuple[list[Answer], BatchTimings]:
        """One list for each query."""
        count = len(queries)
        lists = ListColumns(
            _ITEM_IDS,
            np.tile(np.arange(20, dtype=np.int32), (count, 1)),
            np.full(count, 20),
            np.tile(_SCORES, (count, 1)),
            np.full((count, 20), Source.TWO_TOWER, np.uint32),
        )
        answers = [RecommendAnswer(lists, place, GENERATION_ID, shortfall=False) for place in range(count)]
        return list(answers), BatchTimings(0, 0, 0, 0, count)


def main() -> int:
    """The command; its result is the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--front", choices=[front.value for front in Front], required=True)
    config = read_config(None)
    front = Front(parser.parse_args().front)
    config = config.model_copy(update={"listen": config.listen.model_copy(update={"front": front})})
    return run(config, lambda _root, _generation_id: ConstantEngine())


if __name__ == "__main__":
    sys.exit(main())
