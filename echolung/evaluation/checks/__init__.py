"""Checks of data, folds and results: each has a code, says what it found, why it matters and what to do."""
