"""Fine-tuning: the upper stages of an encoder learn with a head, on the folds and the task of a probe."""
