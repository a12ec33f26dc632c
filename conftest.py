"""Before torch is loaded by any test: its threads are one, and those that wait let others work.

The models of the tests are tiny. Several threads on one of them do nothing but wait for one another, and where cores
are shared that takes twenty times as long.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
