"""Trains in a process of its own, so that a test can kill it: FOLDER BASE CORPUS ATTEMPT."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from train.tiny import make_job

from rewarm.train.loop import train

if __name__ == "__main__":
    folder, base, corpus = map(Path, sys.argv[1:4])
    changes = {"checkpoint_strategy": "steps", "checkpoint_steps": 2, "number_of_checkpoints": 2, "epochs": 6}
    job = make_job(folder, base, corpus, attempt=int(sys.argv[4]), **changes)
    print("ready", flush=True)
    train(job)
