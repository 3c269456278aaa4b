"""Data-parallel training under torchrun: each process learns from its share of the batches.

    torchrun --standalone --nproc-per-node 2 -m towers train CONFIG

Of the batches that one process would take after each other, W processes take W at once and average their gradients: the
steps of one process with W times the batch size. In an epoch's last step some may have none, and do not count. All
processes hold the same weights; the first one validates and writes. Without torchrun all of this is the identity.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

Step = TypeVar("Step")

WAIT = timedelta(hours=2)
"""How long a process waits for the others: the first one validates, and writes, alone."""


def process_count() -> int:
    """W, processes that learn together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def process_number() -> int:
    """This process's number, 0 to W - 1."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_first() -> bool:
    """Whether this process validates, writes and speaks."""
    return process_number() == 0


@contextmanager
def process_group(on_cuda: bool) -> Iterator[None]:
    """Joins the processes that torchrun started, with nccl on CUDA and gloo on CPU; without torchrun nothing."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    if on_cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if on_cuda else "gloo", timeout=WAIT)
    try:
        yield
    finally:
        dist.destroy_process_group()


def own_steps(steps: Iterable[Step]) -> Iterator[Step]:
    """Every W-th of an epoch's batches, beginning with this process's number; `steps` is the same in every process."""
    return islice(steps, process_number(), None, process_count())


def own_generator(generator: np.random.Generator, seed: int, epoch: int) -> np.random.Generator:
    """The generator itself in the first process; one of its own in each other, so that they draw other negatives."""
    return generator if is_first() else np.random.default_rng((seed, epoch, process_number()))


def count(present: bool, device: torch.device) -> int:
    """How many processes are present."""
    return int(total(present, device))


def average_gradients(parameters: Sequence[nn.Parameter], learning: int) -> None:
    """Replaces each gradient by the mean over the `learning` processes that had a batch in this step.

    A gradient that is None in all of them stays None.
    """
    if process_count() == 1 or not parameters:
        return
    flags = torch.tensor([parameter.grad is not None for parameter in parameters], dtype=torch.float32)
    flags = flags.to(parameters[0].device)
    dist.all_reduce(flags)
    used = [parameter for parameter, had in zip(parameters, flags.tolist(), strict=True) if had > 0]
    flat = torch.cat([_gradient(parameter).flatten() for parameter in used])
    dist.all_reduce(flat)
    parts = torch.split(flat / learning, [parameter.numel() for parameter in used])
    for parameter, part in zip(used, parts, strict=True):
        parameter.grad = part.view_as(parameter).clone()


def _gradient(parameter: nn.Parameter) -> Tensor:
    return parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)


def total(value: float, device: torch.device) -> float:
    """The sum of all processes' values."""
    if process_count() == 1:
        return value
    summed = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(summed)
    return float(summed)


def of_first(value: float, device: torch.device) -> float:
    """The first process's value."""
    if process_count() == 1:
        return value
    sent = torch.tensor(value, dtype=torch.float64, device=device)
    dist.broadcast(sent, 0)
    return float(sent)


def share_weights(tensors: Iterable[Tensor]) -> None:
    """Gives every process the first one's weights and buffers."""
    if process_count() > 1:
        for tensor in tensors:
            dist.broadcast(tensor.data, 0)
