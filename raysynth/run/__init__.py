"""Runs: with Ray, of which all is here, and in one process without it."""
