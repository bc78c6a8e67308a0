"""The objectives' settings, apart from their code so that a recipe can be read without building anything."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Objective(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    loss: Literal["l1", "l2", "charbonnier"] = "l1"


class ForwardNoised(_Objective):
    """The usual training: x_t is made from the clean image by the forward process, t uniform."""

    kind: Literal["forward_noised"] = "forward_noised"
    weighted: bool = False
    """With loss = "l2": weigh the steps as the variational bound does."""

    @model_validator(mode="after")
    def _weights_squares_only(self) -> Self:
        if self.weighted and self.loss != "l2":
            raise ValueError('weighted = true goes with loss = "l2" alone')
        return self


class DataConsistent(_Objective):
    """x_t is what the sampler itself has made of the degraded image (Cheng et al. 2024, arXiv 2412.12550)."""

    kind: Literal["data_consistent"] = "data_consistent"
    gradient: Literal["full", "detached"] = "full"
    """Whether the gradient flows through the earlier steps of the chain, or x_t counts as given (biased, cheaper)."""
    loss_on: Literal["random", "every", "end"] = "random"
    """Which steps' estimates are compared with the clean image: one at random per batch, all, or the last."""
    direct_share: float = Field(0.0, ge=0, le=1)
    """For this first share of the run only the chain's first step is trained: cheap, and a good start for the rest."""
    forward_share: float = Field(0.0, ge=0, le=1)
    """This share of the batches is forward-noised instead."""
