"""tfsac's `sac` behind `peer.learn`, as gin/sac has it for the task, or else as it comes; see tfsac_learner.py."""

import peer
import tfsac_learner


def sac_settings(options):
    """The task's file in gin/sac; where there is none, the defaults."""
    gin_files = [path for path in peer.GIN.glob("*.gin") if f"env_id = {options.env_id!r}" in path.read_text()]
    environment = [f"env.id = {options.env_id!r}", f"env.kwargs = {options.env_kwargs!r}"]
    return gin_files, [] if gin_files else ["train.algorithm = 'sac'", *environment]


if __name__ == "__main__":
    tfsac_learner.main(sac_settings)
