"""raysynth: synthetic pre-training sweeps on Ray."""
