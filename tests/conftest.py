"""What every test runs under."""

import os

from hypothesis import settings

# Equal bits are promised on one thread. Set before anything imports TensorFlow or numpy's BLAS; commands inherit it.
os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

# The same cases on every run: what passed here passes there. The long runs (`slow`) draw new ones each time.
settings.register_profile("default suite", max_examples=300, derandomize=True, deadline=None)
settings.load_profile("default suite")
