"""The speed suite: baselines, operation counts, the machine's ceiling, and the stop-watch."""
