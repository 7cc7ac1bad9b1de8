"""Many models trained and audited: what changes with their size."""
