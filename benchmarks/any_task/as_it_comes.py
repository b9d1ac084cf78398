"""Evaluates a run in its task as it comes, without the settings of the environment that it was trained with:

    python benchmarks/any_task/as_it_comes.py RUN_DIRECTORY shimmy:dm_control/pendulum-swingup-v0

but for those that say what is observed, which may follow as a Python dict. Prints the returns of a hundred episodes,
whose starts are those of `tfsac.evaluate`, as it prints them with --json.
"""

import ast
import json
import sys

import tfsac
from tfsac.data.envs import EnvSettings
from tfsac.data.rollout import rollout


def main(logdir, env_id, observed="{}"):
    act = tfsac.load_policy(logdir, trust=[env_id.partition(":")[0]])
    env = EnvSettings(env_id, kwargs=ast.literal_eval(observed)).make(unit_actions=False)
    returns, _ = rollout(act, env, episodes=100)
    print(json.dumps({"returns": returns}))


if __name__ == "__main__":
    main(*sys.argv[1:])
