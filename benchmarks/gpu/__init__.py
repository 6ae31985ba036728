"""What a GPU can tell, measured in eight minutes: `python -m benchmarks.gpu`, `make bench-gpu`."""
