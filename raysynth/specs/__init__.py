"""Descriptions of artifacts, and what identifies them."""
