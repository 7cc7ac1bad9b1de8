"""Train and audit many models, to see what changes with their size."""
