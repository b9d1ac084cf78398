"""What all algorithms share: the compiled loop over gradient steps, the state of a checkpoint, the deployed policy."""

import re
from collections import Counter
from functools import cached_property

import numpy as np

from tfsac.algorithms.adam import Adam
from tfsac.algorithms.fold import fold
from tfsac.data.replay import Transition
from tfsac.errors import require
from tfsac.quiet_tensorflow import keras, tf


class Agent:
    """Base of an algorithm, which adds networks (`policy` among them), optimisers and `gradient_step`.

    The networks see observations multiplied by observation_scale; all other code uses `behaviour_policy`, which acts in
    training, and `deployed_policy`, which evaluations and exports take.

    Attributes:
        name: of the algorithm, as in `train.algorithm`.
        scope: of its settings in gin files, which are the keyword parameters of the constructor.
        shown: metrics for the progress bar.
        metric_names: of the scalars that `gradient_step` returns; known after it has been traced.

    Args:
        observation_dim, action_dim: sizes O and A.
        seed: of the noise.
        observation_scale: factor of each observation before any network sees it, one number each; None stands for 1.

    Raises:
        UserError: observation_scale has another length than O.
    """

    name = scope = ""
    shown = ("alpha",)

    def __init__(self, observation_dim, action_dim, seed, observation_scale=None):
        require(
            observation_scale is None or len(observation_scale) == observation_dim,
            f"{self.scope}.observation_scale: expected one number for each of the environment's "
            f"{observation_dim} observations, received {len(observation_scale or ())}",
        )
        # Deviation: the papers' networks see observations as they are; because small observations beside large ones
        # are learned slowly.
        self.observation_scale = observation_scale
        self.observation_dim, self.action_dim, self.seed = observation_dim, action_dim, seed
        self.gradient_steps = tf.Variable(0, dtype=tf.int64, trainable=False)  # taken so far
        self.metric_names = ()
        self._compiled = {}  # `_update` by batch size

    def gradient_step(self, batch, noise):
        """One gradient step of every network, in the order of the paper's algorithm.

        Args:
            batch: `Transition` with leading axis [B], observations multiplied by observation_scale already.
            noise: eps ~ N(0, I), two samples for every transition, [2, B, A].

        Returns:
            Scalars by name: metrics.
        """
        raise NotImplementedError

    def update(self, rows):
        """One gradient step for each batch, in one compiled call.

        Args:
            rows: transitions as rows of the replay, [K, B, 2 O + A + 2] float32, observations as they are.

        Returns:
            Metrics by name, numpy arrays [K]: one number for each gradient step.
        """
        return self._run(rows)[0]

    def update_policies(self, rows):
        """`update`, then `behaviour_policy` and `deployed_policy`, in one compiled call instead of three.

        Args:
            rows: as in `update`.

        Returns:
            Metrics and the two policies.
        """
        metrics, weights = self._run(rows)
        half = len(weights) // 2
        return metrics, self._fold(weights[:half]), self._fold(weights[half:])

    def _run(self, rows):
        batch_size = rows.shape[1]
        if batch_size not in self._compiled:
            self._compiled[batch_size] = self._compile(batch_size)
        metrics, *weights = self._compiled[batch_size](rows)  # [K, M] and both policies'
        return dict(zip(self.metric_names, metrics.numpy().T, strict=True)), weights

    def _compile(self, batch_size):
        # K is None, so that one trace serves every block; B is known, which leaves no shapes to find at run time.
        rows = tf.TensorSpec([None, batch_size, 2 * self.observation_dim + self.action_dim + 2])
        traced = tf.function(self._update, autograph=False).get_concrete_function(rows)
        captured, types = traced.captured_inputs, [x.dtype for x in traced.outputs]
        # The operation that tf.function would run, without the machinery that looks for a trace and binds and casts
        # arguments: that takes 0.3 ms, a gradient step 7.
        return lambda rows: tf.raw_ops.StatefulPartitionedCall(args=[rows, *captured], Tout=types, f=traced)

    def _update(self, rows):
        def step(rows):
            batch = Transition.split(rows, self.observation_dim, self.action_dim, tf.split)
            if self.observation_scale is not None:
                scale = np.float32(self.observation_scale)
                batch = batch._replace(
                    observation=scale * batch.observation, next_observation=scale * batch.next_observation
                )
            # The noise is a function of (seed, number of the step): nothing to save, and K steps in one call equal
            # K calls of one.
            noise = tf.random.stateless_normal([2, rows.shape[0], self.action_dim], [self.seed, self.gradient_steps])
            self.gradient_steps.assign_add(1)
            metrics = self.gradient_step(batch, noise)
            self.metric_names = tuple(metrics)
            return tf.stack(list(metrics.values()))

        metrics = tf.map_fn(step, rows, parallel_iterations=1, fn_output_signature=tf.float32)
        with tf.control_dependencies([metrics]):
            return metrics, [tf.identity(x.value) for x in self.policy.variables + self.deployed_network.variables]

    def variables(self):
        """Every tf.Variable of the agent by name: networks, targets, optimisers, counters, in whatever attribute."""
        return _variables(vars(self))

    def get_state(self):
        """A copy of every variable, numpy arrays by name."""
        return {name: variable.numpy() for name, variable in self.variables().items()}

    def set_state(self, state):
        """Takes back what `get_state` gave; refuses other names, shapes or types, and NaN, with UserError."""
        variables = self.variables()
        expected = {name: (tuple(x.shape), x.dtype.as_numpy_dtype) for name, x in variables.items()}
        received = {name: (array.shape, array.dtype.type) for name, array in state.items()}
        different = sorted(name for name, _ in set(expected.items()) ^ set(received.items()))
        require(
            not different,
            f"the checkpoint is of another network: {different[0] if different else ''} differs; "
            "take the algorithm, the hidden units and the sizes of observation and action of that run",
        )
        for name, array in state.items():
            require(np.all(np.isfinite(array)), f"the agent's {name} holds numbers that are not finite")
        for name, variable in variables.items():
            variable.assign(state[name])

    @property
    def deployed_network(self):
        """What `deployed_policy` is folded from: `policy`, or another network of the same shape."""
        return self.policy

    def behaviour_policy(self):
        """A copy of `policy` as it is now, a `tfsac.policy.Policy`, for observations as they are.

        Raises:
            UserError: the network has layers that do not fold into dense ones.
        """
        return self._fold([x.value for x in self.policy.variables])

    def deployed_policy(self):
        """As `behaviour_policy`, of `deployed_network`."""
        return self._fold([x.value for x in self.deployed_network.variables])

    @cached_property
    def _fold(self):
        names, folded = [x.path for x in self.policy.variables], fold(self.policy, self.observation_scale)
        return lambda weights: folded(dict(zip(names, (x.numpy() for x in weights), strict=True)))


def polyak(target, online, tau):
    """psi-bar <- tau psi + (1 - tau) psi-bar, for every variable of two networks of one shape.

    # Deviation: moves the target; the last line of the report's Algorithm 1 moves psi; because psi-bar is meant
    # (2018a, Algorithm 1).
    """
    for old, new in zip(target.variables, online.variables, strict=True):
        # old <- old - tau (old - new), in one pass over the weights
        tf.raw_ops.ResourceApplyGradientDescent(var=old.value.handle, alpha=tau, delta=old.value - new.value)


def _variables(parts):
    """tf.Variables by path, of a dict that may hold variables, Keras layers and optimisers, also in containers."""
    variables = {}
    for name, part in parts.items():
        if isinstance(part, keras.Layer):
            names = _own_names(part)
            for x in part.variables:
                path = "/".join(names.get(word, word) for word in x.path.split("/"))
                variables[f"{name}/{path}"] = x.value
        elif isinstance(part, keras.Variable):
            variables[name] = part.value
        elif isinstance(part, tf.Variable):
            variables[name] = part
        else:
            if isinstance(part, Adam):
                part = part.state()
            elif isinstance(part, list | tuple):
                part = dict(enumerate(part))
            if isinstance(part, dict):
                variables |= {f"{name}/{path}": x for path, x in _variables(part).items()}
    return variables


def _own_names(network):
    """New names, by Keras' names, for the layers that have no name of their own.

    Keras counts them over the whole process (dense_7), so that another process could not read a checkpoint. Here they
    are counted from 0 in each network.
    """
    names, counts = {}, Counter()
    for layer in network._flatten_layers():
        kind = re.sub("([a-z])([A-Z])", r"\1_\2", type(layer).__name__).lower()
        if re.fullmatch(rf"{kind}(_\d+)?", layer.name):
            names[layer.name] = f"{kind}_{counts[kind]}"
            counts[kind] += 1
    return names
