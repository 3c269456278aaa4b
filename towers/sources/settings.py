"""Settings of the further sources: `[sources.NAME]` of a shop's TOML; their depths stand in `[candidates]`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from towers.sources.profiles import ProfileSettings


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ItemItemSettings(_Section):
    """Item-based filtering: what the same users had to do with."""

    similarity: Literal["cosine", "pearson", "tfidf", "bm25"] = Field(
        default="cosine", description="How two items' columns of users are compared."
    )
    neighbours: int = Field(default=100, ge=1, le=2_000, description="Items kept in each list.")
    shrinkage: float = Field(default=0.0, ge=0, description="Added to the denominator: rare coincidences count less.")
    profile: ProfileSettings = ProfileSettings()


class SourceSettings(_Section):
    """All of `[sources]`."""

    item_item: ItemItemSettings = ItemItemSettings()
