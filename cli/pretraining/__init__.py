"""`echolung pretrain`: choosing a recipe and a pool, the run, and what to do next."""
