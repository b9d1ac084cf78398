"""Q(s, a) with batch normalisation before every dense layer, for CrossQ.

Normalising is an affine map of each input of a dense layer, so it multiplies the kernel, [n, units], instead of the
batch.
"""

import itertools

from tfsac.algorithms.networks import glorot_uniform
from tfsac.quiet_tensorflow import keras, tf

EPSILON, MOMENTUM = 1e-3, 0.99  # of the authors' code, as are these bounds
R_MAX, D_MAX = 3.0, 5.0


class NormalisedDense(keras.layers.Layer):
    """x -> y W + b, with y = gamma ((x - mean) / sqrt(variance + epsilon) + beta).

    # Deviation: gamma multiplies beta, too; usual is gamma (...) + beta; because beta then joins mean in what is
    # subtracted from the batch, and takes no pass of its own.

    Beta is needed although b could do its work: normalised inputs have mean 0, so that without beta only b could carry
    the mean of Q. But b moves by at most the learning rate in a step: by 1 in 1,000 steps at a rate of 1e-3.

    Args:
        inputs, units: sizes n and m.
        initializer: of the kernel W, [n, m].
        name: of the layer.
    """

    def __init__(self, inputs, units, initializer, name):
        super().__init__(name=name, dtype="float32")
        self.gamma = self.add_weight([inputs], "ones", name="gamma")
        self.beta = self.add_weight([inputs], "zeros", name="beta")
        self.kernel = self.add_weight([inputs, units], initializer, name="kernel")
        self.bias = self.add_weight([units], "zeros", name="bias")
        self.moving_mean = self.add_weight([inputs], "zeros", trainable=False, name="moving_mean")
        self.moving_variance = self.add_weight([inputs], "ones", trainable=False, name="moving_variance")
        self.built = True

    def call(self, x, training, renormalise=0.0):
        """[B, n] -> [B, m].

        Args:
            x: see above.
            training: True to use the statistics of x and move the moving statistics towards them; False to use the
                moving statistics.
            renormalise: in training 1 to correct these statistics by the moving ones, see `_renormalised`, 0 not to.
        """
        gamma, beta, *others = self.gamma.value, self.beta.value, self.kernel.value, self.bias.value
        if not training:
            return _normalised_dense(x, self.moving_mean.value, self.moving_variance.value, gamma, beta, *others)
        mean = tf.reduce_mean(x, 0)
        variance = tf.reduce_mean(tf.math.squared_difference(x, mean), 0)
        gamma, beta = self._renormalised(gamma, beta, mean, variance, renormalise)
        for moving, statistic in ((self.moving_mean, mean), (self.moving_variance, variance)):
            # moving <- momentum moving + (1 - momentum) statistic, in one operation
            tf.raw_ops.ResourceApplyGradientDescent(
                var=moving.value.handle, alpha=1 - MOMENTUM, delta=moving.value - statistic
            )
        return _normalised_dense_of_own_statistics(x, mean, variance, gamma, beta, *others)

    def _renormalised(self, gamma, beta, mean, variance, share):
        """gamma and beta with which a batch is normalised as in inference mode, unless its statistics are far off.

        Batch renormalisation (Ioffe 2017, arXiv 1702.03275): (x - mean) / std becomes (x - mean) / std r + d, with
            r = std / moving std in [1/3, 3],  d = (mean - moving mean) / moving std in [-5, 5],
        through which no gradient flows. So y = gamma r ((x - mean) / std + (beta + d) / r).
        """
        std, moving_std = (tf.sqrt(x + EPSILON) for x in (variance, self.moving_variance.value))
        r = tf.clip_by_value(std / moving_std, 1 / R_MAX, R_MAX)
        d = tf.clip_by_value((mean - self.moving_mean.value) / moving_std, -D_MAX, D_MAX)
        r, d = tf.stop_gradient(1 + share * (r - 1)), tf.stop_gradient(share * d)
        return gamma * r, (beta + d) / r


class NormalisedQ(keras.layers.Layer):
    """Q(s, a).

    Args:
        observation_dim, action_dim: sizes O and A.
        hidden_units: sizes of the ReLU layers.
        seed: integer; two networks of one seed are equal.
    """

    make_dense = NormalisedDense

    def __init__(self, observation_dim, action_dim, hidden_units, seed):
        super().__init__(dtype="float32")
        initializers = glorot_uniform(seed)
        sizes = [observation_dim + action_dim, *hidden_units]
        self.hidden = [
            self.make_dense(*pair, next(initializers), f"hidden_{i}")
            for i, pair in enumerate(itertools.pairwise(sizes))
        ]
        self.output_layer = self.make_dense(sizes[-1], 1, next(initializers), "output")
        self.built = True

    def call(self, inputs, training=False, renormalise=0.0):
        """([B, O], [B, A]) -> [B]; training and renormalise as in `NormalisedDense`."""
        x = tf.concat(inputs, axis=1)
        for layer in self.hidden:
            x = tf.nn.relu(layer(x, training=training, renormalise=renormalise))
        return tf.squeeze(self.output_layer(x, training=training, renormalise=renormalise), 1)


def _normalised_dense(x, mean, variance, gamma, beta, kernel, bias):
    std = tf.sqrt(variance + EPSILON)
    return tf.nn.bias_add(tf.matmul(x - (mean - beta * std), (gamma / std)[:, None] * kernel), bias)


@tf.custom_gradient
def _normalised_dense_of_own_statistics(x, mean, variance, gamma, beta, kernel, bias):
    """As `_normalised_dense`, with the gradient in x through mean and variance.

    Automatic differentiation gives the same with a dozen passes over the batch, of N rows, instead of two beside the
    products. With s = sqrt(variance + epsilon), c = x - mean, K = gamma / s W and z = (c + beta s) K + b:
        d_K = (c + beta s)^T d_z,  d_b = sum_N d_z,  d_W = gamma / s d_K,
        d_gamma = sum_m W d_K / s,  d_beta = s K d_b,
        d_(1/s) = sum_N c d_c s = s (gamma d_gamma - beta d_beta),  d_variance = -1/2 s^-3 d_(1/s),
        d_x = d_z K^T + 2 d_variance / N c - K d_b / N.
    """
    std, rows = tf.sqrt(variance + EPSILON), x.shape[0]
    shifted, scaled_kernel = x - (mean - beta * std), (gamma / std)[:, None] * kernel

    def gradient(d_output):
        d_scaled_kernel = tf.matmul(shifted, d_output, transpose_a=True)
        d_bias = tf.reduce_sum(d_output, 0)
        d_gamma = tf.reduce_sum(kernel * d_scaled_kernel, 1) / std
        d_mean = -tf.linalg.matvec(scaled_kernel, d_bias)
        d_beta = -std * d_mean
        slope = -(gamma * d_gamma - beta * d_beta) / tf.square(std) / rows  # 2 d_variance / N
        d_x = tf.matmul(d_output, scaled_kernel, transpose_b=True)
        d_x += slope * shifted - (slope * beta * std - d_mean / rows)
        return d_x, None, None, d_gamma, d_beta, (gamma / std)[:, None] * d_scaled_kernel, d_bias

    return tf.nn.bias_add(tf.matmul(shifted, scaled_kernel), bias), gradient
