"""Data-parallel training under torchrun: each process learns from its share of every step's batch.

    torchrun --standalone --nproc-per-node 2 -m towers train CONFIG

A step's batch is `batch_size` examples a process, dealt in turn, so W processes take the steps that one process takes
with W times the batch size; gradients are averaged, so all processes hold the same weights. The first process validates
and writes. Without torchrun there is one process, and everything here is the identity.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

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


def step_count(example_count: int, batch_size: int) -> int:
    """Steps in an epoch of so many examples."""
    return -(-_even(example_count) // (process_count() * batch_size))


def shares(order: NDArray[np.int64], batch_size: int) -> Iterator[NDArray[np.int64]]:
    """This process's part of each step's batch; all parts of a step are equally long.

    Args:
        order: (n,) the epoch's examples, the same in every process. Up to W - 1 at the end are left out.
        batch_size: examples a process in a step.
    """
    count = process_count()
    order = order[: _even(len(order))]
    for begin in range(0, len(order), count * batch_size):
        yield order[begin : begin + count * batch_size][process_number() :: count]


def _even(example_count: int) -> int:
    return example_count - example_count % process_count()


def own_generator(generator: np.random.Generator, seed: int, epoch: int) -> np.random.Generator:
    """The generator itself in the first process; one of its own in each other, so that they draw other negatives."""
    return generator if is_first() else np.random.default_rng((seed, epoch, process_number()))


def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replaces each gradient by the mean over the processes; one that is None in all of them stays None."""
    if process_count() == 1 or not parameters:
        return
    present = [parameter.grad is not None for parameter in parameters]
    flags = torch.tensor(present, dtype=torch.float32, device=parameters[0].device)
    dist.all_reduce(flags)
    used = [parameter for parameter, count in zip(parameters, flags.tolist(), strict=True) if count > 0]
    flat = torch.cat([_gradient(parameter).flatten() for parameter in used])
    dist.all_reduce(flat)
    flat /= process_count()
    parts = torch.split(flat, [parameter.numel() for parameter in used])
    for parameter, part in zip(used, parts, strict=True):
        parameter.grad = part.view_as(parameter).clone()


def _gradient(parameter: nn.Parameter) -> Tensor:
    return parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)


def average(value: float, device: torch.device) -> float:
    """The mean of each process's value."""
    if process_count() == 1:
        return value
    total = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return float(total) / process_count()


def smallest(value: int, device: torch.device) -> int:
    """The smallest of all processes' values."""
    if process_count() == 1:
        return value
    least = torch.tensor(value, dtype=torch.int64, device=device)
    dist.all_reduce(least, dist.ReduceOp.MIN)
    return int(least)


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
