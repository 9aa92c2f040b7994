"""Synthetic tasks: the generated examples of Appendices E and G."""

from raysynth.synthetic.simple import simple_tasks

__all__ = ["simple_tasks"]
