"""How far a generation has followed what changes while it serves: `live.json`.

A recent event counts as new to a generation when it came into the log after `log_until_ms` and happened at
`files_until_s` or later: whatever is older stood in the files or in the part of the log that it was built from.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

POSITIONS_FILE = "live.json"


class LivePositions(BaseModel):
    """Places in the store's streams; the defaults are those of a generation that no store was asked for.

    Attributes:
        files_until_s: events before it, epoch seconds, were in the shop's files.
        log_until_ms: events that came into the log up to then, epoch milliseconds of the store, were read from it.
        catalogue_position: the last entry of the stream of catalogue changes that was built in.
        purges_until_ms: persons purged up to then were left out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    files_until_s: int
    log_until_ms: int = 0
    catalogue_position: str = "0-0"
    purges_until_ms: int = 0
