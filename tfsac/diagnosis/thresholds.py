"""Where healthy ends: numbers from the study's runs. benchmarks/study/thresholds.py writes this file.

value: between healthy and faulty runs; healthy, faulty: the least and the most of these runs, None where there is none.
"""

from typing import NamedTuple


class Threshold(NamedTuple):
    """See the module's docstring."""

    value: float
    healthy: tuple[float, float] | None = None
    faulty: tuple[float, float] | None = None


MIN_UPDATES = 3400  # gradient steps before which every run looks odd

THRESHOLDS = {
    "alpha_growth": Threshold(3.43, (0.0208, 1.0), (11.8, 165.0)),
    "alpha_sign": Threshold(0.0, (0.495, 0.965), None),
    "constant_observations": Threshold(0.0, None, None),
    "entropy_depth": Threshold(13200.0, (-0.198, 1.01), (171000000.0, 8240000000.0)),
    "entropy_excess": Threshold(0.0, (-1.71, -0.495), None),
    "entropy_gap": Threshold(0.0738, (0.495, 1.71), (0.00858, 0.011)),
    "entropy_near": Threshold(0.177, (0.495, 1.71), (0.00994, 0.0632)),
    "entropy_share": Threshold(0.359, (-0.455, 0.21), (0.612, 0.99)),
    "entropy_share_to_come": Threshold(0.359, (-0.455, 0.21), (0.612, 0.99)),
    "evaluation_gap": Threshold(-0.185, (-0.0198, 0.145), None),
    "exchange_low": Threshold(0.00413, (0.106, 28.0), (0.000152, 0.00016)),
    "exchange_now": Threshold(0.00413, (0.0179, 2.53), None),
    "largest_observation": Threshold(65.9, (1.45, 9.78), None),
    "limit_error": Threshold(0.137, (0.000875, 0.0576), (0.324, 1.78)),
    "loss_sign": Threshold(0.0, (1.0, 1.0), (-1.0, -1.0)),
    "not_finite": Threshold(0.0, (0.0, 0.0), None),
    "other_returns": Threshold(0.01, (1.0, 1.0), None),
    "policy_gradient": Threshold(0.276, (1.82, 1.82), (0.0919, 0.101)),
    "q_bias_high": Threshold(2.19, (-0.564, 0.813), None),
    "q_bias_low": Threshold(-1.94, (-0.564, 0.813), None),
    "q_gradient": Threshold(4.57, (0.721, 1.82), None),
    "q_growth": Threshold(1.52, (2.14, 53.0), (1.0, 1.08)),
    "q_loss_floor": Threshold(0.0437, None, (0.238, 0.336)),
    "q_reach": Threshold(0.0964, (0.195, 1.57), (0.0268, 0.0476)),
    "relative_q_error": Threshold(0.0428, (0.00381, 0.0241), (0.0761, 0.0942)),
    "saturation": Threshold(0.372, (0.004, 0.004), (1.0, 1.0)),
    "setback": Threshold(0.027, (0.0, 0.464), None),
    "setback_large": Threshold(0.464, (0.0, 0.464), None),
    "share_held": Threshold(1.0, None, None),
    "smallest_observation": Threshold(0.00262, (0.0413, 0.651), None),
    "terminal_ends": Threshold(0.5, None, None),
    "value_loss": Threshold(2.79, (0.0814, 0.887), (8.76, 30.8)),
    "value_loss_held": Threshold(0.274, None, (5.47, 21.4)),
}
