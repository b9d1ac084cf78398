"""SBX's CrossQ with critics of 256 units, as a peer that learns; otherwise with SBX's defaults.

    sbx/bin/python benchmarks/peers/sbx_crossq_peer.py learn --env_id=Hopper-v5 --hyperparameters=defaults \
        --total_steps=100000 --out=FILE.csv
"""

import peer
import sbx_peer


def build(env, options):
    sbx_peer.prepare(options)
    from sbx import CrossQ

    sizes = {"net_arch": {"pi": [256, 256], "qf": [256, 256]}}
    return sbx_peer.Agent(env, CrossQ("MlpPolicy", env, seed=options.seed, policy_kwargs=sizes))


if __name__ == "__main__":
    peer.main(build, ["sbx-rl", "jax", "stable-baselines3"])
