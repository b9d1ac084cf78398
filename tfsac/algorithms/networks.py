"""The Keras models: policy s -> (mu, log_std), Q(s, a), V(s). They return plain tensors and know no algorithm.

Every layer sets its type: Keras' default is the user's setting (keras.json), perhaps for another project.
"""

from tfsac.policy import LOG_STD_MAX, LOG_STD_MIN
from tfsac.quiet_tensorflow import keras


def policy_network(observation_dim, action_dim, hidden_units, seed):
    """s -> (mu, log_std), both before the tanh.

    Args:
        observation_dim, action_dim: sizes O and A.
        hidden_units: sizes of the ReLU layers.
        seed: integer; two networks of one seed are equal.

    Returns:
        A keras.Model from [B, O] to ([B, A], [B, A]).
    """
    initializers = glorot_uniform(seed)
    observation = keras.Input([observation_dim], name="observation", dtype="float32")
    hidden = _mlp(observation, hidden_units, initializers)
    mu = _dense(action_dim, initializers, "mu")(hidden)
    log_std = _dense(action_dim, initializers, "log_std")(hidden)
    return keras.Model(observation, (mu, keras.ops.clip(log_std, LOG_STD_MIN, LOG_STD_MAX)))


def q_network(observation_dim, action_dim, hidden_units, seed):
    """Q(s, a): a keras.Model from ([B, O], [B, A]) to [B]; arguments as in `policy_network`."""
    observation = keras.Input([observation_dim], name="observation", dtype="float32")
    action = keras.Input([action_dim], name="action", dtype="float32")
    inputs = keras.ops.concatenate([observation, action], axis=-1)
    return keras.Model((observation, action), _scalar(inputs, hidden_units, seed))


def v_network(observation_dim, hidden_units, seed):
    """V(s): a keras.Model from [B, O] to [B]; arguments as in `policy_network`."""
    observation = keras.Input([observation_dim], name="observation", dtype="float32")
    return keras.Model(observation, _scalar(observation, hidden_units, seed))


def _scalar(inputs, hidden_units, seed):
    initializers = glorot_uniform(seed)
    hidden = _mlp(inputs, hidden_units, initializers)
    output = _dense(1, initializers, "output")(hidden)
    return keras.ops.squeeze(output, axis=-1)  # [B], never [B, 1]


def _mlp(inputs, hidden_units, initializers):
    for i, units in enumerate(hidden_units):
        inputs = _dense(units, initializers, f"hidden_{i}", activation="relu")(inputs)
    return inputs


def _dense(units, initializers, name, activation=None):
    return keras.layers.Dense(units, activation, kernel_initializer=next(initializers), name=name, dtype="float32")


def glorot_uniform(seed):
    """One seeded initialiser per layer: without a seed, Keras 3 draws from Python's own generator."""
    while True:
        yield keras.initializers.GlorotUniform(seed=seed)
        seed += 1
