"""The suite: which models and claims a run measures, and how."""
