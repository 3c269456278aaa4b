"""How an update learns: chosen on a November of the demo (docs/updates.md), never on the month that is reported."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Recipe(BaseModel):
    """Limits and rates of one update."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tower_steps: int = Field(default=40, ge=0, description="Steps of the towers at most; 0 leaves them as they are.")
    tower_passes: float = Field(default=2.0, gt=0, description="How often a new visit is seen at most.")
    tower_rate: float = Field(default=2e-4, gt=0, description="AdamW's step size for the towers.")
    new_share: float = Field(default=0.5, gt=0, le=1, description="Share of a step's visits that are new.")
    replay_days: int = Field(default=6, ge=0, description="Old days whose questions the ranker learns again.")
    replay_reach_days: int = Field(default=56, ge=1, description="How far back the replayed days lie at most.")
    new_days_max: int = Field(default=4, ge=1, description="New days that the ranker learns from, the newest first.")
    questions_a_day_max: int = Field(default=400, ge=1, description="Questions of a day, drawn; more cost time.")
    ranker_passes: int = Field(default=4, ge=0, description="Passes over them; 0 leaves the ranker as it is.")
    ranker_rate: float = Field(default=2e-3, gt=0, description="AdamW's step size for the ranker.")
    ranker_batch: int = Field(default=8_192, ge=1, description="Candidates in a step.")
    seconds_max: float = Field(default=30.0, gt=0, description="Learning stops there; what was learned counts.")
    tower_time_share: float = Field(default=0.4, gt=0, lt=1, description="Share of that time the towers may take.")
    questions_min: int = Field(
        default=100, ge=2, description="User-days since the weights learned that make learning worth while."
    )
    slice_share: float = Field(default=0.3, gt=0, lt=1, description="Share of them that judges, the newest.")
    questions_max: int = Field(default=1_000, ge=1, description="User-days that judge at most.")
    margin: float = Field(
        default=0.005, ge=0, description="Mean NDCG@20 below the current generation's at which nothing is published."
    )
    seed: int = Field(default=17, ge=0, description="Seed of every random choice.")
