"""Reports of a sweep, read from the records in its store: tables, plots, pages, plan and status."""
