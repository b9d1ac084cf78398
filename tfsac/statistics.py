"""What few samples say of the mean they were drawn from."""

import math

import numpy as np


def confidence_interval(values):
    """Mean of a sample with its 95 % interval by Student's t: mean -/+ t(0.975, n - 1) s / sqrt(n).

    1.96 in place of t would cover 70 % of the time with two values, 81 % with three.

    Args:
        values: the sample, at least one number.

    Returns:
        mean, low, high; without bounds, -inf and inf, for a single value.
    """
    count, mean = len(values), float(np.mean(values))
    if count < 2:
        return mean, -math.inf, math.inf
    from scipy.special import stdtrit  # here, since a start need not wait for it

    half = float(stdtrit(count - 1, 0.975) * np.std(values, ddof=1) / math.sqrt(count))
    return mean, mean - half, mean + half
