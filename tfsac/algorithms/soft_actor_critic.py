"""What the soft actor-critics share: a policy, twin Q, and the steps of Algorithm 1 that update these."""

import math

import numpy as np

from tfsac.algorithms import losses
from tfsac.algorithms.adam import Adam
from tfsac.algorithms.agent import Agent, polyak
from tfsac.algorithms.networks import policy_network, q_network
from tfsac.algorithms.squashed_gaussian import sample_with_log_prob
from tfsac.quiet_tensorflow import tf


class SoftActorCritic(Agent):
    """Base of every algorithm here.

    Attributes:
        make_q: (observation_dim, action_dim, hidden_units, seed) -> a network from ([B, O], [B, A]) to [B].
        beta_1: Adam's, for the policy and the critics.
        eta: of `update_mean`, whose mean is over about the last 1 / (1 + eta) of the gradient steps.
        mean_policy: None, or a network of the shape of `policy`, which evaluations and exports take then.

    Args:
        observation_dim, action_dim: sizes O and A.
        seed: of the initial weights and of the noise.
        observation_scale: see `Agent`.
        policy_hidden_units, critic_hidden_units: sizes of the ReLU layers.
        policy_learning_rate, q_learning_rate: Adam's step sizes lambda_pi, lambda_Q.
        smoothness: weight of `losses.roughness` in the policy's loss.
    """

    make_q = staticmethod(q_network)
    beta_1 = 0.9
    eta = 99
    mean_policy = None

    def __init__(
        self,
        observation_dim,
        action_dim,
        seed,
        observation_scale,
        policy_hidden_units,
        critic_hidden_units,
        policy_learning_rate,
        q_learning_rate,
        smoothness=0.0,
    ):
        super().__init__(observation_dim, action_dim, seed, observation_scale)
        self.smoothness = smoothness
        # One seed a network: policy, Q_1, Q_2, and one to spare.
        policy_seed, *self._seeds = (int(x) for x in np.random.SeedSequence(seed).generate_state(4) // 2)
        self.policy = policy_network(observation_dim, action_dim, policy_hidden_units, policy_seed)
        self.q1, self.q2 = (self.make_q(observation_dim, action_dim, critic_hidden_units, x) for x in self._seeds[:2])
        q_variables = self.q1.trainable_variables + self.q2.trainable_variables
        self.policy_optimizer = Adam(self.policy.trainable_variables, policy_learning_rate, self.beta_1)
        self.q_optimizer = Adam(q_variables, q_learning_rate, self.beta_1)

    @property
    def deployed_network(self):
        """See `Agent.deployed_network`."""
        return self.policy if self.mean_policy is None else self.mean_policy

    @property
    def alpha(self):
        """The temperature, scalar."""
        raise NotImplementedError

    def sample(self, observation, noise):
        """a ~ pi(.|s) and log pi(a|s): [B, O], [B, A] -> [B, A], [B]."""
        return sample_with_log_prob(*self.policy(observation), noise)

    def min_q(self, observation, action):
        """min_i Q_i(s, a), [B]."""
        return tf.minimum(self.q1([observation, action]), self.q2([observation, action]))

    def update_q(self, batch, target):
        """theta_i <- theta_i - lambda_Q grad J_Q(theta_i).

        Args:
            batch: `Transition`, leading axis [B].
            target: Qhat, [B].

        Returns:
            Metrics.
        """
        with tf.GradientTape() as tape:
            q1, q2 = (q([batch.observation, batch.action]) for q in (self.q1, self.q2))  # [B] [B]
            q1_loss, q2_loss = losses.q_loss(q1, target), losses.q_loss(q2, target)
            loss = q1_loss + q2_loss  # of separate weights: each critic gets its own gradient
        gradient_norm = self.q_optimizer.minimise(loss, tape)
        return {
            "q1_loss": q1_loss,
            "q2_loss": q2_loss,
            "q1": tf.reduce_mean(q1),
            "q2": tf.reduce_mean(q2),
            "q_gradient_norm": gradient_norm,
        }

    def update_policy(self, batch, noise):
        """phi <- phi - lambda_pi grad J_pi(phi), with actions drawn afresh from the policy.

        With smoothness above 0, smoothness times `losses.roughness` is added to the papers' loss: else a command may
        chatter, and wear the gears, at no cost in return.

        Args:
            batch: `Transition`, leading axis [B].
            noise: eps, [B, A].

        Returns:
            Metrics, and log pi of the actions drawn, [B].
        """
        with tf.GradientTape() as tape:
            action, log_prob = self.sample(batch.observation, noise)  # [B, A] [B]
            policy_loss = losses.policy_loss(self.min_q(batch.observation, action), log_prob, self.alpha)
            loss, metrics = policy_loss, {"policy_loss": policy_loss}
            if self.smoothness:
                (mu, _), (next_mu, _) = self.policy(batch.observation), self.policy(batch.next_observation)
                metrics["roughness"] = losses.roughness(tf.tanh(mu), tf.tanh(next_mu), batch.terminated)
                loss += self.smoothness * metrics["roughness"]
        gradient_norm = self.policy_optimizer.minimise(loss, tape)
        metrics |= {"entropy": -tf.reduce_mean(log_prob), "policy_gradient_norm": gradient_norm}
        return metrics, log_prob

    def deploy_mean(self, policy_hidden_units):
        """From now on evaluations and exports take `mean_policy`, which every gradient step must `update_mean`."""
        self.mean_policy = policy_network(self.observation_dim, self.action_dim, policy_hidden_units, self.seed)
        self.mean_policy.set_weights(self.policy.get_weights())

    def update_mean(self):
        """phi-bar <- phi-bar + (1 + eta) / (t + eta) (phi - phi-bar), in gradient step t = 1, 2, ...

        The polynomial-decay averaging of Shamir and Zhang 2013, "Stochastic Gradient Descent for Non-smooth
        Optimization", arXiv 1212.1824.
        """
        t = tf.cast(self.gradient_steps, tf.float32)
        polyak(self.mean_policy, self.policy, (1 + self.eta) / (t + self.eta))


class LearnedTemperature(SoftActorCritic):
    """Base of the algorithms that learn alpha (2018b, section 5).

    Args:
        shared: the arguments of `SoftActorCritic`.
        alpha_learning_rate: Adam's step size for log alpha; 0 keeps alpha at initial_alpha.
        target_entropy: Hbar in nats, of the density in [-1, 1]^A; None stands for -A.
        initial_alpha: the temperature at the start.
    """

    def __init__(self, *shared, alpha_learning_rate, target_entropy, initial_alpha):
        super().__init__(*shared)
        self.target_entropy = -float(self.action_dim) if target_entropy is None else target_entropy
        self.log_alpha = tf.Variable(math.log(initial_alpha), dtype=tf.float32)
        self.alpha_optimizer = Adam([self.log_alpha], alpha_learning_rate)

    @property
    def alpha(self):
        """The temperature, scalar."""
        return tf.exp(self.log_alpha)

    def update_temperature(self, log_prob):
        """alpha <- alpha - lambda grad J(alpha), for log pi of the policy's own actions, [B]."""
        with tf.GradientTape() as tape:
            alpha_loss = losses.alpha_loss(self.log_alpha, log_prob, self.target_entropy)
        return {"alpha_loss": alpha_loss, "alpha_gradient_norm": self.alpha_optimizer.minimise(alpha_loss, tape)}
