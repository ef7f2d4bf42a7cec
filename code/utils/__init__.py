"""What the rest builds on, and, as run.py imports this before torch, how OpenMP's threads wait for each other.

Unasked, GNU's runtime has a thread that has finished its share spin for milliseconds. On a machine with other work that
takes the processor from the very thread it waits for: steps took three to twenty times as long. So it soon sleeps; with
nothing else to do, that costs nothing.
"""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # read once, when torch loads the runtime
