"""Soft Actor-Critic as in Haarnoja et al. 2018a, the report's Algorithm 1: V, target V, twin Q, a reward scale."""

import numpy as np
import tensorflow as tf

from tfsac import losses
from tfsac.adam import Adam
from tfsac.agent import Agent, polyak
from tfsac.networks import policy_network, q_network, v_network
from tfsac.policy import sample_with_log_prob


class SACv1(Agent):
    """The report's Algorithm 1. It has no temperature: scaling the reward by c is equation (1) with alpha = 1 / c.

    Args:
        observation_dim, action_dim: sizes O and A.
        seed: of the initial weights and of the noise.
        observation_scale: what observations are multiplied by before any network sees them, one number for each; None
            stands for 1.
        discount: gamma.
        tau: step of the target V towards V, per gradient step.
        reward_scale: factor of the reward in the Bellman target; 5 for most tasks of 2018a.
        policy_hidden_units, critic_hidden_units: sizes of the ReLU layers; the critics are V and both Q.
        v_learning_rate, q_learning_rate, policy_learning_rate: Adam's step sizes lambda_V, lambda_Q, lambda_pi.
    """

    METRICS = (
        "v_loss", "q1_loss", "q2_loss", "policy_loss", "alpha", "entropy", "v", "q1", "q2",
        "v_gradient_norm", "q_gradient_norm", "policy_gradient_norm",
    )  # fmt: skip

    def __init__(
        self,
        observation_dim,
        action_dim,
        seed,
        observation_scale: tuple[float, ...] | None = None,
        discount: float = 0.99,
        tau: float = 0.005,
        reward_scale: float = 5.0,
        policy_hidden_units: tuple[int, ...] = (256, 256),
        critic_hidden_units: tuple[int, ...] = (256, 256),
        v_learning_rate: float = 3e-4,
        q_learning_rate: float = 3e-4,
        policy_learning_rate: float = 3e-4,
    ):
        super().__init__(observation_dim, action_dim, seed, observation_scale)
        self.discount, self.tau, self.reward_scale = discount, tau, reward_scale

        seeds = (int(x) for x in np.random.SeedSequence(seed).generate_state(4) // 2)
        policy_seed, q1_seed, q2_seed, v_seed = seeds
        self.policy = policy_network(observation_dim, action_dim, policy_hidden_units, policy_seed)
        self.q1 = q_network(observation_dim, action_dim, critic_hidden_units, q1_seed)
        self.q2 = q_network(observation_dim, action_dim, critic_hidden_units, q2_seed)
        self.v, self.v_target = (v_network(observation_dim, critic_hidden_units, v_seed) for _ in range(2))

        self.v_optimizer = Adam(self.v.variables, v_learning_rate)
        self.q_optimizer = Adam(self.q1.variables + self.q2.variables, q_learning_rate)
        self.policy_optimizer = Adam(self.policy.variables, policy_learning_rate)

    def gradient_step(self, batch, noise):
        """See `Agent.gradient_step`."""
        observation, action, reward, next_observation, terminated = batch  # [B, O] [B, A] [B] [B, O] [B]

        # psi <- psi - lambda_V grad J_V(psi), with actions drawn afresh from the policy, never from replay
        new_action, log_prob = sample_with_log_prob(*self.policy(observation), noise[0])  # [B, A] [B]
        q = tf.minimum(self.q1([observation, new_action]), self.q2([observation, new_action]))  # [B]
        with tf.GradientTape() as tape:
            v = self.v(observation)  # [B]
            v_loss = losses.v_loss(v, losses.soft_value(q, log_prob))
        v_gradient_norm = self.v_optimizer.minimise(v_loss, tape)

        # theta_i <- theta_i - lambda_Q grad J_Q(theta_i)
        target = losses.bellman_target(
            reward, terminated, self.v_target(next_observation), self.discount, self.reward_scale
        )  # [B]
        with tf.GradientTape() as tape:
            q1, q2 = self.q1([observation, action]), self.q2([observation, action])  # [B] [B]
            q1_loss, q2_loss = losses.q_loss(q1, target), losses.q_loss(q2, target)
            loss = q1_loss + q2_loss  # of separate weights: each critic gets its own gradient
        q_gradient_norm = self.q_optimizer.minimise(loss, tape)

        # phi <- phi - lambda_pi grad J_pi(phi)
        with tf.GradientTape() as tape:
            new_action, log_prob = sample_with_log_prob(*self.policy(observation), noise[1])  # [B, A] [B]
            # Deviation: min_i Q_i; the authors' code used Q_1, their text asks for the minimum (2018a, section 4.2);
            # because the policy seeks out the errors of a single critic.
            q = tf.minimum(self.q1([observation, new_action]), self.q2([observation, new_action]))  # [B]
            policy_loss = losses.policy_loss(q, log_prob)
        policy_gradient_norm = self.policy_optimizer.minimise(policy_loss, tape)

        # psi-bar <- tau psi + (1 - tau) psi-bar
        polyak(self.v_target, self.v, self.tau)

        return {
            "v_loss": v_loss,
            "q1_loss": q1_loss,
            "q2_loss": q2_loss,
            "policy_loss": policy_loss,
            "alpha": tf.constant(1.0 / self.reward_scale),
            "entropy": -tf.reduce_mean(log_prob),
            "v": tf.reduce_mean(v),
            "q1": tf.reduce_mean(q1),
            "q2": tf.reduce_mean(q2),
            "v_gradient_norm": v_gradient_norm,
            "q_gradient_norm": q_gradient_norm,
            "policy_gradient_norm": policy_gradient_norm,
        }
