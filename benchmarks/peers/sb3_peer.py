"""Stable-Baselines3's SAC as a peer; commands and protocol stand in peer.py.

    python -m venv sb3
    sb3/bin/pip install -r benchmarks/peers/requirements-sb3.txt
    sb3/bin/python benchmarks/peers/sb3_peer.py serve --env_id=Reacher-v5 --threads=1 --block=8
    sb3/bin/python benchmarks/peers/sb3_peer.py learn --env_id=Pendulum-v1 --total_steps=20000 --out=FILE.csv

Not like tfsac with --hyperparameters=ours: the initial weights (torch's own), Adam's epsilon (after the bias
correction), the loss of log alpha, and the first update, which is a block later.
"""

import peer


def keywords(options):
    """SAC's arguments that Stable-Baselines3 and SBX share, but for the learning rates."""
    found = {"seed": options.seed, "device": "cpu"}
    if options.settings:
        ours = options.settings
        found |= {
            "buffer_size": ours["train.replay_capacity"],
            "batch_size": ours["train.batch_size"],
            "gamma": ours["SAC.discount"],
            "tau": ours["SAC.tau"],
            "ent_coef": f"auto_{ours['SAC.initial_alpha']}",
            "target_entropy": "auto" if ours["SAC.target_entropy"] is None else ours["SAC.target_entropy"],
            "policy_kwargs": {
                "net_arch": {"pi": list(ours["SAC.policy_hidden_units"]), "qf": list(ours["SAC.critic_hidden_units"])}
            },
        }
    if options.block:
        updates_per_step = options.settings["train.updates_per_step"] if options.command == "learn" else 1
        found |= {"train_freq": options.block, "gradient_steps": options.block * updates_per_step}
        found |= {"learning_starts": options.start_steps}
    return found


class Agent:
    def __init__(self, env, model):
        self.env, self.model = env, model

    @property
    def steps(self):
        return self.model.num_timesteps

    def train(self, steps):
        self.model.learn(steps, reset_num_timesteps=False)

    def update(self, steps):
        for _ in range(steps // self.model.gradient_steps):
            self.model.train(gradient_steps=self.model.gradient_steps, batch_size=self.model.batch_size)

    def predict(self, observations):
        return self.model.predict(observations, deterministic=True)[0]


def build(env, options):
    import torch
    from stable_baselines3 import SAC

    torch.set_num_threads(options.threads)
    rates = {}
    if options.settings:
        distinct = {options.settings[f"SAC.{name}_learning_rate"] for name in ("policy", "q", "alpha")}
        if len(distinct) > 1:
            raise SystemExit("Stable-Baselines3 has one learning rate for policy, critics and alpha")
        rates["learning_rate"] = distinct.pop()
    return Agent(env, SAC("MlpPolicy", env, **keywords(options), **rates))


if __name__ == "__main__":
    peer.main(build, ["stable-baselines3", "torch"])
