"""Statistics of saved out-of-fold predictions: intervals, tests, calibration; functions of arrays alone."""
