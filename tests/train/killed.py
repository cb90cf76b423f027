"""Trains in processes that a test can kill: FOLDER BASE CORPUS TYPE; each line on stdin starts an attempt.

Python and torch take seconds to start. So this process imports them once and forks for each attempt;
it computes nothing itself. It prints the child's pid, and the child's exit status when it has ended.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from rewarm.train.loop import train
from tests.train.tiny import KILL_CHANGES, make_job


def attempt(number: int) -> None:
    """Train to the end in this process, then leave it."""
    folder, base, corpus = map(Path, sys.argv[1:4])
    train(make_job(folder, base, corpus, attempt=number, finetuning_type=sys.argv[4], **KILL_CHANGES))
    os._exit(0)


if __name__ == "__main__":
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                attempt(int(line))
            finally:
                os._exit(1)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
        sys.stdout.write(f"{os.waitpid(pid, 0)[1]}\n")
        sys.stdout.flush()
