"""Downstream tasks: their files, one module a data set, and their metrics."""
