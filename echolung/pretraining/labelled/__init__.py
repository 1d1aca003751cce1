"""Objectives that learn from labels: CoReEcho, EchoCoTr, supervised classification and regression."""
