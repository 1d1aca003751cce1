"""A result -> files that last: run record, predictions, probe, figures."""
