"""What the processes of a run that learns from labels tell one another: embeddings of all, and the sum of their gradients.

A loss that compares clips wants those of all processes. So each gets the embeddings of the others, computes the loss of all
from them, and its gradient by its own alone: the sum over processes is the gradient of the one loss.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch import distributed as dist

from echolung.pretraining.distributed import Group


def gather(
    group: Group, embeddings: Float[Tensor, "v d"], targets: Float[Tensor, " v"], room: int
) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
    """Return embeddings and targets of all processes; a gradient flows into this one's own embeddings only.

    Args:
        group: this process among the run's.
        embeddings: this process's.
        targets: theirs.
        room: clips that any process has at most: the same number in each.
    """
    if group.ranks == 1:
        return embeddings, targets
    count, dim = embeddings.shape
    own = embeddings.new_zeros(room, dim + 2)  # the last column: whether there is a clip
    own[:count, :dim], own[:count, dim], own[:count, dim + 1] = embeddings.detach(), targets, 1
    tables = [torch.empty_like(own) for _ in range(group.ranks)]
    dist.all_gather(tables, own)
    tables = [table[table[:, -1] > 0] for table in tables]
    parts = [table[:, :dim] for table in tables]
    parts[group.rank] = embeddings
    return torch.cat(parts), torch.cat([table[:, dim] for table in tables])


def sum_gradients(group: Group, parameters: Sequence[nn.Parameter]) -> None:
    """Let each gradient be the sum over all processes; None where no process has one."""
    if group.ranks == 1:
        return
    has = torch.tensor([float(parameter.grad is not None) for parameter in parameters], device=group.device)
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    total = group.total(torch.cat([has, *(grad.flatten() for grad in grads)]))
    some, sums = total[: len(has)].tolist(), total[len(has) :].split([p.numel() for p in parameters])
    for parameter, count, values in zip(parameters, some, sums, strict=True):
        parameter.grad = values.view_as(parameter).clone() if count else None
