"""tfsac: Soft Actor-Critic in TensorFlow, from training to device."""

import os

__version__ = "0.1.0"

# Before TensorFlow is imported anywhere: its CUDA notices on machines without a GPU (they come as errors), and
# the only Keras backend that tfsac's compiled step runs on.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"
