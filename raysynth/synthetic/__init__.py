"""Synthetic tasks: examples that are made rather than collected."""

from raysynth.synthetic.simple import simple_tasks

__all__ = ["simple_tasks"]
