"""Sweeps: grids of fine-tunings, and the command line of a sweep file."""

from raysynth.sweep.sweep import Sweep

__all__ = ["Sweep"]
