"""Reports: rows → table. Needs neither torch nor a model."""
