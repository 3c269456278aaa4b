"""Our own server around an engine that costs nothing: what is left is what the fronts, and all between them, cost.

`python -m tests.benchmarks.constant_server`, configured like `python -m server`. Every list is the same one of twenty
items, made once; nothing of a generation is read.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from server.config import Front, read_config
from server.domain import Answer, BatchTimings, Query, RecommendAnswer, Source
from server.lifecycle import run

GENERATION_ID = "g" * 40
_LIST = RecommendAnswer(
    item_ids=[f"i{row:08d}" for row in range(20)],
    scores=[1 / (place + 2) for place in range(20)],
    sources=[int(Source.TWO_TOWER)] * 20,
    generation_id=GENERATION_ID,
    shortfall=False,
)


class ConstantEngine:
    """Recommends the same to everybody."""

    generation_id = GENERATION_ID
    event_types = ("view", "purchase")
    context_columns = ()
    attributes = None

    def answer(self, queries: Sequence[Query], states: object = None) -> tuple[list[Answer], BatchTimings]:
        """One list for each query."""
        return [_LIST] * len(queries), BatchTimings(0, 0, 0, 0, len(queries))


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
