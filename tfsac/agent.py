"""What the two algorithms share: the compiled loop over gradient steps, and the state that a checkpoint holds."""

import keras
import numpy as np
import tensorflow as tf

from tfsac.adam import Adam
from tfsac.errors import require
from tfsac.numpy_policy import for_raw_observations
from tfsac.replay import Transition


class Agent:
    """Base of `SAC` and `SACv1`, which add networks (`policy` among them), optimisers and `gradient_step`.

    The networks see observations multiplied by observation_scale; whoever else needs the policy takes `policy_weights`.

    Attributes:
        METRICS: names of the scalars that `gradient_step` returns.

    Args:
        observation_dim, action_dim: sizes O and A.
        seed: of the noise.
        observation_scale: what observations are multiplied by before any network sees them, one number for each; None
            stands for 1.

    Raises:
        UserError: observation_scale has another length than O.
    """

    METRICS = ()

    def __init__(self, observation_dim, action_dim, seed, observation_scale):
        require(
            observation_scale is None or len(observation_scale) == observation_dim,
            f"{type(self).__name__}.observation_scale: expected one number for each of the environment's "
            f"{observation_dim} observations, received {len(observation_scale or ())}",
        )
        # Deviation: the papers' networks see observations as they are; because small observations beside large ones
        # are learned slowly.
        self.observation_scale = observation_scale
        self.observation_dim, self.action_dim, self.seed = observation_dim, action_dim, seed
        self.gradient_steps = tf.Variable(0, dtype=tf.int64, trainable=False)  # taken so far
        self._compiled = {}  # `_update` by batch size
        # All in one call: to read a variable outside a graph costs a dispatch each.
        self._read_policy = tf.function(lambda: {x.path: tf.identity(x.value) for x in self.policy.variables})

    def gradient_step(self, batch, noise):
        """One gradient step of every network, in the order of the paper's Algorithm 1.

        Args:
            batch: `Transition` with leading axis [B], observations multiplied by observation_scale already.
            noise: eps ~ N(0, I), two samples for every transition, [2, B, A].

        Returns:
            Scalars by name, as in METRICS.
        """
        raise NotImplementedError

    def update(self, batches):
        """As many gradient steps as there are batches, each on a batch of its own, in one compiled call.

        Args:
            batches: `Transition` with leading axes [K, B], observations as they are.

        Returns:
            METRICS by name, numpy arrays [K]: one entry for each gradient step.
        """
        batch_size = batches.reward.shape[1]
        if batch_size not in self._compiled:
            self._compiled[batch_size] = self._compile(batch_size)
        return {name: values.numpy() for name, values in self._compiled[batch_size](batches).items()}

    def _compile(self, batch_size):
        # K is None, so that one trace serves every block; B is known, which leaves no shapes to find at run time.
        o, a = (tf.TensorSpec([None, batch_size, dim]) for dim in (self.observation_dim, self.action_dim))
        scalar = tf.TensorSpec([None, batch_size])
        return tf.function(self._update, input_signature=[Transition(o, a, scalar, o, scalar)])

    def _update(self, batches):
        if self.observation_scale is not None:
            scale = np.float32(self.observation_scale)
            batches = batches._replace(
                observation=scale * batches.observation, next_observation=scale * batches.next_observation
            )

        def step(batch):
            # The noise is a function of (seed, number of the step): nothing to save, and K steps in one call equal
            # K calls of one.
            shape = tf.stack([2, tf.shape(batch.action)[0], self.action_dim])
            noise = tf.random.stateless_normal(shape, [self.seed, self.gradient_steps])
            self.gradient_steps.assign_add(1)
            return self.gradient_step(batch, noise)

        signature = {name: tf.TensorSpec([]) for name in self.METRICS}
        return tf.map_fn(step, batches, parallel_iterations=1, fn_output_signature=signature)

    def variables(self):
        """Every tf.Variable of the agent by name: networks, targets, optimisers, log alpha, counters."""
        found = {}
        for name, part in vars(self).items():
            if isinstance(part, keras.Model):
                found |= {f"{name}/{x.path}": x.value for x in part.variables}
            elif isinstance(part, Adam):
                found |= {f"{name}/{path}": x for path, x in part.state().items()}
            elif isinstance(part, tf.Variable):
                found[name] = part
        return found

    def get_state(self):
        """A copy of every variable, numpy arrays by name."""
        return {name: variable.numpy() for name, variable in self.variables().items()}

    def set_state(self, state):
        """Takes back what `get_state` gave; refuses another set of names or shapes with UserError."""
        variables = self.variables()
        expected = {name: tuple(variable.shape) for name, variable in variables.items()}
        received = {name: array.shape for name, array in state.items()}
        unlike = sorted(set(expected.items()) ^ set(received.items()))
        require(
            not unlike,
            f"the checkpoint is of another network: {unlike[0][0] if unlike else ''} differs; "
            "resume with the algorithm and the hidden units that the run began with",
        )
        for name, variable in variables.items():
            variable.assign(state[name])

    def policy_weights(self):
        """Copies of the policy's arrays by name, as `NumpyPolicy` takes them, for observations as they are."""
        return for_raw_observations({k: x.numpy() for k, x in self._read_policy().items()}, self.observation_scale)


def polyak(target, online, tau):
    """psi-bar <- tau psi + (1 - tau) psi-bar, for every variable of two networks of one shape.

    # Deviation: moves the target; the last line of the report's Algorithm 1 moves psi; because psi-bar is meant
    # (2018a, Algorithm 1).
    """
    for old, new in zip(target.variables, online.variables, strict=True):
        # old <- old - tau (old - new), in one pass over the weights
        tf.raw_ops.ResourceApplyGradientDescent(var=old.value.handle, alpha=tau, delta=old.value - new.value)
