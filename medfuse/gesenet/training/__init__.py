"""Train GeSeNet: settings, losses, picture pairs, pruning, checkpoints."""
