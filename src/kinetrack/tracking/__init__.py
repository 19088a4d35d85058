"""Runs: what was trained, from which commit, data and params, with which result (MLflow)."""
