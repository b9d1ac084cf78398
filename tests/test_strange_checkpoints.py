"""Run directories from strangers, their sums right and their content wrong: taken as they are, or refused in a line.

Nothing that is in them is used before it was found to be what is expected: no traceback, no hang, no endless memory.
"""

import copy
import json
import random
import shutil
import zipfile

import envs_for_tests  # noqa: F401  registers the environments
import numpy as np
import pytest
import test_train
from runs import bindings, run_here
from test_checkpoint import signed

import tfsac
from tfsac import train
from tfsac.algorithms import registry
from tfsac.data.rollout import rollout
from tfsac.errors import RunError, UserError
from tfsac.evaluate import load
from tfsac.run import settings as run_settings
from tfsac.run.loop import make_loop

STEP = "checkpoints/step-000000024"
PARAMS = bindings(env_id="Walk-v0", total_steps=24, replay_capacity=20, num_envs=2)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A finished run."""
    logdir = tmp_path_factory.mktemp("sound") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.ALGORITHMS, "sac", test_train.Untrained)  # compiling it takes seconds
        run_here(logdir, PARAMS)
    (logdir / "finished.json").unlink()  # or it would stand before what the checkpoint says of the log
    shutil.rmtree(logdir / "checkpoints" / "step-000000000")
    return logdir


@pytest.fixture(scope="module")
def loop():
    """Made once: it takes half a second, and does not depend on what is read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.ALGORITHMS, "sac", test_train.Untrained)
        return make_loop(run_settings.read([], PARAMS))


@pytest.fixture
def strange(sound, tmp_path):
    """A copy, to be changed, of the run directory."""
    shutil.copytree(sound, tmp_path / "run")
    return tmp_path / "run"


class Facts(dict):
    """facts.json, to be changed in a with statement."""

    def __init__(self, logdir):
        self.path = logdir / STEP / "facts.json"
        super().__init__(json.loads(self.path.read_text()))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.path.write_text(json.dumps(self))
        signed(self.path.parent)


class Arrays(dict):
    """state.npz, to be changed in a with statement."""

    def __init__(self, logdir):
        self.path = logdir / STEP / "state.npz"
        with np.load(self.path, allow_pickle=False) as file:
            super().__init__(file)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        np.savez(self.path, **self)
        signed(self.path.parent)


def evaluated(logdir):
    """As `tfsac.evaluate` does it, for a few steps."""
    act, env = load(logdir, None)
    steps = iter(range(10))
    return rollout(act, env, 1, is_over=lambda: next(steps, None) is None)


def resumed(logdir, loop):
    """As `tfsac.train --resume` does it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "make_loop", lambda settings, ray_address=None: loop)
        return run_here(logdir, ["train.total_steps = 40"], resume=True)


def loaded(logdir):
    """As a program that only acts does it."""
    return tfsac.load_policy(logdir)(np.zeros(3, np.float32))


def outcomes(logdir, loop):
    """What came of each of the three: its result, or the line that refuses it. Anything else would be raised."""
    for use in (evaluated, loaded, lambda x: resumed(x, loop)):
        try:
            yield use(logdir)
        except (UserError, RunError) as error:
            yield str(error)
            assert len(str(error)) < 2_000


def refused(logdir, loop, words, uses="elr"):
    """All the uses named by their first letters refuse it with these words."""
    for use, outcome in zip("elr", outcomes(logdir, loop), strict=True):
        if use in uses:
            assert isinstance(outcome, str) and words in outcome, (use, outcome)
        else:
            assert not isinstance(outcome, str), (use, outcome)


def test_the_sound_one_is_taken(strange, loop):
    """Else the tests here would show nothing."""
    evaluation, action, step = outcomes(strange, loop)
    assert len(evaluation[0]) == 1 and action.shape == (1,) and step == 40


# One by one.

DAMAGED = "the checkpoint of step 24 is damaged: "


def test_a_newer_format_is_refused_with_how_to_go_on(strange, loop):
    with Facts(strange) as facts:
        assert facts["format"] == 2
        facts["format"] = 3
    refused(strange, loop, f"{DAMAGED}its format is 3, this tfsac reads 1 and 2: install a newer tfsac")


@pytest.mark.parametrize(
    "key", ["settings", "replay", "collector", "behaviour", "log", "step", "replay_files", "tfsac"]
)
@pytest.mark.parametrize("value", ["missing", None, 5, "text", [], {}], ids=repr)
def test_a_fact_that_is_missing_or_another_is_refused_where_it_is_needed(strange, loop, key, value):
    with Facts(strange) as facts:
        if value == "missing":
            del facts[key]
        else:
            facts[key] = value
    *_, outcome = outcomes(strange, loop)
    assert isinstance(outcome, str) == (key != "tfsac")  # which is only shown


def test_json_that_is_nested_beyond_measure(strange, loop):
    (strange / STEP / "facts.json").write_text("[" * 200_000 + "]" * 200_000)
    signed(strange / STEP)
    refused(strange, loop, f"{DAMAGED}")


@pytest.mark.parametrize("where", [STEP + "/state.npz", "checkpoints/replay/16-24.npy"])
def test_an_array_header_that_claims_a_terabyte(strange, loop, where):
    path = strange / where
    if not path.exists():
        (path,) = (strange / "checkpoints" / "replay").glob("*-24.npy")
    header = {"descr": "<f4", "fortran_order": False, "shape": (10**12 // 9, 9)}
    with open(strange / "x.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(b"\0" * 1000)
    if path.suffix == ".npz":
        with zipfile.ZipFile(path, "a") as file:
            file.write(strange / "x.npy", "agent/huge.npy")
    else:
        shutil.copy(strange / "x.npy", path)
    (strange / "x.npy").unlink()
    signed(strange / STEP)
    if path.suffix == ".npz":
        refused(strange, loop, DAMAGED)
    else:
        refused(strange, loop, path.name, uses="r")


def test_a_bomb_of_zeros_is_not_unpacked(strange, loop):
    """A few kilobytes that could be more numbers than any machine holds."""
    with Arrays(strange) as arrays:
        arrays.pop("agent/gradient_steps")
    path, header = strange / STEP / "state.npz", {"descr": "<f4", "fortran_order": False, "shape": (2**22,)}
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file, file.open("agent/gradient_steps.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, header)
        member.write(bytes(2**24))
    signed(strange / STEP)
    refused(strange, loop, f"{DAMAGED}state.npz is compressed")


ARRAYS = {
    "a weight missing": (lambda x: x.pop("policy/mu/kernel"), "mu/kernel", "el"),
    "a layer too many": (lambda x: x.update({"policy/norm/gamma": np.ones(3, "f")}), "norm/gamma", "el"),
    "a weight that is text": (lambda x: x.update({"policy/mu/bias": np.array(["a"])}), "mu/bias", "el"),
    "NaN in the policy": (lambda x: x["policy/mu/bias"].fill(np.nan), "policy's mu/bias holds numbers", "el"),
    "a policy for other observations": (
        lambda x: x.update({"policy/hidden_0/kernel": np.zeros([4, 8], "f")}),
        "observation",
        "el",
    ),
    "NaN in a weight": (lambda x: x["agent/q1/output/kernel"].fill(np.nan), "agent's q1/output/kernel", "r"),
    "NaN in the optimiser": (lambda x: x["agent/q_optimizer/v/0"].fill(np.inf), "agent's q_optimizer/v/0", "r"),
    "a weight of another shape": (
        lambda x: x.update({"agent/q1/output/bias": np.zeros(2, "f")}),
        "q1/output/bias",
        "r",
    ),
    "a weight in float64": (lambda x: x.update({"agent/q1/output/bias": np.zeros(1)}), "q1/output/bias differs", "r"),
    "a variable missing": (lambda x: x.pop("agent/log_alpha"), "log_alpha differs", "r"),
    "an episode missing": (lambda x: x.pop("collector/environment_0/actions"), "environment_0/actions", "r"),
    "actions of another size": (
        lambda x: x.update({"collector/environment_0/actions": np.zeros([2, 3], "f")}),
        "environment_0/actions",
        "r",
    ),
    "actions beyond the bounds": (
        lambda x: x.update({"collector/environment_0/actions": np.full([2, 1], 7, "f")}),
        "environment_0/actions",
        "r",
    ),
}


@pytest.mark.parametrize("change, words, uses", ARRAYS.values(), ids=ARRAYS)
def test_an_array_that_is_another(strange, loop, change, words, uses):
    with Arrays(strange) as arrays:
        change(arrays)
    refused(strange, loop, words, uses)


SETTINGS = {
    "an id that is a number": (lambda x: x["env"].update(id=5), "env.id: expected text in quotes, received 5", "er"),
    "an id that is none": (lambda x: x["env"].update(id="Wlk-v0"), "Did you mean: `Walk`", "e"),
    "no environment": (lambda x: x.pop("env"), "env", "er"),
    "a module": (lambda x: x["env"].update(id="evil:X-v0"), "would import the module 'evil'", "e"),
    "a module as a wrapper": (lambda x: x["env"].update(wrappers=["evil:X"]), "would import the module 'evil'", "e"),
    "keyword arguments that are none": (lambda x: x["env"].update(kwargs=[1]), "env.kwargs: expected a mapping", "er"),
    "a network of another size": (lambda x: x["SAC"].update(policy_hidden_units=[9]), "cannot become (8, 8)", "r"),
    "an unknown setting": (lambda x: x["SAC"].update(taux=1.0), "unknown setting SAC.taux", "r"),
    "another algorithm": (lambda x: x["train"].update(algorithm="evil:Toy"), "cannot become 'sac'", "r"),
}  # fmt: skip


@pytest.mark.parametrize("change, words, uses", SETTINGS.values(), ids=SETTINGS)
def test_settings_that_are_others(strange, loop, change, words, uses):
    with Facts(strange) as facts:
        change(facts["settings"])
    outcome = dict(zip("elr", outcomes(strange, loop), strict=True))
    for use in uses:
        assert isinstance(outcome[use], str) and words in outcome[use], (use, outcome[use])


@pytest.mark.parametrize("state", [None, {}, {"bit_generator": "MT19937", "state": {"key": [1] * 624, "pos": 3}}, "x"])
@pytest.mark.parametrize("where", ["replay", "behaviour"])
def test_another_random_generators_state(strange, loop, where, state):
    with Facts(strange) as facts:
        facts[where]["rng"] = state
    refused(strange, loop, "the checkpoint of step 24 holds what tfsac did not write", uses="r")


@pytest.mark.parametrize(
    "name", ["../../../../../etc/passwd", "/etc/passwd", "../replay/../../config.gin", "../replay"]
)
def test_files_elsewhere_are_not_read(strange, loop, name):
    with Facts(strange) as facts:
        facts["replay_files"].append(name)
    path = strange / STEP / "SHA256SUMS"
    path.write_text(path.read_text() + f"{'0' * 64}  {name}\n")
    refused(strange, loop, DAMAGED)


# At random.

ODD = [
    None, True, False, 0, -1, 1, 3, 1.5, float("nan"), float("inf"), 10**30, -(10**30), "", "x", "evil:X-v0", "Walk-v0",
    "sac_v1", [], {}, [None], [1, 2], ["a", {}], {"a": 1}, {"": None}, [[[[]]]], "\u2028\x00",
]  # fmt: skip


def places(tree, path=()):
    """Every place in a tree of JSON, as a path of keys."""
    if path:
        yield path
    for key in tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        yield from places(tree[key], (*path, key))


def change_json(tree, rng):
    *path, last = rng.choice(list(places(tree)))
    parent = tree
    for key in path:
        parent = parent[key]
    kind = rng.choice(["replace", "replace", "delete", "add"])
    if kind == "replace":
        parent[last] = copy.deepcopy(rng.choice(ODD))
    elif kind == "delete":
        del parent[last]
    elif isinstance(parent, dict):
        parent[rng.choice(["x", "", "id", "length", "step", "format"])] = copy.deepcopy(rng.choice(ODD))
    else:
        parent.insert(rng.randrange(len(parent) + 1), copy.deepcopy(rng.choice(ODD)))


TYPES = ["<f8", "<f2", "<i4", "<i8", "?", "<c8", "<U3", "S2", "<M8[s]", [("a", "<f4"), ("b", "<i2")]]


def change_array(array, rng):
    kind = rng.choice(["type", "shape", "values", "nothing in it", "transposed"])
    if kind == "type":
        return np.zeros(array.shape, rng.choice(TYPES))
    if kind == "shape":
        return np.zeros(
            rng.choice([(), (0,), (1,), (3,), (2, 3), (1, 1, 1), (0, 10**6), (*array.shape, 1)]), array.dtype
        )
    if kind == "values":
        with np.errstate(all="ignore"):
            return np.full(array.shape, rng.choice([np.nan, np.inf, -1, 3e38, 1e-40, 7])).astype(array.dtype)
    return array[:0] if kind == "nothing in it" and array.ndim else array.T


def mutate(logdir, rng):
    """Changes one thing in the run directory, as someone might who can write sums."""
    kind = rng.choice(["facts"] * 6 + ["arrays"] * 5 + ["replay", "sums", "bytes", "config", "finished"])
    if kind == "facts":
        with Facts(logdir) as facts:
            change_json(facts, rng)
    elif kind == "arrays":
        with Arrays(logdir) as arrays:
            name = rng.choice(list(arrays))
            if rng.random() < 0.2:
                del arrays[name]
            elif rng.random() < 0.2:
                arrays[rng.choice(["x", "policy/x", "agent/policy/mu/kernel", "collector/", "/"])] = arrays[name]
            else:
                arrays[name] = change_array(arrays[name], rng)
    elif kind == "replay":
        path = rng.choice(list((logdir / "checkpoints" / "replay").iterdir()))
        np.save(path, change_array(np.load(path, allow_pickle=False), rng))
        signed(logdir / STEP)
    elif kind == "sums":
        path = logdir / STEP / "SHA256SUMS"
        lines = path.read_text().splitlines()
        place = rng.randrange(len(lines))
        lines[place] = rng.choice(["", "x", "  ", lines[place] + "x", lines[place].upper(), lines[0], lines[-1] + "\0"])
        path.write_text("\n".join(lines) + "\n")
    elif kind == "bytes":
        path = logdir / STEP / rng.choice(["facts.json", "state.npz"])
        content = bytearray(path.read_bytes())
        for _ in range(rng.choice([1, 10])):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(bytes(content[: rng.choice([len(content), len(content), rng.randrange(len(content))])]))
        signed(logdir / STEP)
    elif kind == "config":
        path = logdir / "config.gin"
        lines = path.read_text().splitlines()
        place = rng.randrange(len(lines))
        lines[place] = rng.choice(["", "x", lines[place].partition("=")[0] + f"= {rng.choice(ODD)!r}"])
        path.write_text("\n".join(lines) + "\n")
    else:
        tree = {"step": 24, "log": {"seconds": 1.0, "bytes": {"metrics.csv": 10}, "evaluated": 24}}
        change_json(tree, rng)
        (logdir / "finished.json").write_text(rng.choice([json.dumps(tree), "", "[" * 10_000, "\xff"]), "latin1")


def survives(sound, loop, folder, seed):
    """One to three changes, then every use of the directory; -> whether all of them took it."""
    rng, logdir = random.Random(seed), folder / "run"
    shutil.rmtree(logdir, ignore_errors=True)
    shutil.copytree(sound, logdir)
    for _ in range(rng.choice([1, 1, 2, 3])):
        try:
            mutate(logdir, rng)
        except (ValueError, KeyError, IndexError, OSError, zipfile.BadZipFile, EOFError):
            break  # what an earlier change left cannot be read to be changed again
    try:
        return not any(isinstance(outcome, str) for outcome in outcomes(logdir, loop))
    except Exception as error:
        raise AssertionError(f"mutation number {seed} ended in {type(error).__name__}: {error}") from error


@pytest.mark.parametrize("dtype", [[], "bool", "U3", "M8[s]"])
def test_bounds_of_actions_that_are_no_numbers(sound, tmp_path, dtype):
    shutil.copytree(sound, tmp_path / "run")
    with Facts(tmp_path / "run") as facts:
        facts["action"]["dtype"] = dtype
    with pytest.raises(UserError):
        loaded(tmp_path / "run")


@pytest.mark.filterwarnings("ignore:.*encountered in matmul")  # numpy's, of weights of 3e38
def test_any_change_is_taken_or_refused_in_a_line(sound, loop, tmp_path):
    taken = sum(survives(sound, loop, tmp_path, seed) for seed in range(250))
    assert 10 < taken < 200  # else the changes would be nothing, or all of one kind


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*encountered in matmul")
def test_ten_thousand_changes(sound, loop, tmp_path):
    start = random.SystemRandom().randrange(10**9)
    print(f"mutations from number {start} on")
    for seed in range(start, start + 10_000):
        survives(sound, loop, tmp_path, seed)
