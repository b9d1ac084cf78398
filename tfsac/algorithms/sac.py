"""Soft Actor-Critic as in Haarnoja et al. 2018b: twin target Q, no V, a learned temperature."""

from tfsac.algorithms import losses
from tfsac.algorithms.agent import polyak
from tfsac.algorithms.networks import q_network
from tfsac.algorithms.soft_actor_critic import LearnedTemperature
from tfsac.quiet_tensorflow import tf
from tfsac.setting_types import Factors, Fraction, Positive, PositiveOrZero, Sizes, Step


class SAC(LearnedTemperature):
    """Algorithm 1 of 2018b. It maximises equation (1), sum_t E[r + alpha H(pi(.|s_t))], with alpha learned.

    Args:
        observation_dim, action_dim: sizes O and A.
        seed: of the initial weights and of the noise.
        observation_scale: factor of each observation before any network sees it, one number each; None stands for 1.
        discount: gamma.
        tau: step of the targets towards the online networks, per gradient step.
        policy_hidden_units, critic_hidden_units: sizes of the ReLU layers.
        policy_learning_rate, q_learning_rate: Adam's step sizes.
        alpha_learning_rate: Adam's step size for log alpha; 0 keeps alpha at initial_alpha.
        target_entropy: Hbar in nats, of the density in [-1, 1]^A; None stands for -A (2018b, appendix D).
        initial_alpha: the temperature at the start.
        smoothness: weight of the policy's step-to-step movement in its loss; see `losses.roughness`.
        mean_is_deployed: whether evaluations and exports take the mean of the latest policies, as those of `crossq`,
            instead of the last one.
    """

    name, scope = "sac", "SAC"

    def __init__(
        self,
        observation_dim,
        action_dim,
        seed,
        observation_scale: Factors | None = None,
        discount: Fraction = 0.99,
        tau: Step = 0.005,
        policy_hidden_units: Sizes = (256, 256),
        critic_hidden_units: Sizes = (256, 256),
        policy_learning_rate: Positive = 3e-4,
        q_learning_rate: Positive = 3e-4,
        alpha_learning_rate: PositiveOrZero = 3e-4,
        target_entropy: float | None = None,
        initial_alpha: Positive = 1.0,
        smoothness: PositiveOrZero = 0.0,
        mean_is_deployed: bool = False,
    ):
        sizes, rates = (policy_hidden_units, critic_hidden_units), (policy_learning_rate, q_learning_rate)
        temperature = dict(
            alpha_learning_rate=alpha_learning_rate, target_entropy=target_entropy, initial_alpha=initial_alpha
        )
        super().__init__(
            observation_dim, action_dim, seed, observation_scale, *sizes, *rates, smoothness, **temperature
        )
        self.discount, self.tau = discount, tau
        self.q1_target, self.q2_target = (
            q_network(observation_dim, action_dim, critic_hidden_units, x) for x in self._seeds[:2]
        )
        if mean_is_deployed:
            self.deploy_mean(policy_hidden_units)

    def gradient_step(self, batch, noise):
        """See `Agent.gradient_step`."""
        alpha = self.alpha  # before its own update
        critics = self.update_critics(batch, noise[0])
        policy, log_prob = self.update_policy(batch, noise[1])
        temperature = self.update_temperature(log_prob)
        self.update_targets()
        if self.mean_policy is not None:
            self.update_mean()
        return critics | policy | temperature | {"alpha": alpha}

    def update_critics(self, batch, noise):
        """theta_i <- theta_i - lambda_Q grad J_Q(theta_i), towards the targets' soft value of s'."""
        next_action, next_log_prob = self.sample(batch.next_observation, noise)  # [B, A] [B]
        next_q = tf.minimum(
            self.q1_target([batch.next_observation, next_action]), self.q2_target([batch.next_observation, next_action])
        )  # [B]
        next_value = losses.soft_value(next_q, next_log_prob, self.alpha)  # [B]
        return self.update_q(batch, losses.bellman_target(batch.reward, batch.terminated, next_value, self.discount))

    def update_targets(self):
        """theta-bar_i <- tau theta_i + (1 - tau) theta-bar_i."""
        polyak(self.q1_target, self.q1, self.tau)
        polyak(self.q2_target, self.q2, self.tau)
