"""Adam (Kingma & Ba 2015) through TensorFlow's fused kernel."""

from tfsac.quiet_tensorflow import keras, tf

BETA_2, EPSILON = 0.999, 1e-8  # the paper's defaults (its section 2, algorithm 1)


class Adam:
    """Adam on a fixed list of variables, one kernel per variable.

    Keras' optimiser is not used because it composes the update from a dozen operations, each a pass over the weights.
    With it, a gradient step of SAC (256 x 256, batch 256) takes 1.12 times as long: CPU time of 40 windows by turns,
    half of them between 1.07 and 1.15, one thread of a Xeon with AVX-512.

    # Deviation: the weights move by lr sqrt(1 - beta_2^t) / (1 - beta_1^t) m / (sqrt(v) + epsilon); the paper's
    # algorithm 1 adds epsilon after the bias correction of v; because the kernel has the form that the paper's
    # section 2 recommends for efficiency (as TensorFlow and Keras do).

    Args:
        variables: tf.Variables or keras.Variables, float32, such as a network's trainable_variables.
        learning_rate: step size.
        beta_1: decay of the first moment; the default is the paper's.
    """

    def __init__(self, variables, learning_rate, beta_1=0.9):
        self.variables = [x.value if isinstance(x, keras.Variable) else x for x in variables]
        self.learning_rate, self.beta_1 = learning_rate, beta_1
        self.m = [tf.Variable(tf.zeros_like(x), trainable=False) for x in self.variables]
        self.v = [tf.Variable(tf.zeros_like(x), trainable=False) for x in self.variables]
        self.beta_1_power = tf.Variable(beta_1, trainable=False)  # beta_1^t
        self.beta_2_power = tf.Variable(BETA_2, trainable=False)  # beta_2^t

    def minimise(self, loss, tape):
        """One step down the gradient of the scalar loss recorded on the tape.

        Returns:
            The gradient's norm over all variables, scalar.
        """
        gradients = tape.gradient(loss, self.variables)
        for x, m, v, gradient in zip(self.variables, self.m, self.v, gradients, strict=True):
            tf.raw_ops.ResourceApplyAdam(
                var=x.handle,
                m=m.handle,
                v=v.handle,
                beta1_power=self.beta_1_power,
                beta2_power=self.beta_2_power,
                lr=self.learning_rate,
                beta1=self.beta_1,
                beta2=BETA_2,
                epsilon=EPSILON,
                grad=gradient,
            )
        self.beta_1_power.assign(self.beta_1_power * self.beta_1)
        self.beta_2_power.assign(self.beta_2_power * BETA_2)
        return tf.linalg.global_norm(gradients)

    def state(self):
        """The optimiser's own variables by name, for the checkpoint."""
        slots = {f"{slot}/{i}": x for slot in ("m", "v") for i, x in enumerate(getattr(self, slot))}
        return {**slots, "beta_1_power": self.beta_1_power, "beta_2_power": self.beta_2_power}
