"""Soft Actor-Critic as in Haarnoja et al. 2018b: twin target Q, no V, a learned temperature."""

import math

import numpy as np
import tensorflow as tf

from tfsac import losses
from tfsac.adam import Adam
from tfsac.agent import Agent, polyak
from tfsac.networks import policy_network, q_network
from tfsac.policy import sample_with_log_prob


class SAC(Agent):
    """Algorithm 1 of 2018b. It maximises equation (1), sum_t E[r + alpha H(pi(.|s_t))], with alpha learned.

    Args:
        observation_dim, action_dim: sizes O and A.
        seed: of the initial weights and of the noise.
        observation_scale: what observations are multiplied by before any network sees them, one number for each; None
            stands for 1.
        discount: gamma.
        tau: step of the targets towards the online networks, per gradient step.
        policy_hidden_units, critic_hidden_units: sizes of the ReLU layers.
        policy_learning_rate, q_learning_rate: Adam's step sizes.
        alpha_learning_rate: Adam's step size for log alpha; 0 keeps alpha at initial_alpha.
        target_entropy: Hbar in nats, of the density in [-1, 1]^A; None stands for -A (2018b, appendix D).
        initial_alpha: the temperature at the start.
    """

    METRICS = (
        "q1_loss", "q2_loss", "policy_loss", "alpha_loss", "alpha", "entropy", "q1", "q2",
        "q_gradient_norm", "policy_gradient_norm", "alpha_gradient_norm",
    )  # fmt: skip

    def __init__(
        self,
        observation_dim,
        action_dim,
        seed,
        observation_scale: tuple[float, ...] | None = None,
        discount: float = 0.99,
        tau: float = 0.005,
        policy_hidden_units: tuple[int, ...] = (256, 256),
        critic_hidden_units: tuple[int, ...] = (256, 256),
        policy_learning_rate: float = 3e-4,
        q_learning_rate: float = 3e-4,
        alpha_learning_rate: float = 3e-4,
        target_entropy: float | None = None,
        initial_alpha: float = 1.0,
    ):
        super().__init__(observation_dim, action_dim, seed, observation_scale)
        self.discount, self.tau = discount, tau
        self.target_entropy = -float(action_dim) if target_entropy is None else target_entropy

        policy_seed, q1_seed, q2_seed = (int(x) for x in np.random.SeedSequence(seed).generate_state(3) // 2)
        q_sizes = observation_dim, action_dim, critic_hidden_units
        self.policy = policy_network(observation_dim, action_dim, policy_hidden_units, policy_seed)
        self.q1, self.q1_target = q_network(*q_sizes, q1_seed), q_network(*q_sizes, q1_seed)
        self.q2, self.q2_target = q_network(*q_sizes, q2_seed), q_network(*q_sizes, q2_seed)
        self.log_alpha = tf.Variable(math.log(initial_alpha), dtype=tf.float32)

        self.q_optimizer = Adam(self.q1.variables + self.q2.variables, q_learning_rate)
        self.policy_optimizer = Adam(self.policy.variables, policy_learning_rate)
        self.alpha_optimizer = Adam([self.log_alpha], alpha_learning_rate)

    def gradient_step(self, batch, noise):
        """See `Agent.gradient_step`."""
        observation, action, reward, next_observation, terminated = batch  # [B, O] [B, A] [B] [B, O] [B]
        alpha = tf.exp(self.log_alpha)

        # theta_i <- theta_i - lambda_Q grad J_Q(theta_i)
        next_action, next_log_prob = sample_with_log_prob(*self.policy(next_observation), noise[0])  # [B, A] [B]
        next_q = tf.minimum(
            self.q1_target([next_observation, next_action]), self.q2_target([next_observation, next_action])
        )  # [B]
        next_value = losses.soft_value(next_q, next_log_prob, alpha)  # [B]
        target = losses.bellman_target(reward, terminated, next_value, self.discount)  # [B]
        with tf.GradientTape() as tape:
            q1, q2 = self.q1([observation, action]), self.q2([observation, action])  # [B] [B]
            q1_loss, q2_loss = losses.q_loss(q1, target), losses.q_loss(q2, target)
            loss = q1_loss + q2_loss  # of separate weights: each critic gets its own gradient
        q_gradient_norm = self.q_optimizer.minimise(loss, tape)

        # phi <- phi - lambda_pi grad J_pi(phi)
        with tf.GradientTape() as tape:
            new_action, log_prob = sample_with_log_prob(*self.policy(observation), noise[1])  # [B, A] [B]
            q = tf.minimum(self.q1([observation, new_action]), self.q2([observation, new_action]))  # [B]
            policy_loss = losses.policy_loss(q, log_prob, alpha)
        policy_gradient_norm = self.policy_optimizer.minimise(policy_loss, tape)

        # alpha <- alpha - lambda grad J(alpha)
        with tf.GradientTape() as tape:
            alpha_loss = losses.alpha_loss(self.log_alpha, log_prob, self.target_entropy)
        alpha_gradient_norm = self.alpha_optimizer.minimise(alpha_loss, tape)

        # theta-bar_i <- tau theta_i + (1 - tau) theta-bar_i
        polyak(self.q1_target, self.q1, self.tau)
        polyak(self.q2_target, self.q2, self.tau)

        return {
            "q1_loss": q1_loss,
            "q2_loss": q2_loss,
            "policy_loss": policy_loss,
            "alpha_loss": alpha_loss,
            "alpha": alpha,
            "entropy": -tf.reduce_mean(log_prob),
            "q1": tf.reduce_mean(q1),
            "q2": tf.reduce_mean(q2),
            "q_gradient_norm": q_gradient_norm,
            "policy_gradient_norm": policy_gradient_norm,
            "alpha_gradient_norm": alpha_gradient_norm,
        }
