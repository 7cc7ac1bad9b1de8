"""Audits: arrays in, verdicts with their evidence out. One module a claim family; rules: VERDICTS.md, section 6."""
