"""How often is a verdict wrong? The auditor, run on data whose truth is known; what came out is in baselines/_calibration."""
