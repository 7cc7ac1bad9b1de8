"""Records: baselines, proposals and results: read, compared and written."""
