"""What is done: one directory per artifact, whose record says so."""

from raysynth.store.store import Store

__all__ = ["Store"]
