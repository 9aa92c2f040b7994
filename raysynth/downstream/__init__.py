"""Downstream tasks: readers of their files, with one module per data set, downloads, and test metrics."""
