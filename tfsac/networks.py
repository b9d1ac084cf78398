"""The Keras models: policy s -> (mu, log_std), Q(s, a), V(s). They return plain tensors and know no algorithm."""

import keras
from keras import ops

from tfsac.numpy_policy import LOG_STD_MAX, LOG_STD_MIN


def policy_network(observation_dim, action_dim, hidden_units, seed):
    """s -> (mu, log_std), both before the tanh.

    Args:
        observation_dim, action_dim: sizes O and A.
        hidden_units: sizes of the ReLU layers.
        seed: integer; two networks of one seed are equal.

    Returns:
        A keras.Model from [B, O] to ([B, A], [B, A]).
    """
    initializers = _initializers(seed)
    observation = keras.Input([observation_dim], name="observation")
    hidden = _mlp(observation, hidden_units, initializers)
    mu = keras.layers.Dense(action_dim, kernel_initializer=next(initializers), name="mu")(hidden)
    log_std = keras.layers.Dense(action_dim, kernel_initializer=next(initializers), name="log_std")(hidden)
    return keras.Model(observation, (mu, ops.clip(log_std, LOG_STD_MIN, LOG_STD_MAX)))


def q_network(observation_dim, action_dim, hidden_units, seed):
    """Q(s, a): a keras.Model from ([B, O], [B, A]) to [B]; arguments as in `policy_network`."""
    observation = keras.Input([observation_dim], name="observation")
    action = keras.Input([action_dim], name="action")
    inputs = ops.concatenate([observation, action], axis=-1)
    return keras.Model((observation, action), _scalar(inputs, hidden_units, seed))


def v_network(observation_dim, hidden_units, seed):
    """V(s): a keras.Model from [B, O] to [B]; arguments as in `policy_network`."""
    observation = keras.Input([observation_dim], name="observation")
    return keras.Model(observation, _scalar(observation, hidden_units, seed))


def _scalar(inputs, hidden_units, seed):
    initializers = _initializers(seed)
    hidden = _mlp(inputs, hidden_units, initializers)
    output = keras.layers.Dense(1, kernel_initializer=next(initializers), name="output")(hidden)
    return ops.squeeze(output, axis=-1)  # [B], never [B, 1]


def _mlp(inputs, hidden_units, initializers):
    for i, units in enumerate(hidden_units):
        layer = keras.layers.Dense(units, activation="relu", kernel_initializer=next(initializers), name=f"hidden_{i}")
        inputs = layer(inputs)
    return inputs


def _initializers(seed):
    """One seeded initialiser per layer: without a seed, Keras 3 draws from Python's own generator."""
    while True:
        yield keras.initializers.GlorotUniform(seed=seed)
        seed += 1
