"""``maskcast``, which writes the stacks of all its threads to stderr when it gets SIGUSR1."""

import faulthandler
import signal
import sys

from daemon.__main__ import program

if __name__ == "__main__":
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    sys.exit(program())
