"""What the progress bar and the history say about training itself, between two evaluations."""

import time

import torch
from accelerate import Accelerator


class Meter:
    """Training's figures since the last evaluation: loss, overall IoU of the batches, samples/s."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.steps = self.loss = self.intersection = self.union = self.samples = 0

    def add(self, loss: float, intersection: int, union: int, samples: int) -> None:
        """One step's figures of this process; `samples` counts those of all processes."""
        self.steps += 1
        self.loss += loss
        self.intersection += intersection
        self.union += union
        self.samples += samples

    def over_processes(self, accelerator: Accelerator) -> "Meter":
        """Take the other processes' figures in."""
        if accelerator.num_processes > 1:
            own = torch.tensor([self.loss, self.intersection, self.union], dtype=torch.float64)
            total = accelerator.reduce(own.to(accelerator.device), "sum").tolist()
            self.loss = total[0] / accelerator.num_processes
            self.intersection, self.union = int(total[1]), int(total[2])
        return self

    def read(self) -> dict[str, float]:
        return {
            "loss": self.loss / self.steps,
            "iou": self.intersection / self.union if self.union else 1.0,
            "samples_per_second": self.samples / (time.monotonic() - self.began),
        }
