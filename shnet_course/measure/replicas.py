"""What each of several processes does in lesson 06b. A process that starts anew imports its work,
so that it cannot stand in a notebook's cell."""

from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def save_gradient(rank: int, network: nn.Module, shares: list[dict], folder: Path) -> None:
    """Process `rank`: the gradient of its share, averaged with the others', into a file.

    Args:
        shares: the batch of each process.
        folder: of files; the processes meet there, too.
    """
    torch.set_num_threads(1)
    meeting = (folder / "meeting").as_uri()
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=len(shares))
    batch = shares[rank]
    model = DistributedDataParallel(network)
    loss = F.binary_cross_entropy_with_logits(model(batch), batch["target"])
    loss.backward()  # the all-reduce happens in here
    gradients = {name: p.grad for name, p in network.named_parameters() if p.requires_grad}
    torch.save(gradients, folder / f"gradient{rank}.pt")
    dist.destroy_process_group()
