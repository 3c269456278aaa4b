"""The further candidate sources: what each learned from the log as of one moment, and what it says of a request.

A source has three faces. `fit` (in `registry.py`) makes it from the log; `arrays` and `from_arrays` carry it through a
generation; `ask` answers a batch: its best items, and its score of any item, which the ranker reads.
"""
