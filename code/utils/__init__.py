"""The base of all other rooms: files, configuration, errors, devices; no algorithm of the method.

Importing it sets how long OpenMP's threads wait actively for each other; run.py imports it before torch. By default,
GNU's runtime lets a finished thread spin for milliseconds. On a busy machine this takes the processor from the thread
that it waits for, and steps took three to twenty times as long. So threads sleep sooner, at no cost on an idle machine.
"""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # iterations; read when torch loads the runtime
