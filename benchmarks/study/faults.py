"""Eleven faults, as student code has them, each in the method that it would stand in.

All but one are `SACv1` with a method or two changed: `train.algorithm = 'faults:OneQ'`. The one that is no matter of
the algorithm is a wrapper of the environment: `env.wrappers = ('faults:TimeLimitIsTerminal',)`. See ablation.py.
"""

import gymnasium as gym

from tfsac.algorithms import losses
from tfsac.algorithms.agent import polyak
from tfsac.algorithms.sac_v1 import SACv1
from tfsac.algorithms.squashed_gaussian import squashed_gaussian
from tfsac.quiet_tensorflow import tf


class AverageAsPrinted(SACv1):
    """The moving average as the report's Algorithm 1 prints it: psi <- tau psi + (1 - tau) psi-bar."""

    def update_targets(self):
        polyak(self.v, self.v_target, 1 - self.tau)


class BAgainstB1(SACv1):
    """Predictions [B, 1] against targets [B]: each is drawn to every target of the batch, so to their mean."""

    def update_v(self, batch, noise):
        action, log_prob = self.sample(batch.observation, noise)
        q = self.min_q(batch.observation, action)
        with tf.GradientTape() as tape:
            v = self.v(batch.observation)
            v_loss = _half_mean_square_of_all_pairs(v, losses.soft_value(q, log_prob))
        return {"v_loss": v_loss, "v": tf.reduce_mean(v), "v_gradient_norm": self.v_optimizer.minimise(v_loss, tape)}

    def update_q(self, batch, target):
        with tf.GradientTape() as tape:
            q1, q2 = (q([batch.observation, batch.action]) for q in (self.q1, self.q2))
            q1_loss, q2_loss = (_half_mean_square_of_all_pairs(q, target) for q in (q1, q2))
            loss = q1_loss + q2_loss
        gradient_norm = self.q_optimizer.minimise(loss, tape)
        means = {"q1": tf.reduce_mean(q1), "q2": tf.reduce_mean(q2)}
        return {"q1_loss": q1_loss, "q2_loss": q2_loss, **means, "q_gradient_norm": gradient_norm}


def _half_mean_square_of_all_pairs(prediction, target):
    return 0.5 * tf.reduce_mean(tf.square(prediction[:, None] - tf.stop_gradient(target)))


class NoGradientThroughQ(SACv1):
    """The action is detached before it enters Q: all that the policy learns is to be random."""

    def min_q(self, observation, action):
        return super().min_q(observation, tf.stop_gradient(action))


class NoRewardScale(SACv1):
    """Rewards enter the Bellman target as they are."""

    def update_critics(self, batch):
        next_value = self.v_target(batch.next_observation)
        return self.update_q(batch, losses.bellman_target(batch.reward, batch.terminated, next_value, self.discount))


class NoTanhCorrection(SACv1):
    """log N(eps; 0, I) is taken for log pi(a|s): the change of variables is left out, the tanh's part and sigma's."""

    def sample(self, observation, noise):
        pi = squashed_gaussian(*self.policy(observation))
        return pi.bijector.forward(noise), pi.distribution.log_prob(noise)


class OneQ(SACv1):
    """Q_1 in place of min_i Q_i."""

    def min_q(self, observation, action):
        return self.q1([observation, action])


class PolicyMinimisesQ(SACv1):
    """The wrong sign of Q in the policy's loss: E[log pi(a|s) + Q(s, a)]."""

    def update_policy(self, batch, noise):
        with tf.GradientTape() as tape:
            action, log_prob = self.sample(batch.observation, noise)
            policy_loss = losses.policy_loss(-self.min_q(batch.observation, action), log_prob)
        gradient_norm = self.policy_optimizer.minimise(policy_loss, tape)
        entropy = -tf.reduce_mean(log_prob)
        return {"policy_loss": policy_loss, "entropy": entropy, "policy_gradient_norm": gradient_norm}, log_prob


class ReplayActionsForV(SACv1):
    """V is learned from Q of the replayed action, which an older policy took, beside log pi of a fresh one."""

    def update_v(self, batch, noise):
        _, log_prob = self.sample(batch.observation, noise)
        q = self.min_q(batch.observation, batch.action)
        with tf.GradientTape() as tape:
            v = self.v(batch.observation)
            v_loss = losses.v_loss(v, losses.soft_value(q, log_prob))
        return {"v_loss": v_loss, "v": tf.reduce_mean(v), "v_gradient_norm": self.v_optimizer.minimise(v_loss, tape)}


class TargetNeverMoves(SACv1):
    """psi-bar stays where it was initialised."""

    def update_targets(self):
        pass


class WrongSignOfEntropy(SACv1):
    """log pi is added where it is to be subtracted, in V and in the policy's loss alike: randomness is punished."""

    alpha = -1.0


class TimeLimitIsTerminal(gym.Wrapper):
    """The end of an episode by its time limit is handed out as a terminal state, after which nothing is earned."""

    def step(self, action):
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated or truncated, truncated, info


# By the name that results, tables and figures have for them.
FAULTS = {
    "average_as_printed": AverageAsPrinted,
    "b_against_b1": BAgainstB1,
    "no_gradient_through_q": NoGradientThroughQ,
    "no_reward_scale": NoRewardScale,
    "no_tanh_correction": NoTanhCorrection,
    "one_q": OneQ,
    "policy_minimises_q": PolicyMinimisesQ,
    "replay_actions_for_v": ReplayActionsForV,
    "target_never_moves": TargetNeverMoves,
    "time_limit_is_terminal": TimeLimitIsTerminal,
    "wrong_sign_of_entropy": WrongSignOfEntropy,
}


def setting(fault):
    """The gin binding that trains with the fault of that name; `none` is `SACv1` as it is."""
    if fault == "none":
        return "train.algorithm = 'sac_v1'"
    found = FAULTS[fault]
    if issubclass(found, SACv1):
        return f"train.algorithm = 'faults:{found.__name__}'"
    return f"env.wrappers = ('faults:{found.__name__}',)"
