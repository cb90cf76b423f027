"""The continual-pretraining loop: schedule, optimizer, guards, checkpoints, and the loop that reads top to bottom."""
