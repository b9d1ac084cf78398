"""Soft Actor-Critic as in Haarnoja et al. 2018a, the report's Algorithm 1: V, target V, twin Q, a reward scale."""

from tfsac.algorithms import losses
from tfsac.algorithms.adam import Adam
from tfsac.algorithms.agent import polyak
from tfsac.algorithms.networks import v_network
from tfsac.algorithms.soft_actor_critic import SoftActorCritic
from tfsac.quiet_tensorflow import tf
from tfsac.setting_types import Factors, Fraction, Positive, PositiveOrZero, Sizes, Step


class SACv1(SoftActorCritic):
    """The report's Algorithm 1. It has no temperature: scaling the reward by c is equation (1) with alpha = 1 / c.

    # Deviation: the policy's loss has min_i Q_i; the authors' code used Q_1, their text asks for the minimum (2018a,
    # section 4.2); because the policy seeks out the errors of a single critic.

    Args:
        observation_dim, action_dim: sizes O and A.
        seed: of the initial weights and of the noise.
        observation_scale: factor of each observation before any network sees it, one number each; None stands for 1.
        discount: gamma.
        tau: step of the target V towards V, per gradient step.
        reward_scale: factor of the reward in the Bellman target; 5 for most tasks of 2018a.
        policy_hidden_units, critic_hidden_units: sizes of the ReLU layers; the critics are V and both Q.
        v_learning_rate, q_learning_rate, policy_learning_rate: Adam's step sizes lambda_V, lambda_Q, lambda_pi.
        smoothness: weight of the policy's step-to-step movement in its loss; see `losses.roughness`.
    """

    name, scope = "sac_v1", "SACv1"
    alpha = 1.0  # of the equations; the metric alpha is its value relative to the unscaled reward

    def __init__(
        self,
        observation_dim,
        action_dim,
        seed,
        observation_scale: Factors | None = None,
        discount: Fraction = 0.99,
        tau: Step = 0.005,
        reward_scale: Positive = 5.0,
        policy_hidden_units: Sizes = (256, 256),
        critic_hidden_units: Sizes = (256, 256),
        v_learning_rate: Positive = 3e-4,
        q_learning_rate: Positive = 3e-4,
        policy_learning_rate: Positive = 3e-4,
        smoothness: PositiveOrZero = 0.0,
    ):
        sizes, rates = (policy_hidden_units, critic_hidden_units), (policy_learning_rate, q_learning_rate)
        super().__init__(observation_dim, action_dim, seed, observation_scale, *sizes, *rates, smoothness)
        self.discount, self.tau, self.reward_scale = discount, tau, reward_scale
        self.v, self.v_target = (
            v_network(observation_dim, critic_hidden_units, self._seeds[2]) for _ in ("online", "target")
        )
        self.v_optimizer = Adam(self.v.trainable_variables, v_learning_rate)

    def gradient_step(self, batch, noise):
        """See `Agent.gradient_step`."""
        v = self.update_v(batch, noise[0])
        critics = self.update_critics(batch)
        policy, _ = self.update_policy(batch, noise[1])
        self.update_targets()
        return v | critics | policy | {"alpha": tf.constant(1.0 / self.reward_scale)}

    def update_v(self, batch, noise):
        """psi <- psi - lambda_V grad J_V(psi), with actions drawn afresh from the policy, never from replay."""
        action, log_prob = self.sample(batch.observation, noise)  # [B, A] [B]
        q = self.min_q(batch.observation, action)  # [B]
        with tf.GradientTape() as tape:
            v = self.v(batch.observation)  # [B]
            v_loss = losses.v_loss(v, losses.soft_value(q, log_prob, self.alpha))
        return {"v_loss": v_loss, "v": tf.reduce_mean(v), "v_gradient_norm": self.v_optimizer.minimise(v_loss, tape)}

    def update_critics(self, batch):
        """theta_i <- theta_i - lambda_Q grad J_Q(theta_i), towards the target V of s'."""
        next_value = self.v_target(batch.next_observation)  # [B]
        target = losses.bellman_target(
            batch.reward, batch.terminated, next_value, self.discount, self.reward_scale
        )  # [B]
        return self.update_q(batch, target)

    def update_targets(self):
        """psi-bar <- tau psi + (1 - tau) psi-bar."""
        polyak(self.v_target, self.v, self.tau)
