"""What test_processes.py starts as 2 and as 4 processes: `several_processes.py DATA OUT STEPS`."""

import os
import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from training_helpers import evaluation_parts, first_micro_batches, read_squares, tiny, tiny_texts

from shnet_lib.command import main
from shnet_lib.model.shnet import SHNet
from shnet_lib.training.evaluate import evaluate
from shnet_lib.training.fit import train_step


def run(data: Path, out: Path, steps: int) -> int:
    torch.set_num_threads(1)
    accelerator = Accelerator()
    assert accelerator.num_processes == int(os.environ["WORLD_SIZE"])
    squares = read_squares(data)

    config = tiny()
    vocabulary, micro_batches = first_micro_batches(
        config, squares, accelerator.process_index, accelerator.num_processes
    )
    set_seed(config.seed)
    model = accelerator.prepare(SHNet(config.model, len(vocabulary)))
    train_step(model, micro_batches, accelerator, config)
    network = accelerator.unwrap_model(model)
    gradients = {k: p.grad for k, p in network.named_parameters() if p.grad is not None}
    torch.save(gradients, out / f"gradients{accelerator.process_index}.pt")

    network, val_set = evaluation_parts(config, squares)
    for protocol in ("original", "released"):
        found = evaluate(network, val_set, accelerator, protocol, batch_size=5)
        torch.save(found, out / f"{protocol}{accelerator.process_index}.pt")

    command = ["train", "--preset", "tables", "--dataset", "unc", "--data", str(data)]
    settings = tiny_texts(steps=steps, evaluate_every=2, learning_rate=0.02)
    command += ["--run", str(out / "run"), "--set", *settings]
    return main(command) or main([*command, "--resume"])


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
