"""Records: read, compare and write baselines, proposals and results."""
