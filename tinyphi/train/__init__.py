"""Training: the losses, from next-token prediction to preferences."""

from tinyphi.train import losses as losses
