"""T5 weights from and to other programs."""
