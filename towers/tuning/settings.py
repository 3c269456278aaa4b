"""Settings of the search itself: the section [tune] of a shop's TOML."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Range(_Section):
    """Numbers from `low` to `high`, both included: whole ones where both are whole."""

    low: int | float
    high: int | float
    log: bool = Field(default=False, description="Whether factors count alike instead of differences.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"log needs a low above 0 (it is {self.low})")
        return self

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are tried."""
        return isinstance(self.low, int) and isinstance(self.high, int)


class Choices(_Section):
    """A few values, none nearer to another."""

    choices: tuple[Any, ...] = Field(min_length=2)


Dimension = Range | Choices


class TuneSettings(_Section):
    """How settings are searched for: `python -m towers tune`."""

    folds: int = Field(
        default=2, ge=1, le=12, description="Validation periods that a trial is judged on, one before the other."
    )
    source_targets: Literal["all", "new"] = Field(
        default="all", description='What a further source is judged by: all purchases, or those "new" to the user.'
    )
    startup_trials: int = Field(default=8, ge=1, description="Trials drawn at random before the sampler learns.")
    trials_before_pruning: int = Field(
        default=4, ge=1, description="Finished trials from which on one below the median is given up."
    )
    space: dict[str, Dimension | Literal[False]] = Field(
        default_factory=dict,
        description="Setting = {low, high, log} or {choices}, over the built-in space; false: not tried.",
    )
