"""Records to tables, pictures and pages."""
