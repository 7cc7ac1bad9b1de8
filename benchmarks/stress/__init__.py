"""Does the suite survive kills, other orders, batches and threads? What came out is in baselines/_stress."""
