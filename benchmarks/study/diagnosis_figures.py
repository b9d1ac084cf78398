"""The pictures of docs/symptoms.md: python benchmarks/study/diagnosis_figures.py

One for each symptom, docs/diagnose/NAME.png: a healthy run on the left, a run that has the symptom on the right, both
from results/; where a title says "as it would look", there is no such run, and the curve was made up.
"""

import csv
import math

import gymnasium
import labelled
import numpy as np
import results
from matplotlib.figure import Figure

from tfsac.diagnosis.measures import View

OUT = results.FOLDER.parents[2] / "docs" / "diagnose"
HEALTHY, FAULTY, OTHER = "tab:green", "tab:red", "tab:blue"
SCALE_OF_REACHER = "(1, 1, 1, 1, 10, 10, 0.3, 0.3, 10, 10)"  # as gin/sac/reacher.gin has it
LIMIT = {"color": "0.3", "ls": "--", "lw": 1}

RUNS = {run.name: run for run in (*labelled.labelled_runs(), *labelled.whole_runs(), *labelled.sb3_runs())}


def record(name):
    return RUNS[name].record


def ablation(fault, task="pendulum", seed=0):
    return record(f"ablation-{fault}-{task}-seed{seed}")


def pair(name, ylabel, sharey=False, right="with the fault"):
    """A figure of two panels, one beside the other; call the third value to write it."""
    figure = Figure(figsize=(7, 2.1), layout="constrained")
    panels = figure.subplots(1, 2, sharey=sharey)
    for axes, title in zip(panels, ("healthy", right), strict=True):
        axes.set_title(title, fontsize="small")
        axes.set_xlabel("environment steps", fontsize="small")
        axes.tick_params(labelsize="small")
    panels[0].set_ylabel(ylabel, fontsize="small")

    def write():
        for axes in panels:
            if axes.get_legend_handles_labels()[0]:
                axes.legend(fontsize="x-small")
        OUT.mkdir(exist_ok=True)
        figure.savefig(OUT / f"{name}.png", dpi=80)

    return (*panels, write)


def column(name, ylabel, healthy, faulty, names, log=False, limit=None, sharey=False, right="with the fault"):
    """The same column, or columns, of two runs."""
    *panels, write = pair(name, ylabel, sharey, right)
    for axes, run, colour in zip(panels, (healthy, faulty), (HEALTHY, FAULTY), strict=True):
        for label, shade, style in zip(names, (colour, OTHER), ("-", "--"), strict=False):
            axes.plot(run.metrics["step"], run.metrics[label], style, color=shade, lw=1.5, label=label)
        if limit is not None:
            axes.axhline(limit, **LIMIT)
        if log:
            axes.set_yscale("log")
    write()


def of_the_study():
    healthy = ablation("none")
    column("entropy_without_end", "entropy", healthy, ablation("wrong_sign_of_entropy"), ["entropy"])
    column("policy_lowers_q", "", healthy, ablation("policy_minimises_q"), ["policy_loss", "q1"])
    column("entropy_too_high", "entropy; dashed: log 2", healthy, ablation("no_tanh_correction"), ["entropy"],
           limit=math.log(2), sharey=True)  # fmt: skip
    column("value_held_back", "v_loss", healthy, ablation("average_as_printed"), ["v_loss"], log=True, sharey=True)
    column("target_still", "Q", healthy, ablation("target_never_moves"), ["q1"], sharey=True)
    column("q_same_everywhere", "q1_loss", healthy, ablation("b_against_b1"), ["q1_loss"], log=True, sharey=True)
    column("time_limit", "q1_loss", healthy, ablation("time_limit_is_terminal"), ["q1_loss"], log=True, sharey=True)
    column("policy_has_no_gradient", "entropy; dashed: log 2", healthy, ablation("no_gradient_through_q"), ["entropy"],
           limit=math.log(2), sharey=True)  # fmt: skip
    column("value_of_other_actions", "v_loss", healthy, ablation("replay_actions_for_v"), ["v_loss"], log=True,
           sharey=True)  # fmt: skip
    small = ablation("no_reward_scale", "reacher")
    column("rewards_small", "Q", ablation("none", "reacher"), small, ["q1"], limit=0)


def of_whole_runs():
    healthy, large = record("sb3-reward-1-seed0"), record("sb3-reward-1e3-seed0")
    column("rewards_large", "entropy; dashed: its target", healthy, large, ["entropy"], limit=-1, sharey=True,
           right="rewards times 1,000")  # fmt: skip
    column("alpha_explodes", "alpha", healthy, large, ["alpha"], log=True, right="rewards times 1,000")
    healthy, wrong = record("sac_v1-none-seed2"), record("sac_v1-wrong_sign_of_entropy-seed2")
    column("q_gradient_explodes", "q_gradient_norm", healthy, wrong, ["q_gradient_norm"], log=True, sharey=True)
    column("not_finite", "q1_loss", healthy, wrong, ["q1_loss"], log=True, sharey=True,
           right="on its way out of the range of numbers")  # fmt: skip
    column("policy_gradient_vanishes", "policy_gradient_norm", healthy, record("sac_v1-no_gradient_through_q-seed2"),
           ["policy_gradient_norm"], log=True, sharey=True)  # fmt: skip

    first, second, write = pair("q_bias", "Q", right="the sign of the entropy is wrong")
    for axes, run, colour in ((first, healthy, HEALTHY), (second, wrong, FAULTY)):
        view = View(run)
        axes.plot(run.metrics["step"], run.metrics["q1"], color=colour, label="Q")
        axes.plot(run.metrics["step"], view.reward_part + view.entropy_part, "--", color=OTHER, label="added up")
    write()

    first, second, write = pair("alpha_backwards", "", right="as it would look with the fault")
    run = record("pendulum-sac-seed0").metrics
    for axes, alpha, colour in ((first, run["alpha"], HEALTHY), (second, 1 / run["alpha"], FAULTY)):
        axes.plot(run["step"], alpha, color=colour, label="alpha")
        axes.set_yscale("log")
    write()


def returns(axes, run, colour, training=True):
    if training and len(run.training.get("step", ())):
        axes.plot(run.training["step"], run.training["return"], ".", ms=3, color="0.7", label="training")
    axes.plot(run.evaluations["step"], run.evaluations["return"], color=colour, label="evaluation")


def of_returns():
    healthy = record("sac_v1-none-seed2")
    first, second, write = pair("evaluation_gap", "return", sharey=True, right="as it would look with the fault")
    returns(first, healthy, HEALTHY)
    second.plot(healthy.training["step"], healthy.training["return"], ".", ms=3, color="0.7", label="training")
    untrained = np.full(len(healthy.evaluations["step"]), healthy.evaluations["return"][0])
    second.plot(healthy.evaluations["step"], untrained, color=FAULTY, label="evaluation")
    write()

    first, second, write = pair("setback", "return", sharey=True, right="healthy, too")
    returns(first, record("pendulum-sac_v1-seed0"), HEALTHY)
    returns(second, record("pendulum-sac_v1-seed1"), HEALTHY)
    write()

    first, second, write = pair("reward_unseen", "return of training episodes", right="as it would look with the fault")
    steps, values = healthy.training["step"], healthy.training["return"]
    first.plot(steps, values, ".", ms=3, color=HEALTHY)
    second.plot(steps, np.zeros(len(steps)), ".", ms=3, color=FAULTY)
    write()

    first, second, write = pair("replay_forgets", "episodes in the replay", sharey=True, right="room for 1,000 steps")
    steps = np.arange(0, 10_001, 200)
    for axes, capacity, colour in ((first, 1_000_000, HEALTHY), (second, 1_000, FAULTY)):
        axes.step(steps, np.minimum(steps, capacity) / 200, color=colour)
    write()


def of_the_replay():
    first, second, write = pair(
        "saturated", "share of actions at a bound", sharey=True, right="entropy's sign is wrong"
    )
    for axes, name, colour in ((first, "none", HEALTHY), (second, "wrong_sign_of_entropy", FAULTY)):
        share = RUNS[f"sac_v1-{name}-seed2"].measured["saturation"]
        axes.bar(["at a bound", "between"], [share, 1 - share], color=[colour, "0.8"])
        axes.set_xlabel("")
    write()

    first, second, write = pair("observations_differ", "return on Reacher-v5", sharey=True)
    first.set_title("observations brought to about 1", fontsize="small")
    second.set_title("observations as they are: 0.1 to 10", fontsize="small")
    with open(results.FOLDER / "tuning-reacher.csv", newline="") as file:
        rows = [
            row for row in csv.DictReader(file) if (row["discount"], row["tau"], row["other"]) == ("0.95", "0.005", "")
        ]
    for axes, scale, colour in ((first, SCALE_OF_REACHER, HEALTHY), (second, "None", FAULTY)):
        points = [(int(x["step"]), float(x["return"])) for x in rows if x["observation_scale"] == scale]
        axes.plot(*zip(*points, strict=True), color=colour)
    write()

    env = gymnasium.make("InvertedDoublePendulum-v5")
    env.action_space.seed(0)
    seen, (observation, _) = [], env.reset(seed=0)
    for _ in range(100):
        seen.append(observation)
        observation, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            observation, _ = env.reset()
    first, second, write = pair("observation_constant", "observation", right="never changes")
    first.plot(np.array(seen)[:, 0], color=HEALTHY)
    second.plot(np.array(seen)[:, 8], color=FAULTY)
    write()


def main():
    of_the_study()
    of_whole_runs()
    of_returns()
    of_the_replay()
    print(f"wrote {len(list(OUT.glob('*.png')))} pictures into {OUT}")


if __name__ == "__main__":
    main()
