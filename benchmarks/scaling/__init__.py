"""A model of how online training scales; see docs/SCALING.md."""
