"""The tests, and what they ask of the process they run in."""

import os

# Two workers share two cores: OpenBLAS's threads, which spin while they wait for one another, made fits of half a
# second take thirteen. It is read when numpy is loaded: https://github.com/OpenMathLib/OpenBLAS/wiki/Faq#multi-threaded
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
