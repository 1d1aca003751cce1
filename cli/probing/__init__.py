"""`echolung probe` and `study`: the run, and its table."""
