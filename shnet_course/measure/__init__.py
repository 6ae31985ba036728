"""What lessons measure on a network: attention, failures, memory, cost, runs."""
