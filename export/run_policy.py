"""Runs an exported policy; needs numpy and ai-edge-litert, nothing else.

As a library:
    policy = Policy("policy.tflite")
    action = policy(observation)

As a command:
    python run_policy.py POLICY.tflite             reads observations, one a line; writes actions, one a line
    python run_policy.py POLICY.tflite --info      what the file says of itself
    python run_policy.py POLICY.tflite --selftest  runs the file's golden vectors here
    python run_policy.py POLICY.tflite --env=ID --episodes=N   episodes in a Gymnasium environment, if installed
"""

import argparse
import json
import math
import sys

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter


class Policy:
    """A .tflite policy on the LiteRT interpreter with one thread, the fastest way for one observation at a time.

    Args:
        path: the .tflite file.

    Attributes:
        facts: what the file says of itself, a dict.

    Raises:
        ValueError: no such file, not a .tflite file, or one without tfsac's metadata.
    """

    def __init__(self, path):
        try:
            with open(path, "rb") as file:
                content = file.read()
            self._interpreter = Interpreter(model_content=content, num_threads=1)
            self._interpreter.allocate_tensors()
            self.facts = _read_facts(content)
        except (OSError, ValueError, RuntimeError) as error:
            raise ValueError(f"cannot load {path}: {' '.join(str(error).split())}") from error
        # observation, then noise where the policy samples
        inputs = sorted(self._interpreter.get_input_details(), key=lambda x: "noise" in x["name"])
        self._inputs = [(x["index"], int(x["shape"][1])) for x in inputs]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def __call__(self, *inputs):
        """The action for one observation.

        Args:
            inputs: observation [O] in the environment's units; for policy_sample.tflite also noise ~ N(0, I), [A].

        Returns:
            action [A] in the environment's units, float32.

        Raises:
            ValueError: wrong length, NaN or infinity. A sensor has failed then: what to do is the caller's to decide.
        """
        for value, (_, size) in zip(inputs, self._inputs, strict=True):
            try:
                value = np.asarray(value, np.float32)
            except (TypeError, OverflowError) as error:
                raise ValueError(f"expected {size} numbers: {error}") from error
            if value.shape != (size,):
                raise ValueError(f"expected {size} numbers, received an array of shape {value.shape}")
            if not all(map(math.isfinite, value.tolist())):  # faster than numpy's for so few numbers
                raise ValueError("NaN or infinity among the numbers")
        return self.run(*inputs)

    def run(self, *inputs):
        """As a call, without its checks: what is not finite meets the guard inside the file."""
        interpreter = self._interpreter
        for value, (index, size) in zip(inputs, self._inputs, strict=True):
            interpreter.set_tensor(index, np.asarray(value, np.float32).reshape(1, size))
        interpreter.invoke()
        return interpreter.get_tensor(self._output)[0]


def selftest(policy):
    """Runs the golden vectors.

    Returns:
        The largest error in parts of the action's span, and what is allowed.
    """
    golden = policy.facts["golden"]
    span = np.subtract(policy.facts["action"]["high"], policy.facts["action"]["low"])
    inputs = zip(*(golden[name] for name in ("observation", "noise") if name in golden), strict=True)
    actions = np.array([policy(*x) for x in inputs])
    return float(np.max(np.abs(actions - golden["action"]) / span)), golden["tolerance"]


def run_episodes(policy, env_id, episodes):
    """Returns of episodes in a Gymnasium environment, on the start states that tfsac's own evaluations use."""
    import gymnasium

    env = gymnasium.make(env_id)
    if isinstance(env.observation_space, gymnasium.spaces.Dict):
        env = gymnasium.wrappers.FlattenObservation(env)
    returns = []
    for episode in range(episodes):
        observation, _ = env.reset(seed=episode)
        total, over = 0.0, False
        while not over:
            observation, reward, terminated, truncated, _ = env.step(policy(observation))
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    return returns


def run_lines(policy, lines):
    """Answers each line of numbers with a line of numbers.

    Returns:
        How many lines could not be answered; each has left a line on standard error.
    """
    low, high = (np.array(policy.facts["observation"][key], np.float32) for key in ("low", "high"))
    faults = answered = outside = 0
    for number, line in enumerate(lines, 1):
        try:
            observation = np.array(line.split(), np.float32)
            action = policy(observation)
        except ValueError as error:
            faults += 1
            print(f"line {number}: {error}", file=sys.stderr)
            continue
        answered += 1
        outside += bool(np.any((observation < low) | (observation > high)))
        print(*(f"{x:.9g}" for x in action), flush=True)
    if outside:
        print(f"{outside} of {answered} observations lay outside the range seen in training", file=sys.stderr)
    return faults


def _read_facts(content):
    model = schema.Model.GetRootAs(content, 0)
    for i in range(model.MetadataLength()):
        if model.Metadata(i).Name() == b"tfsac":
            return json.loads(model.Buffers(model.Metadata(i).Buffer()).DataAsNumpy().tobytes())
    raise ValueError("it has no metadata of tfsac")


def main():
    """The command; see the module's docstring. Returns the exit status."""
    parser = argparse.ArgumentParser(description="Runs an exported policy.")
    parser.add_argument("policy", help="a .tflite file")
    parser.add_argument("--info", action="store_true", help="print what the file says of itself")
    parser.add_argument("--selftest", action="store_true", help="run the file's golden vectors")
    parser.add_argument("--env", help="run episodes in this Gymnasium environment")
    parser.add_argument("--episodes", type=int, default=100, help="how many (default 100)")
    args = parser.parse_args()
    try:
        policy = Policy(args.policy)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if args.info:
        print(json.dumps({key: value for key, value in policy.facts.items() if key != "golden"}, indent=1))
    elif args.selftest:
        error, tolerance = selftest(policy)
        passed = error <= tolerance
        print(f"{'passed' if passed else 'FAILED'}: largest error {error:.2e} of the span, allowed {tolerance:.0e}")
        return 0 if passed else 1
    elif args.env:
        if args.episodes < 1:
            parser.error("--episodes: expected a positive number")
        returns = run_episodes(policy, args.env, args.episodes)
        spread = np.std(returns, ddof=1) if len(returns) > 1 else 0.0
        print(f"return {np.mean(returns):.3f}, standard deviation {spread:.3f}, {len(returns)} episodes")
    else:
        return 1 if run_lines(policy, sys.stdin) else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
