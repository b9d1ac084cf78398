"""The equations of Soft Actor-Critic: one pure function each, tensors in, tensors out.

Nothing here holds a variable or draws noise. Equation numbers are those of the 2022 report, whose method is
Haarnoja et al. 2018a ("Soft Actor-Critic: Off-Policy Maximum Entropy Deep Reinforcement Learning with a Stochastic
Actor", arXiv 1801.01290); 2018b is "Soft Actor-Critic Algorithms and Applications" (arXiv 1812.05905).

All arguments are float32 tensors of shape [B] (one number per transition of the batch) unless said otherwise. A
[B, 1] would broadcast against [B] to [B, B] silently, so every function refuses unequal shapes with ValueError.
"""

from tfsac.quiet_tensorflow import tf


def soft_value(q, log_prob, alpha=1.0):
    """Equation (3), one sample of it: V(s) = E_{a~pi}[Q(s, a) - alpha log pi(a|s)].

    # Deviation: alpha weighs the entropy here; (2)-(4) of the report set it to 1 while its (1) carries it; because
    # 2018b learns alpha. With alpha = 1 (sac_v1) this is the report's equation to the letter.

    Args:
        q: Q(s, a) for a drawn from the policy, [B].
        log_prob: log pi(a|s) of that action, a density in [-1, 1]^A, [B].
        alpha: weight of the entropy, scalar.

    Returns:
        V(s), [B].
    """
    _same_shape(q, log_prob)
    return q - alpha * log_prob


def bellman_target(reward, terminated, next_value, discount, reward_scale=1.0):
    """Equation (2), the soft Bellman operator: T Q(s, a) = r + gamma E_{s'}[V(s')].

    # Deviation: (1 - terminated) multiplies V(s'); the report's replay tuple lacks the flag; because nothing is
    # earned after a terminal state. A time limit is no terminal state: pass terminated, never truncated.

    Args:
        reward: r, [B].
        terminated: 1 where the episode ended in a terminal state, else 0, [B].
        next_value: V(s'), [B].
        discount: gamma, scalar.
        reward_scale: factor of the reward (2018a, appendix D: it plays the role of 1 / alpha), scalar.

    Returns:
        Qhat, [B], a constant for the gradient.
    """
    _same_shape(reward, terminated, next_value)
    return tf.stop_gradient(reward_scale * reward + discount * (1.0 - terminated) * next_value)


def v_loss(v, target):
    """J_V(psi) = E_{s~D}[ 1/2 (V_psi(s) - E_{a~pi}[Q_theta(s, a) - log pi(a|s)])^2 ].

    Args:
        v: V_psi(s), [B].
        target: `soft_value` of actions drawn afresh from the policy, [B]; held constant.

    Returns:
        Scalar.
    """
    return _half_mean_square(v, target)


def q_loss(q, target):
    """J_Q(theta) = E_{(s, a)~D}[ 1/2 (Q_theta(s, a) - Qhat(s, a))^2 ].

    Args:
        q: Q_theta(s, a) for the action in replay, [B].
        target: Qhat, `bellman_target`, [B]; held constant.

    Returns:
        Scalar.
    """
    return _half_mean_square(q, target)


def policy_loss(q, log_prob, alpha=1.0):
    """J_pi(phi) = E_{s~D, eps~N}[ alpha log pi(f_phi(eps; s)|s) - Q(s, f_phi(eps; s)) ].

    This is equation (4), the KL divergence to exp(Q / alpha) / Z, times alpha and without log Z, which has no
    gradient in phi. The gradient reaches phi through the action in q as well as through log_prob.

    Args:
        q: min_i Q_i(s, a) of the reparameterised action a = f_phi(eps; s), [B].
        log_prob: log pi(a|s) of the same action, [B].
        alpha: weight of the entropy, scalar.

    Returns:
        Scalar.
    """
    _same_shape(q, log_prob)
    return tf.reduce_mean(alpha * log_prob - q)


def roughness(mean, next_mean, terminated):
    """E_{s~D}[ (1 - d) |tanh mu(s') - tanh mu(s)|^2 ]: how far the deterministic action moves from a step to the next.

    The temporal term of CAPS (Mysore et al. 2021, arXiv 2012.06644, equation 2), squared. It is 0 after a terminal
    state, where the machine takes no next step.

    Args:
        mean, next_mean: tanh mu of s and of s', [B, A].
        terminated: 1 where the episode ended in a terminal state, else 0, [B].

    Returns:
        Scalar; the gradient reaches both means.
    """
    mean.shape.assert_is_compatible_with(next_mean.shape)
    distance = tf.reduce_sum(tf.square(next_mean - mean), axis=-1)  # [B]
    _same_shape(distance, terminated)
    return tf.reduce_mean((1.0 - terminated) * distance)


def alpha_loss(log_alpha, log_prob, target_entropy):
    """J(alpha) = E_{a~pi}[ -alpha log pi(a|s) - alpha Hbar ] (2018b, equation 18), as a function of log alpha.

    Args:
        log_alpha: scalar; the variable is log alpha, so that alpha stays positive.
        log_prob: log pi(a|s), [B]; held constant.
        target_entropy: Hbar in nats, scalar.

    Returns:
        Scalar.
    """
    return -tf.exp(log_alpha) * tf.reduce_mean(tf.stop_gradient(log_prob) + target_entropy)


def _half_mean_square(prediction, target):
    _same_shape(prediction, target)
    return 0.5 * tf.reduce_mean(tf.square(prediction - tf.stop_gradient(target)))


def _same_shape(first, *others):
    for other in others:
        first.shape.assert_is_compatible_with(other.shape)
