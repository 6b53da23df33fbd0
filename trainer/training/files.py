"""The files of a training, in its folder."""

BEST = "best.pt"  # the model with the best validation accuracy, which the daemon takes
LAST = "last.pt"  # where the training stands
METRICS = "metrics.jsonl"  # a line for each epoch
