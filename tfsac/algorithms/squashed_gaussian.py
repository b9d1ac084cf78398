"""From the policy network's (mu, log_std) to the tanh-squashed Gaussian pi(.|s) on [-1, 1]^A."""

from tfsac.quiet_tensorflow import tf, tfp


def squashed_gaussian(mu, log_std):
    """pi(.|s): the law of a = f_phi(eps; s) = tanh(mu + exp(log_std) eps), eps ~ N(0, I).

    The change of variables (2018b, appendix C: log pi(a|s) = log N(u) - sum_i log(1 - tanh^2(u_i)), u = atanh(a)) is
    TFP's: `distribution.bijector` is f_phi itself, `distribution.distribution` the law of eps.

    Args:
        mu, log_std: outputs of the policy network, [B, A].

    Returns:
        A tfp TransformedDistribution, batch shape [B], event shape [A].
    """
    tfb, tfd = tfp.bijectors, tfp.distributions
    f_phi = tfb.Chain([tfb.Tanh(), tfb.Shift(mu), tfb.Scale(log_scale=log_std)])
    return tfd.TransformedDistribution(tfd.MultivariateNormalDiag(tf.zeros(mu.shape[-1:])), f_phi)


def sample_with_log_prob(mu, log_std, noise):
    """The reparameterised sample a = f_phi(eps; s) together with its log-probability.

    Both come from eps, on the near side of the tanh: log_prob(action) would have to invert it, and a saturated action
    has no finite inverse in float32.

    Args:
        mu, log_std: outputs of the policy network, [B, A].
        noise: eps ~ N(0, I), [B, A].

    Returns:
        action in [-1, 1], [B, A]; log pi(action|s) in nats, a density in [-1, 1]^A, [B].
    """
    pi = squashed_gaussian(mu, log_std)
    action = pi.bijector.forward(noise)
    log_prob = pi.distribution.log_prob(noise) - pi.bijector.forward_log_det_jacobian(noise, event_ndims=1)
    return action, log_prob
