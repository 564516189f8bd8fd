"""Real jobs, killed at random moments: `python -m benchmarks.chaos`, or `make chaos`."""
