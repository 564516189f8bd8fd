"""Environments by name."""

from __future__ import annotations

from rllib_fmq.tasks.registry import dataset_name, is_task, known_tasks, make_env
from rllib_fmq.tasks.rendering import find_gl_backend, render_env

__all__ = [
    "dataset_name",
    "find_gl_backend",
    "is_task",
    "known_tasks",
    "make_env",
    "render_env",
]
