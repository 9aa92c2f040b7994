"""Descriptions of artifacts (data sets, models and their recipes), and the names that identify them."""
