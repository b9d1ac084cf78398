"""Evaluates a run in its task as it comes, without the settings of the environment that it was trained with:

    python benchmarks/any_task/as_it_comes.py RUN_DIRECTORY shimmy:dm_control/pendulum-swingup-v0

Prints the returns of a hundred episodes, whose starts are those of `tfsac.evaluate`, as it prints them with --json.
"""

import json
import sys

import tfsac
from tfsac.data.envs import make_env
from tfsac.data.rollout import rollout


def main(logdir, env_id):
    act = tfsac.load_policy(logdir, trust=[env_id.partition(":")[0]])
    returns, _ = rollout(act, make_env(env_id, unit_actions=False), episodes=100)
    print(json.dumps({"returns": returns}))


if __name__ == "__main__":
    main(*sys.argv[1:])
