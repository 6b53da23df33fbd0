"""What both embedded models' training draws on."""

import torch

FIRST_TRAINING_SEED = 1_000_000  # worlds with smaller seeds are held out
MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]  # of ImageNet, as the public models normalise
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
