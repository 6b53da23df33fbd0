"""File names in a training's folder."""

BEST = "best.pt"  # the model with the best validation accuracy, for the daemon
LAST = "last.pt"  # the latest state, for --resume
METRICS = "metrics.jsonl"  # one line per epoch
