"""The algorithms by name; a new one takes one line here."""

from tfsac.algorithms.agent import Agent
from tfsac.algorithms.crossq import CrossQ
from tfsac.algorithms.sac import SAC
from tfsac.algorithms.sac_v1 import SACv1
from tfsac.errors import require
from tfsac.trust import load_named

ALGORITHMS = {algorithm.name: algorithm for algorithm in (SAC, SACv1, CrossQ)}


def find(name):
    """The algorithm's class.

    Args:
        name: of ALGORITHMS, or `module:Class`, an `Agent` of the user's own, whose module is imported.

    Raises:
        UserError: there is none of that name.
    """
    choices = f"expected one of {', '.join(map(repr, ALGORITHMS))} or 'module:Class'"
    require(isinstance(name, str), f"train.algorithm: {choices}, received {name!r}")
    if ":" not in name:
        require(name in ALGORITHMS, f"train.algorithm: {choices}, received {name!r}")
        return ALGORITHMS[name]
    algorithm = load_named(name, "train.algorithm")
    is_agent = isinstance(algorithm, type) and issubclass(algorithm, Agent) and algorithm.scope
    require(is_agent, f"train.algorithm = {name!r}: expected a subclass of tfsac.algorithms.agent.Agent with a scope")
    return algorithm
