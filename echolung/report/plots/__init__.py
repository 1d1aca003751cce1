"""Figures of a run: numbers as pictures, PNG."""
