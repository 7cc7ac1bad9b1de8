"""Audits: arrays in, verdicts with their evidence out. One module per claim family; rules: docs/verdicts.md, section 6."""
