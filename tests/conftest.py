"""What every test runs under."""

import os
from unittest import mock

import pytest
from hypothesis import settings

# Equal bits are promised on one thread. Set before anything imports TensorFlow or numpy's BLAS; commands inherit it.
os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

# The same cases on every run: what passed here passes there. The long runs (`slow`) draw new ones each time.
settings.register_profile("default suite", max_examples=300, derandomize=True, deadline=None)
settings.load_profile("default suite")


# Each file is one worker's (--dist loadfile). The long ones go first, or one of them is alone at the end.
LONG = ["resume", "train", "sweep", "export", "tflite", "remote_collectors", "own_algorithm", "search", "demo_page"]


def pytest_collection_modifyitems(items):
    order = {f"test_{name}.py": place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.name, len(LONG)))


@pytest.fixture(scope="session")
def ray_address():
    """One Ray of two cores for all commands that can share it: each would take seconds to start its own."""
    cluster_utils = pytest.importorskip("ray.cluster_utils", reason="Ray is not installed (the extra `ray`)")
    head = {"num_cpus": 2, "include_dashboard": False}
    # What `connect` sets, and where the workers find the tests' environments.
    with mock.patch.dict(os.environ, {"RAY_worker_niceness": "0", "PYTHONPATH": os.path.dirname(__file__)}):
        cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
    yield cluster.address
    cluster.shutdown()
