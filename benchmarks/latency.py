"""Latency of one action beside other ways to run the same network: python benchmarks/latency.py POLICY.tflite

Batch of one, one thread. The peers are networks of the same shape with weights of their own: Stable-Baselines3's
`SAC.predict(deterministic=True)`, TorchScript and onnxruntime. All take turns in one process, window by window, so that
the ratios hold where the machine's speed drifts. Writes benchmarks/latency.csv (path, window, microseconds).

Needs an environment of its own: pip install numpy ai-edge-litert gymnasium torch stable-baselines3 onnx onnxruntime.
"""

import csv
import io
import sys
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import onnxruntime
import stable_baselines3
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "export"))
from run_policy import Policy  # noqa: E402

WINDOWS, SECONDS = 15, 0.3


class Task(gym.Env):
    """Spaces of the policy's task; Stable-Baselines3 asks for an environment."""

    def __init__(self, observation_dim, action_dim):
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, [observation_dim], np.float32)
        self.action_space = gym.spaces.Box(-1.0, 1.0, [action_dim], np.float32)


def ways(path):
    """The ways to act by name: functions of an observation [O]."""
    torch.set_num_threads(1)
    policy = Policy(path)
    observation_dim = len(policy.facts["observation"]["low"])
    action_dim = len(policy.facts["action"]["low"])
    sac = stable_baselines3.SAC("MlpPolicy", Task(observation_dim, action_dim), device="cpu", buffer_size=10)
    actor = sac.policy.actor
    network = torch.nn.Sequential(actor.latent_pi, actor.mu, torch.nn.Tanh()).eval()
    example = torch.zeros([1, observation_dim])
    script = torch.jit.freeze(torch.jit.trace(network, example))
    buffer = io.BytesIO()
    torch.onnx.export(network, (example,), buffer, input_names=["observation"], dynamo=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(buffer.getvalue(), options)

    def torch_script(observation):
        with torch.inference_mode():
            return script(torch.from_numpy(observation[None])).numpy()[0]

    return {
        "run_policy.py": policy,
        "onnxruntime": lambda x: session.run(None, {"observation": x[None]})[0][0],
        "TorchScript": torch_script,
        "Stable-Baselines3 predict": lambda x: sac.predict(x, deterministic=True)[0],
    }, np.zeros(observation_dim, np.float32)


def window(act, observation):
    """Microseconds a call, over about SECONDS."""
    calls, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < SECONDS:
        for _ in range(20):
            act(observation)
        calls += 20
    return (time.perf_counter() - begin) / calls * 1e6


def main(path):
    acts, observation = ways(path)
    times = {name: [] for name in acts}
    for act in acts.values():  # warm up
        window(act, observation)
    for _ in range(WINDOWS):
        for name, act in acts.items():
            times[name].append(window(act, observation))
    with open(Path(__file__).with_suffix(".csv"), "w", newline="") as file:
        rows = [(name, i, f"{t:.2f}") for name, each in times.items() for i, t in enumerate(each)]
        csv.writer(file, lineterminator="\n").writerows([("path", "window", "microseconds"), *rows])
    ours = np.array(times["run_policy.py"])
    print("| path | us, median | times run_policy.py's |\n|---|---|---|")
    for name, each in times.items():
        print(f"| {name} | {np.median(each):.1f} | {np.median(np.array(each) / ours):.1f} |")


if __name__ == "__main__":
    main(sys.argv[1])
