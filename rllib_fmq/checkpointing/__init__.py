"""Checkpoints: whole or nothing, with a replay that is written once, of plain data."""
