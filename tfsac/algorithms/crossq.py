"""CrossQ: Soft Actor-Critic with batch normalisation in the critics and without target networks.

Bhatt et al. 2024, "CrossQ: Batch Normalization in Deep Reinforcement Learning for Greater Sample Efficiency and
Simplicity", arXiv 1902.05605.
"""

from tfsac.algorithms import losses
from tfsac.algorithms.soft_actor_critic import LearnedTemperature
from tfsac.quiet_tensorflow import tf
from tfsac.setting_types import Count, Factors, Fraction, Positive, PositiveOrZero, Sizes


class CrossQ(LearnedTemperature):
    """The paper's section 3. Q(s, a) and Q(s', a') come from one pass of the same critic, normalised with statistics of
    both halves; so no target network is needed.

    Modes: the critics run in training mode in `update_critics` only, which moves the moving statistics; the policy's
    loss uses them in inference mode. After `warm_up` gradient steps training mode comes close to it, as in the authors'
    code: see `NormalisedDense._renormalised`.

    # Deviation: critics of 256 units; the paper has 2048; because on a CPU a step with these takes some fifty times as
    # long.
    # Deviation: a policy without batch normalisation; the paper normalises it; because it is what runs on devices.
    # Deviation: a policy that is updated in every gradient step; the paper's policy_delay is 3; because with that
    # Swimmer is not learned.
    # Deviation: evaluations and exports take the mean of the latest policies; the paper the last one; because single
    # policies fall back.

    Args:
        observation_dim, action_dim: sizes O and A.
        seed: of the initial weights and of the noise.
        observation_scale: factor of each observation before any network sees it, one number each; None stands for 1.
        discount: gamma.
        policy_hidden_units, critic_hidden_units: sizes of the ReLU layers.
        policy_learning_rate, q_learning_rate: Adam's step sizes.
        alpha_learning_rate: Adam's step size for log alpha; 0 keeps alpha at initial_alpha.
        target_entropy: Hbar in nats, of the density in [-1, 1]^A; None stands for -A.
        initial_alpha: the temperature at the start.
        smoothness: weight of the policy's step-to-step movement in its loss; see `losses.roughness`.
        policy_delay: gradient steps of the critics for one of policy and temperature.
    """

    name, scope = "crossq", "CrossQ"
    beta_1 = 0.5  # the paper's
    warm_up = 100_000  # gradient steps without renormalisation; the authors'

    @staticmethod
    def make_q(*sizes):
        """See `SoftActorCritic`."""
        from tfsac.algorithms.normalised_q import NormalisedQ  # here: its base class is Keras', which takes seconds

        return NormalisedQ(*sizes)

    def __init__(
        self,
        observation_dim,
        action_dim,
        seed,
        observation_scale: Factors | None = None,
        discount: Fraction = 0.99,
        policy_hidden_units: Sizes = (256, 256),
        critic_hidden_units: Sizes = (256, 256),
        policy_learning_rate: Positive = 1e-3,
        q_learning_rate: Positive = 1e-3,
        alpha_learning_rate: PositiveOrZero = 1e-3,
        target_entropy: float | None = None,
        initial_alpha: Positive = 1.0,
        smoothness: PositiveOrZero = 0.0,
        policy_delay: Count = 1,
    ):
        sizes, rates = (policy_hidden_units, critic_hidden_units), (policy_learning_rate, q_learning_rate)
        temperature = dict(
            alpha_learning_rate=alpha_learning_rate, target_entropy=target_entropy, initial_alpha=initial_alpha
        )
        super().__init__(
            observation_dim, action_dim, seed, observation_scale, *sizes, *rates, smoothness, **temperature
        )
        self.discount, self.policy_delay = discount, policy_delay
        names = ["policy_loss", "entropy", "policy_gradient_norm", "alpha_loss", "alpha_gradient_norm"]
        names += ["roughness"] if smoothness else []
        self.last_update = {name: tf.Variable(0.0, trainable=False) for name in names}  # metrics
        self.deploy_mean(policy_hidden_units)

    def gradient_step(self, batch, noise):
        """See `Agent.gradient_step`. Metrics of the policy and of its temperature are those of their last update."""
        alpha = self.alpha  # before its own update
        critics = self.update_critics(batch, noise[0])

        def update():
            policy, log_prob = self.update_policy(batch, noise[1])
            for name, metric in (policy | self.update_temperature(log_prob)).items():
                self.last_update[name].assign(metric)

        is_due = tf.equal((self.gradient_steps - 1) % self.policy_delay, 0)
        tf.cond(is_due, update, lambda: None)
        self.update_mean()
        return critics | {name: x.read_value() for name, x in self.last_update.items()} | {"alpha": alpha}

    def update_critics(self, batch, noise):
        """theta_i <- theta_i - lambda_Q grad J_Q(theta_i), towards the critics' own soft value of s'."""
        next_action, next_log_prob = self.sample(batch.next_observation, noise)  # [B, A] [B]
        observations = tf.concat([batch.observation, batch.next_observation], axis=0)  # [2 B, O]
        actions = tf.concat([batch.action, next_action], axis=0)  # [2 B, A]
        mode = dict(training=True, renormalise=tf.cast(self.gradient_steps > self.warm_up, tf.float32))
        with tf.GradientTape() as tape:
            both = (q([observations, actions], **mode) for q in (self.q1, self.q2))  # [2 B] [2 B]
            (q1, next_q1), (q2, next_q2) = (tf.split(q, 2) for q in both)  # [B] each
            next_value = losses.soft_value(tf.minimum(next_q1, next_q2), next_log_prob, self.alpha)  # [B]
            target = losses.bellman_target(batch.reward, batch.terminated, next_value, self.discount)  # [B]
            q1_loss, q2_loss = losses.q_loss(q1, target), losses.q_loss(q2, target)
            loss = q1_loss + q2_loss  # of separate weights: each critic gets its own gradient
        return {
            "q1_loss": q1_loss,
            "q2_loss": q2_loss,
            "q1": tf.reduce_mean(q1),
            "q2": tf.reduce_mean(q2),
            "q_gradient_norm": self.q_optimizer.minimise(loss, tape),
        }
