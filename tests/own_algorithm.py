"""An algorithm of someone's own, of which no file of tfsac knows: `train.algorithm = 'own_algorithm:Toy'`."""

from typing import Literal

import numpy as np

from tfsac.algorithms import losses
from tfsac.algorithms.adam import Adam
from tfsac.algorithms.agent import Agent, polyak
from tfsac.algorithms.networks import q_network
from tfsac.quiet_tensorflow import keras, tf
from tfsac.setting_types import Factors, Fraction, Positive, Sizes, Step


class Toy(Agent):
    """A deterministic actor-critic (after Lillicrap et al. 2016) that explores with noise of a fixed spread.

    Its policy holds batch normalisation, its critics are a list, their targets a dict.

    Args:
        observation_dim, action_dim: sizes O and A.
        seed: of the initial weights and of the noise.
        observation_scale: see `Agent`.
        discount: gamma.
        tau: step of the targets towards the critics, per gradient step.
        spread: standard deviation of exploration and of the target's actions, before the tanh.
        backup: of the two targets, which value.
        normalise: whether the policy has batch normalisation.
        momentum: of the moving statistics.
        policy_hidden_units, critic_hidden_units: sizes of the ReLU layers.
        learning_rates: Adam's step sizes of the critics and of the policy.
    """

    name, scope = "toy", "Toy"
    shown = ("q",)

    def __init__(
        self,
        observation_dim,
        action_dim,
        seed,
        observation_scale: Factors | None = None,
        discount: Fraction = 0.9,
        tau: Step = 0.05,
        spread: Positive = 0.3,
        backup: Literal["min", "mean"] = "min",
        normalise: bool = True,
        momentum: Fraction = 0.9,
        policy_hidden_units: Sizes = (16,),
        critic_hidden_units: Sizes = (16, 16),
        learning_rates: tuple[Positive, Positive] = (1e-3, 1e-3),
    ):
        super().__init__(observation_dim, action_dim, seed, observation_scale)
        self.discount, self.tau, self.spread, self.backup = discount, tau, spread, backup
        seeds = [int(x) for x in np.random.SeedSequence(seed).generate_state(3) // 2]
        sizes = observation_dim, action_dim, critic_hidden_units
        self.policy = _policy(observation_dim, action_dim, policy_hidden_units, seeds[2], spread, normalise, momentum)
        self.critics = [q_network(*sizes, seed) for seed in seeds[:2]]
        self.targets = {f"of_{i}": q_network(*sizes, seed) for i, seed in enumerate(seeds[:2])}
        critic_variables = [x for critic in self.critics for x in critic.trainable_variables]
        self.optimizers = (
            Adam(critic_variables, learning_rates[0]),
            Adam(self.policy.trainable_variables, learning_rates[1], beta_1=0.5),
        )

    def gradient_step(self, batch, noise):
        """See `Agent.gradient_step`."""
        mu, _ = self.policy(batch.next_observation, training=False)
        inputs = [batch.next_observation, tf.tanh(mu + self.spread * noise[0])]
        next_q = [target(inputs) for target in self.targets.values()]
        next_value = tf.minimum(*next_q) if self.backup == "min" else tf.add_n(next_q) / 2
        target = losses.bellman_target(batch.reward, batch.terminated, next_value, self.discount)
        with tf.GradientTape() as tape:
            q = [critic([batch.observation, batch.action]) for critic in self.critics]
            q_loss = tf.add_n([losses.q_loss(x, target) for x in q])
        self.optimizers[0].minimise(q_loss, tape)
        with tf.GradientTape() as tape:
            mu, _ = self.policy(batch.observation, training=True)
            policy_loss = -tf.reduce_mean(self.critics[0]([batch.observation, tf.tanh(mu)]))
        self.optimizers[1].minimise(policy_loss, tape)
        for target, critic in zip(self.targets.values(), self.critics, strict=True):
            polyak(target, critic, self.tau)
        return {"q_loss": q_loss, "policy_loss": policy_loss, "q": tf.reduce_mean(q[0])}


def _policy(observation_dim, action_dim, hidden_units, seed, spread, normalise, momentum):
    def normalised(x):
        return keras.layers.BatchNormalization(momentum=momentum, dtype="float32")(x) if normalise else x

    def dense(units, **options):
        initializer = keras.initializers.GlorotUniform(seed)
        return keras.layers.Dense(units, kernel_initializer=initializer, dtype="float32", **options)

    observation = keras.Input([observation_dim], dtype="float32")
    x = normalised(observation)
    for units in hidden_units:
        x = keras.layers.ReLU(dtype="float32")(normalised(dense(units, use_bias=not normalise)(x)))
    mu = dense(action_dim, name="mu")(x)
    log_std = keras.layers.Dense(
        action_dim,
        kernel_initializer="zeros",
        bias_initializer=keras.initializers.Constant(np.log(spread)),
        name="log_std",
        trainable=False,
        dtype="float32",
    )(x)
    return keras.Model(observation, (mu, log_std))
