"""The short stress test of an export: what the policy tolerates, and whether each of its files tolerates the same."""

import numpy as np
from tqdm import tqdm

from tfsac.data.envs import to_bounds
from tfsac.deploy.stress.measure import Bench, difference
from tfsac.deploy.stress.stress import in_numbers, look, tolerated
from tfsac.deploy.stress.worlds import menu, time

STARTS = 0.2  # of an export's episodes; every file runs from each of them in every world of PAIRED
# Turned up from mild to harsh until one is too much; and in which words that is said.
TURNED_UP = {
    "action_delay": lambda level, rate: f"{f'{1e3 * level / rate:.3g} ms' if rate else time(level, None)} of delay",
    "observation_noise": lambda level, _: f"{100 * level:g} % sensor noise",
    "weak_actuator": lambda level, _: f"{100 * (1 - level):.3g} % loss of actuator strength",
}
PAIRED = (("action_delay", 2), ("observation_noise", 0.05), ("all_at_once", 1))  # the last is the preset moderate


class ShortStress:
    """The trained policy in a few disturbed worlds, and beside it each file on the same starts.

    Any exception, in an environment that may come from anyone, ends in a line of `left_out`: the export goes on.

    Args:
        policy: a `tfsac.policy.Policy`.
        env: `EnvSettings` of the environment that it was trained in; None if that was passed as an object.
        episodes: of the export; the share STARTS of them is run here.
        files: that will be compared, for the progress bar.

    Attributes:
        tolerates: one line, "100 ms of delay, at least 10 % sensor noise, ..."; None if nothing was measured.
        results: the same for programs, and the worlds that files are compared in, as JSON can hold it; or None.
        left_out: what was not measured, and why: a list of lines.
    """

    def __init__(self, policy, env, episodes, files=0):
        self.tolerates = self.results = None
        self.left_out, self._bench, self._worlds = [], None, []
        self._bar = tqdm(total=files * len(PAIRED), unit="world", desc="stress", disable=None)
        if env is None or env.id is None:
            self._give_up("the environment was passed as an object, and no second one can be made")
            return
        try:
            self._begin(policy, env, max(2, round(STARTS * episodes)))
        except Exception as error:
            self._give_up(error)

    def compare(self, act):
        """A file beside the policy that was trained, in each world of PAIRED, on equal starts.

        Args:
            act: observation [O] -> action [A] in the environment's units; with an attribute `batch` if it also takes
                [B, O].

        Returns:
            By world: mean, low and high of the paired difference of return, 95 %; and far_end, the end farther from 0
            in parts of what the policy gains on random actions, None where it gains nothing. None if not measured.
        """
        if not self._worlds:
            return None
        batch = getattr(act, "batch", None) or (lambda rows: np.array([act(row) for row in rows]))
        compared = {}
        try:
            for name, level, returns in self._worlds:
                change = difference(self._run(batch, level.env, level.wrappers).returns, returns)
                farther = max(abs(change["low"]), abs(change["high"]))
                gain = self.results["gain"]
                compared[name] = change | {"far_end": farther / gain if gain > 0 else None}
        except Exception as error:
            self._give_up(error)
            return None
        return compared

    def close(self):
        """Closes the environments."""
        self._bar.close()
        if self._bench:
            self._bench.close()

    def _give_up(self, reason):
        self._worlds = []
        what = "the stress test stopped early" if self.results else "no stress test"
        self.left_out.append(f"{what}: {' '.join(str(reason).split())}")

    def _run(self, act, *world, **options):
        self._bar.update()
        return self._bench.run(act, *world, **options)

    def _begin(self, policy, env, episodes):
        self._bench = bench = Bench(env, range(episodes))

        def act(rows):
            return to_bounds(policy.deterministic(rows), bench.low, bench.high)

        kept, aimless = self._run(act, env, keep=True), self._run(bench.aimless(), env)
        world, baseline = look(env, bench.plain[0], kept, aimless)
        disturbances = {disturbance.name: disturbance for disturbance in menu(world)}
        self._bar.total += 2 + len(PAIRED) + sum(len(disturbances[name].levels) for name in TURNED_UP)
        turned_up, words = {}, []
        for name, say in TURNED_UP.items():
            disturbance, rows = disturbances[name], []
            for level in sorted(disturbance.levels, key=lambda x: abs(x.value - disturbance.neutral)):  # noqa: B023
                row = in_numbers(self._run(act, level.env, level.wrappers), baseline)
                rows.append({"level": level.value, "label": level.label, **row})
                passed = tolerated(disturbance, rows)
                if not passed or not passed["all_levels"]:
                    break
            self._bar.total -= len(disturbance.levels) - len(rows)
            turned_up[name] = {"levels": rows, "tolerated": passed}
            words.append(_words(say, disturbance, passed, len(rows), world.rate))
        worlds = []
        for name, value in PAIRED:
            level = next(level for level in disturbances[name].levels if level.value == value)
            worlds.append((name, level, self._run(act, level.env, level.wrappers).returns))
        self.results = {
            "episodes": episodes,
            "return": float(np.mean(baseline.episodes.returns)),
            "random_return": baseline.aimless,
            "gain": baseline.worth,
            "turned_up": turned_up,
            "worlds": {
                name: {"label": f"{disturbances[name].title}: {level.label}", "return": float(np.mean(returns))}
                for name, level, returns in worlds
            },
        }
        self._worlds = worlds
        if baseline.worth > 0:
            self.tolerates = ", ".join(words)
        else:
            self.left_out.append("what it tolerates is not known: it gains nothing on random actions")


def _words(say, disturbance, passed, measured, rate):
    """How much of one disturbance is tolerated."""
    if not passed:
        mildest = min(disturbance.levels, key=lambda level: abs(level.value - disturbance.neutral))
        return f"less than {say(mildest.value, rate)}"
    harshest = max((passed["least"], passed["largest"]), key=lambda value: abs(value - disturbance.neutral))
    most = passed["all_levels"] and measured == len(disturbance.levels)
    return ("at least " if most else "") + say(harshest, rate)
