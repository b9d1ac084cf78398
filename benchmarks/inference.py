"""Every way to ask a policy of tfsac, for one observation or a batch of them; see compare.py, which times them."""

import numpy as np


def load(policy, observation_dim, action_dim, batch_size):
    """A function without arguments that answers the same batch of observations every time.

    Args:
        policy: a `Policy`, or the path of an artefact.
        observation_dim, action_dim: sizes O and A.
        batch_size: observations a call, B.
    """
    observation = np.random.default_rng(0).uniform(-1, 1, [batch_size, observation_dim]).astype(np.float32)
    if not isinstance(policy, str):
        return lambda: policy.deterministic(observation)
    if policy.endswith(".tflite"):
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(policy, num_threads=1)
        place, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
        interpreter.resize_tensor_input(place, observation.shape)
        interpreter.allocate_tensors()

        def run():
            interpreter.set_tensor(place, observation)
            interpreter.invoke()
            return interpreter.get_tensor(result)

        return run
    import tensorflow as tf

    signature = tf.saved_model.load(policy).signatures["deterministic"]
    return lambda: signature(observation=tf.constant(observation))["action"].numpy()
