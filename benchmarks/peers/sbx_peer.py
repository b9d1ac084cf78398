"""SBX's SAC (Stable-Baselines3 in JAX) as a peer; commands and protocol stand in peer.py.

    python -m venv sbx
    sbx/bin/pip install -r benchmarks/peers/requirements-sbx.txt
    sbx/bin/python benchmarks/peers/sbx_peer.py serve --env_id=Reacher-v5 --threads=1 --block=8
    sbx/bin/python benchmarks/peers/sbx_peer.py learn --env_id=Pendulum-v1 --total_steps=20000 --out=FILE.csv

Not like tfsac with --hyperparameters=ours: what sb3_peer.py names (the initial weights are flax's).
"""

import os

import peer
import sb3_peer


class Agent(sb3_peer.Agent):
    """Returns when JAX has computed what it was asked for."""

    def train(self, steps):
        super().train(steps)
        self.wait()

    def update(self, steps):
        super().update(steps)
        self.wait()

    def wait(self):
        import jax

        policy = self.model.policy
        jax.block_until_ready((policy.actor_state, policy.qf_state, self.model.ent_coef_state))


def prepare(options):
    """Threads and device, for what JAX reads when it is imported."""
    # More threads than one: XLA's own choice, a pool as large as the set of cores.
    if options.threads == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
        os.environ["NPROC"] = "1"  # the size of XLA's pool
    os.environ["JAX_PLATFORMS"] = "cpu"


def build(env, options):
    prepare(options)
    from sbx import SAC

    rates = {}
    if options.settings:
        policy, q, alpha = (options.settings[f"SAC.{name}_learning_rate"] for name in ("policy", "q", "alpha"))
        if policy != alpha:
            raise SystemExit("SBX has one learning rate for policy and alpha")
        rates = {"learning_rate": policy, "qf_learning_rate": q}
    return Agent(env, SAC("MlpPolicy", env, **sb3_peer.keywords(options), **rates))


if __name__ == "__main__":
    peer.main(build, ["sbx-rl", "jax", "stable-baselines3"])
