"""Runs an exported policy; needs numpy and ai-edge-litert, nothing else.

As a library:
    policy = Policy("policy.tflite")
    action = policy(observation)

As a command:
    python run_policy.py POLICY.tflite             reads observations, one a line; writes actions, one a line
    python run_policy.py POLICY.tflite --info      shows inputs, outputs, units, ranges, control rate
    python run_policy.py POLICY.tflite --selftest  compares answers on this machine with those stored in the file
    python run_policy.py POLICY.tflite --env=ID --episodes=N   episodes in a Gymnasium environment, if installed
    python run_policy.py POLICY.tflite --rate=20 --log=LOG.csv  keeps a rate; logs time, observation and action

With --rate the newest line that has come is answered at each tick; older ones are skipped, and their number is told at
the end. A file on standard input is answered line by line, as is everything on Windows: send a line at the tick there.

On a machine, step by step, with the policy's memory and a safe action if a sensor fails:
    policy.reset()
    action, status = policy.step(observation, seconds_since_the_last)
"""

import argparse
import codecs
import csv
import io
import json
import math
import os
import select
import stat
import sys
import time
from collections import deque
from typing import NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

OK, NOT_FINITE, OUT_OF_RANGE, STALE, LATE = "ok", "not finite", "out of range", "stale", "late"
BUILDS_UP = 10  # tolerances that a golden sequence may be off: each command builds on the last
SLOWEST, FASTEST = 1.2, 0.8  # control periods between two steps, outside which the runner warns


class Safety(NamedTuple):
    """When a sensor counts as failed, and the action that is then commanded.

    Attributes:
        low, high: outside these an observation is out of range, [O]; default three times the range seen in training.
        stale_steps: this many equal observations in a row are stale; 0, the default, never: a machine may rest.
        latest: seconds between two observations beyond which the second is late; default two control periods; 0 never.
        action: commanded on a fault, [A]; default the middle of the bounds.
        slew: largest step of a command towards it, in parts of the span; default as in training, or 1.
    """

    low: np.ndarray
    high: np.ndarray
    stale_steps: int
    latest: float
    action: np.ndarray
    slew: float


class Policy:
    """A .tflite policy on the LiteRT interpreter with one thread, which is fastest for one observation at a time.

    Args:
        path: the .tflite file.

    Attributes:
        facts: what the file says about itself, a dict.
        samples: whether it needs noise as a second input.
        sensors: O, how many numbers one observation of the machine has. If the policy remembers, its input is the last
            observations and the last commands, newest first: `step` puts them together.
        safety: a `Safety`, which may be replaced.

    Raises:
        ValueError: no such file, not a .tflite file, or its metadata is not tfsac's, damaged or of other sizes.
    """

    def __init__(self, path):
        try:
            with open(path, "rb") as file:
                content = file.read()
            self._interpreter = Interpreter(model_content=content, num_threads=1)
            self._interpreter.allocate_tensors()
            # observation, then noise where the policy samples
            inputs = sorted(self._interpreter.get_input_details(), key=lambda x: "noise" in x["name"])
            (output,) = self._interpreter.get_output_details()
            self._inputs = [(x["index"], _size(x)) for x in inputs]
            self._output, self.samples = output["index"], len(inputs) > 1
            self.facts = _read_facts(content)
            self._bounds = np.zeros([2, _size(output)], np.float32)
            _check_facts(self.facts, [size for _, size in self._inputs], _size(output))
            history = self.facts.get("history", {"observations": 1, "actions": 0})
            self._observations, self._actions = history["observations"], history["actions"]
            self.sensors = (self._inputs[0][1] - self._actions * _size(output)) // self._observations
            self._bounds[:] = [self.facts["action"][name] for name in ("low", "high")]
            self.safety = self._default_safety()
            self.reset()
        except Exception as error:  # the file may be anyone's, and broken in any way
            raise ValueError(f"cannot load {path}: {' '.join(str(error).split())}") from error

    def __call__(self, *inputs):
        """The action for one observation.

        Args:
            inputs: observation [O] in the environment's units; for policy_sample.tflite also noise ~ N(0, I), [A].

        Returns:
            action [A] in the environment's units, float32.

        Raises:
            ValueError: wrong length, NaN or infinity. A sensor has failed then: what to do is the caller's to decide.
        """
        if len(inputs) != len(self._inputs):
            raise ValueError(f"expected {' and '.join(['an observation', 'noise'][: len(self._inputs)])}")
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

    def reset(self):
        """Forgets the past: call it before the first step, and whenever the machine has been stopped."""
        self._seen, self._commands = None, [0.5 * self._bounds[0] + 0.5 * self._bounds[1]] * max(1, self._actions)
        self._last_observation, self._equal, self._missed = None, 0, 0

    def step(self, observation, elapsed=None):
        """What to command now; each command is remembered.

        A reading that is not finite or out of range is not remembered. After as many of them as the policy remembers
        observations, or a late step, older ones are forgotten: the next good one is taken as after a reset.

        Args:
            observation: what the sensors give now, [O] in the environment's units.
            elapsed: seconds since the step before; None if it is not known.

        Returns:
            action [A], and OK; or on a fault the safe action, as far as the slew limit lets it come in one step, and
            NOT_FINITE, OUT_OF_RANGE, STALE or LATE.

        Raises:
            ValueError: another number of sensors.
        """
        try:
            observation = np.array(observation, np.float32)  # a copy: the caller may fill the same array again
        except (TypeError, ValueError):  # None where a sensor gave nothing
            observation = np.full(self.sensors, np.nan, np.float32)
        if observation.shape != (self.sensors,):
            raise ValueError(f"expected {self.sensors} numbers, received an array of shape {observation.shape}")
        row, status = self.remember(observation, elapsed)
        if status == OK:
            action = self.run(row)
        else:
            most = self.safety.slew * (self._bounds[1] - self._bounds[0])
            action = self._commands[0] + np.clip(self.safety.action - self._commands[0], -most, most)
        action = np.asarray(action, np.float32)
        self.commanded(action)
        return action, status

    def remember(self, observation, elapsed=None):
        """A reading [O] float32, with its elapsed seconds as in `step` -> the policy's input, None if bad; status."""
        status = self._status(observation, elapsed)
        bad = status in (NOT_FINITE, OUT_OF_RANGE)
        self._missed = self._missed + 1 if bad else 0
        if self._is_late(elapsed) or self._missed >= self._observations:
            self._seen = None  # what is older would show false velocities
        return None if bad else self.row(observation), status

    def row(self, observation):
        """Remembers an observation [O] -> the policy's input."""
        observation = np.array(observation, np.float32)
        before = [observation] * self._observations if self._seen is None else self._seen
        self._seen = [observation, *before][: self._observations] if self._seen is not None else before
        return np.concatenate([*self._seen, *self._commands[: self._actions]], dtype=np.float32)

    def commanded(self, action):
        """Remembers what was commanded, [A]."""
        self._commands = [np.array(action, np.float32), *self._commands][: len(self._commands)]

    def _status(self, observation, elapsed):
        same = self._last_observation is not None and np.array_equal(observation, self._last_observation)
        self._equal = self._equal + 1 if same else 1
        self._last_observation = observation
        if not np.all(np.isfinite(observation)):
            return NOT_FINITE
        if np.any(observation < self.safety.low) or np.any(observation > self.safety.high):
            return OUT_OF_RANGE
        if self._is_late(elapsed):
            return LATE
        return STALE if 0 < self.safety.stale_steps <= self._equal else OK

    def _is_late(self, elapsed):
        return elapsed is not None and self.safety.latest > 0 and not elapsed <= self.safety.latest

    def _default_safety(self):
        low, high = (np.float32(self.facts["observation"][name][: self.sensors]) for name in ("low", "high"))
        wide = np.where(high > low, high - low, np.abs(high) + 1)
        environment = self.facts.get("environment", {})
        rate = environment.get("control_rate_hz")
        middle = 0.5 * self._bounds[0] + 0.5 * self._bounds[1]
        slew = environment.get("action_slew") or 1.0
        return Safety(low - wide, high + wide, 0, 2 / rate if rate else 0, middle, slew)


def selftest(policy):
    """Runs the golden vectors.

    Returns:
        The largest error in parts of the action's span, and what is allowed. Of a golden sequence the error counts a
        BUILDS_UP-th.

    Raises:
        ValueError: the file has none.
    """
    golden = policy.facts.get("golden")
    if golden is None:
        raise ValueError("the file holds no golden vectors")
    span = np.subtract(policy.facts["action"]["high"], policy.facts["action"]["low"])
    span = np.where(span > 0, span, 1)  # a constant action has none
    inputs = zip(*(golden[name] for name in ("observation", "noise") if name in golden), strict=True)
    actions = np.array([policy(*x) for x in inputs])
    errors = [np.max(np.abs(actions - golden["action"]) / span)]
    if "sequence" in golden:  # from a reset on, with the policy's memory
        policy.reset()
        for observation, expected in zip(golden["sequence"]["observation"], golden["sequence"]["action"], strict=True):
            action = policy.run(policy.row(np.float32(observation)))
            policy.commanded(action)
            errors.append(np.max(np.abs(action - expected) / span) / BUILDS_UP)
        policy.reset()
    return float(max(errors)), golden["tolerance"]


def run_episodes(policy, env_id, episodes):
    """Returns of episodes in a Gymnasium environment, on the start states that tfsac's own evaluations use.

    Raises:
        ValueError: there is no such environment here, or it is another one than the policy's.
    """
    env = _make_env(policy, env_id)
    returns = []
    for episode in range(episodes):
        observation, _ = env.reset(seed=episode)
        policy.reset()
        total, over = 0.0, False
        while not over:
            action = policy(policy.row(observation))
            policy.commanded(action)
            observation, reward, terminated, truncated, _ = env.step(action)
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    return returns


def run_lines(policy, lines, rate=None, log=None, clock=time.monotonic, sleep=time.sleep):
    """Answers each line of numbers, an observation, with a line of numbers, the action.

    If the policy remembers, or with a rate or a log, it answers as `Policy.step` does, with the safe action on a fault,
    which a line that is no observation is, too.

    Args:
        policy: a `Policy`.
        lines: of text; of a `Live`, the newest at each tick.
        rate: steps in a second; None answers at once.
        log: a text file to write time, observation and action to, as CSV with a line of names.
        clock, sleep: functions that tell the time in seconds, and wait.

    Returns:
        How many lines got no answer or the safe action; each of them has a line on standard error.
    """
    low, high = (np.array(policy.facts["observation"][key][: policy.sensors], np.float32) for key in ("low", "high"))
    stepping = rate is not None or log is not None or len(policy.facts["observation"]["low"]) > policy.sensors
    pace = _Pace(policy, rate, clock, sleep) if stepping else None
    writer = csv.writer(log, lineterminator="\n") if log is not None else None
    if writer:
        writer.writerow(["time_s", *_names(policy, "observation"), *_names(policy, "action")])
    faults = answered = outside = number = skipped = 0
    policy.reset()
    for line in lines:
        number += 1
        if stepping:
            elapsed = pace.wait()
            if isinstance(lines, Live):
                line, passed_over = lines.newest(line)
                number, skipped = number + passed_over, skipped + passed_over
        garbled = None
        try:
            observation = np.array([_number(word) for word in line.split()], np.float32)
            if not stepping:
                action, status = policy(observation), OK
            elif len(observation) != policy.sensors:
                raise ValueError(f"expected {policy.sensors} numbers, received {len(observation)}")
        except ValueError as error:
            garbled = error
            if not stepping:
                faults += 1
                print(f"line {number}: {garbled}", file=sys.stderr)
                continue
            observation = np.full(policy.sensors, np.nan, np.float32)  # as failed sensors: the machine is moving
        if stepping:
            action, status = policy.step(observation, elapsed)
        if status != OK:
            faults += 1
            reason = garbled or f"the observation is {status}"
            print(f"line {number}: {reason}: the safe action is commanded", file=sys.stderr)
        answered += 1
        outside += bool(np.any((observation < low) | (observation > high)))
        print(*(f"{x:.9g}" for x in action), flush=True)
        if writer:
            writer.writerow([f"{pace.now:.6f}", *(f"{x:.9g}" for x in (*observation, *action))])
    if outside:
        print(f"{outside} of {answered} observations lay outside the range seen in training", file=sys.stderr)
    if skipped:
        print(f"{skipped} of {number} lines were skipped: a newer one had come at the tick", file=sys.stderr)
    if pace:
        pace.report()
    return faults


class Live:
    """Lines of a pipe, a terminal or a socket, as they come; `newest` skips those that are out of date.

    Args:
        descriptor: of the open file. Nothing else may read from it.
    """

    MOST = 16  # reads at a tick, of 64 KiB: someone who never stops sending is answered, too

    def __init__(self, descriptor):
        self._descriptor = descriptor
        # As a text file: with or without the mark that Windows writes, and with any end of a line.
        decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._decoder = io.IncrementalNewlineDecoder(decoder, translate=True)
        self._lines, self._begun, self._over = deque(), "", False

    def __iter__(self):
        return self

    def __next__(self):
        while not self._lines and not self._over:
            self._read()
        if not self._lines:
            raise StopIteration
        return self._lines.popleft()

    def newest(self, line):
        """The last line that has come and is not empty, else line itself; and how many were passed over."""
        for _ in range(self.MOST):
            if self._over or not select.select([self._descriptor], [], [], 0)[0]:
                break
            self._read()
        passed_over = len(self._lines)
        if passed_over:
            line = next((x for x in reversed(self._lines) if x.strip()), line)
            self._lines.clear()
        return line, passed_over

    def _read(self):
        """Waits for some bytes, or the end."""
        try:
            content = os.read(self._descriptor, 65536)
        except OSError:  # a socket that was reset, a serial line that was pulled out
            content = b""
        self._over = not content
        *lines, self._begun = (self._begun + self._decoder.decode(content, final=self._over)).split("\n")
        if self._over and self._begun and not (lines or self._lines):
            lines.append(self._begun)  # the last one needs no end; behind a whole one it may be cut off
        self._lines += lines


def _source(stream, rate):
    """The lines of a text file: a `Live` where a rate is to be kept and new ones may come meanwhile."""
    if rate is None or os.name == "nt" or stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        return stream  # Windows cannot tell whether a pipe holds more
    return Live(stream.fileno())


class _Pace:
    """Keeps a rate, and counts the periods that differ from the training's."""

    def __init__(self, policy, rate, clock, sleep):
        trained = policy.facts.get("environment", {}).get("control_rate_hz")
        self._period = 1 / rate if rate else None
        self._expected = 1 / trained if trained else self._period
        self._clock, self._sleep = clock, sleep
        self._begin = self._before = None
        self._ticks = self._odd = self._periods = 0
        self.now = 0.0

    def wait(self):
        """Waits for the next tick -> seconds since the last one, or None at the first."""
        if self._begin is None:
            self._begin = self._clock()
        elif self._period:
            self._ticks += 1
            ahead = self._begin + self._ticks * self._period - self._clock()
            if ahead > 0:
                self._sleep(ahead)
            else:
                self._ticks = int((self._clock() - self._begin) / self._period)  # what was missed is not made up for
        self.now = self._clock() - self._begin
        elapsed = None if self._before is None else self.now - self._before
        self._before = self.now
        if elapsed is not None and self._expected:
            self._periods += 1
            ratio = elapsed / self._expected
            if not FASTEST <= ratio <= SLOWEST:
                self._odd += 1
                if self._odd == 1:
                    print(
                        f"a period of {1e3 * elapsed:.3g} ms, trained for {1e3 * self._expected:.3g} ms; further ones "
                        "are counted",
                        file=sys.stderr,
                    )
        return elapsed

    def report(self):
        if self._odd:
            print(
                f"{self._odd} of {self._periods} periods lay outside {FASTEST} to {SLOWEST} of the control period",
                file=sys.stderr,
            )


def _names(policy, what):
    count = policy.sensors if what == "observation" else policy._bounds.shape[1]
    names = policy.facts[what].get("names")
    fits = isinstance(names, list) and len(names) >= count
    return [str(name) for name in names[:count]] if fits else [f"{what}_{i}" for i in range(count)]


def _make_env(policy, env_id):
    try:
        import gymnasium
    except ImportError as error:
        raise ValueError("--env needs gymnasium, which is not installed: pip install gymnasium") from error
    trained = policy.facts.get("environment", {})
    same = trained.get("id") == env_id
    if same and trained.get("wrappers"):
        raise ValueError(f"{env_id} was wrapped in training: run it with tfsac.evaluate --policy")
    try:
        options = {"max_episode_steps": trained.get("max_episode_steps"), **trained.get("kwargs", {})} if same else {}
        env = gymnasium.make(env_id, **options)
        if isinstance(env.observation_space, gymnasium.spaces.Dict):
            env = gymnasium.wrappers.FlattenObservation(env)
    except Exception as error:  # an environment's constructor may be anyone's
        raise ValueError(f"cannot make the environment {env_id}: {type(error).__name__}: {error}") from error
    sizes = {"observations": env.observation_space.shape, "actions": env.action_space.shape}
    for what, key in (("observations", "observation"), ("actions", "action")):
        size = policy.sensors if key == "observation" else len(policy.facts[key]["low"])
        if sizes[what] != (size,):
            raise ValueError(f"{env_id} has {what} of shape {sizes[what]}, the policy was trained on {size}")
    return env


def _number(word):
    try:
        return float(word)
    except ValueError:
        raise ValueError(f"{word!r} is no number: expected numbers with spaces between them") from None


def _size(tensor):
    """n of a float32 tensor of shape [1, n]."""
    shape = [int(n) for n in tensor["shape"]]
    if len(shape) != 2 or shape[0] != 1 or tensor["dtype"] != np.float32:
        raise ValueError(f"expected float32 tensors [1, n], received {tensor['dtype'].__name__} {shape}")
    return shape[1]


def _read_facts(content):
    model = schema.Model.GetRootAs(content, 0)
    for i in range(model.MetadataLength()):
        if model.Metadata(i).Name() == b"tfsac":
            try:
                return json.loads(model.Buffers(model.Metadata(i).Buffer()).DataAsNumpy().tobytes())
            except (ValueError, RecursionError, AttributeError) as error:  # AttributeError: an empty buffer
                raise ValueError(f"its metadata is no JSON: {error}") from error
    raise ValueError("it has no metadata of tfsac")


def _check_facts(facts, inputs, outputs):
    """Raises ValueError unless what is used of the metadata is there, with the sizes of the file's tensors."""

    def numbers(shape, *keys):
        value = facts
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        try:
            array = np.array(value)
        except ValueError:  # ragged
            array = np.array(None)
        if array.shape != shape or array.dtype.kind not in "if" or not np.all(np.isfinite(array)):
            raise ValueError(f"its metadata is wrong: expected finite numbers of shape {shape} for {'.'.join(keys)}")

    observations, *noise = inputs
    for bound in ("low", "high"):
        numbers((observations,), "observation", bound)
        numbers((outputs,), "action", bound)
    history = facts.get("history", {"observations": 1, "actions": 0})
    counts = [history.get(name) if isinstance(history, dict) else None for name in ("observations", "actions")]
    if not all(type(x) is int and x >= 0 for x in counts) or counts[0] < 1:
        raise ValueError("its metadata is wrong: expected how many observations and actions it remembers for history")
    sensors, rest = divmod(observations - counts[1] * outputs, counts[0])
    if rest or sensors < 1:
        raise ValueError(f"its metadata is wrong: a history of {counts} does not fit {observations} inputs")
    golden = facts.get("golden")
    if golden is not None:
        count = len(golden["action"]) if isinstance(golden, dict) and isinstance(golden.get("action"), list) else 1
        numbers((count, outputs), "golden", "action")
        numbers((count, observations), "golden", "observation")
        for size in noise:
            numbers((count, size), "golden", "noise")
        numbers((), "golden", "tolerance")
        if "sequence" in golden:
            said = golden["sequence"].get("action") if isinstance(golden["sequence"], dict) else None
            steps = len(said) if isinstance(said, list) else 1
            numbers((steps, outputs), "golden", "sequence", "action")
            numbers((steps, sensors), "golden", "sequence", "observation")
    if not isinstance(facts.get("environment", {}), dict):
        raise ValueError("its metadata is wrong: expected a mapping for environment")


def main():
    """The command; see the module's docstring. Returns the exit status."""
    parser = argparse.ArgumentParser(description="Runs an exported policy.")
    parser.add_argument("policy", help="a .tflite file")
    parser.add_argument("--info", action="store_true", help="print what the file says about itself")
    parser.add_argument(
        "--selftest", action="store_true", help="compare its answers here with those that the file holds"
    )
    parser.add_argument("--env", help="run episodes in this Gymnasium environment")
    parser.add_argument("--episodes", type=int, default=100, help="how many (default 100)")
    parser.add_argument("--rate", type=float, help="steps a second to keep; the newest line is answered at the tick")
    parser.add_argument("--log", help="file to write time, observation and action of each line to")
    args = parser.parse_args()
    try:
        status = _run(parser, args)
        sys.stdout.flush()
        return status
    except ValueError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # who read the answers has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains at its end
        return 141


def _run(parser, args):
    policy = Policy(args.policy)
    if args.info:
        print(json.dumps({key: value for key, value in policy.facts.items() if key != "golden"}, indent=1))
        return 0
    if args.selftest:
        error, tolerance = selftest(policy)
        passed = error <= tolerance
        print(f"{'passed' if passed else 'FAILED'}: largest error {error:.2e} of the span, allowed {tolerance:.0e}")
        return 0 if passed else 1
    if policy.samples:
        raise ValueError(f"{args.policy} wants noise with every observation: take policy.tflite, or write a program")
    if args.env:
        if args.episodes < 1:
            parser.error("--episodes: expected a positive number")
        returns = run_episodes(policy, args.env, args.episodes)
        spread = np.std(returns, ddof=1) if len(returns) > 1 else 0.0
        print(f"return {np.mean(returns):.3f}, standard deviation {spread:.3f}, {len(returns)} episodes")
        return 0
    sys.stdin.reconfigure(encoding="utf-8-sig", errors="replace")  # with or without the mark that Windows writes
    if args.rate is not None and not 0 < args.rate < math.inf:
        parser.error("--rate: expected a positive number")
    try:
        log = open(args.log, "w", newline="", encoding="utf-8") if args.log else None  # noqa: SIM115
    except OSError as error:
        raise ValueError(f"cannot write --log={args.log}: {error.strerror}") from error
    try:
        return 1 if run_lines(policy, _source(sys.stdin, args.rate), args.rate, log) else 0
    finally:  # also after Ctrl-C: what was logged is kept
        if log:
            log.close()


if __name__ == "__main__":
    sys.exit(main())
