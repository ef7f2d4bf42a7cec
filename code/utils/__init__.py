"""What the rest builds on, and, as everything imports this before torch, how OpenMP's threads wait for each other.

Unasked, GNU's runtime has a thread that has finished its share spin for milliseconds. On a machine with other work that
takes the processor from the very thread it waits for: steps took 28 times as long. So it sleeps after some microseconds.
"""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # read once, when torch loads the runtime
