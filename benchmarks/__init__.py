"""What the model costs, measured: `python -m benchmarks`, or `make bench`."""
