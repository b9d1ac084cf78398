"""What Python puts into a demo.html: the explanation of an observation, refusals, MuJoCo's files, the gallery."""

import base64
import gzip
import json
import subprocess
from pathlib import Path

import commands
import gymnasium
import numpy as np
import pytest
import tiny_tflite

from tfsac.data.envs import EnvSettings, make_env, wrap
from tfsac.data.imperfections.sensors import SensorNoise
from tfsac.deploy import artefact, facts
from tfsac.deploy.demo import episodes, gallery, mujoco_task, mujoco_wasm, page, pendulum_task
from tfsac.deploy.demo.channel import Channel
from tfsac.deploy.demo.explain import Term, explain, observe
from tfsac.deploy.show import CLIP, PAGE, show
from tfsac.errors import RunError, UserError

PENDULUM = "export/policies/pendulum/policy.tflite"
FURUTA = "export/policies/furuta/policy.tflite"


def zero(env):
    """A policy that does nothing."""
    return lambda observation: np.zeros(env.action_space.shape, np.float32)


def describe(env_id):
    env = make_env(env_id, unit_actions=False)
    names = [f"entry {i}" for i in range(env.observation_space.shape[0])]
    return mujoco_task.describe(zero(env), env, names)


# From Gymnasium's documentation of each environment's observation, written as MuJoCo's arrays.
EXPLAINED = {
    "Reacher-v5": [
        Term("qpos", 0, 2, "cos"), Term("qpos", 0, 2, "sin"), Term("qpos", 2, 2), Term("qvel", 0, 2),
        Term("xpos", 9, 2, minus="xpos", minus_at=12),
    ],
    "HalfCheetah-v5": [Term("qpos", 1, 8), Term("qvel", 0, 9)],
    "Hopper-v5": [Term("qpos", 1, 5), Term("qvel", 0, 6, clip=10.0)],
}  # fmt: skip


@pytest.mark.parametrize("env_id", EXPLAINED)
def test_the_search_finds_what_gymnasium_documents(env_id):
    task = describe(env_id)
    assert [Term(**term) for term in task["mujoco"]["observation"]] == EXPLAINED[env_id]
    assert len(task["starts"]) == 10
    json.dumps(task, allow_nan=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    "env_id",
    [f"{name}-v5" for name in ("Ant", "Humanoid", "HumanoidStandup", "InvertedDoublePendulum", "InvertedPendulum",
                               "Pusher", "Swimmer", "Walker2d")],
)  # fmt: skip
def test_every_mujoco_task_of_gymnasium_has_a_page(env_id):
    task = describe(env_id)  # which refuses what is not equal bit for bit on fresh states
    env = make_env(env_id, unit_actions=False)
    observation, _ = env.reset(seed=7)
    terms = [Term(**term) for term in task["mujoco"]["observation"]]
    np.testing.assert_array_equal(observe(terms, env.unwrapped.data).astype(np.float32), observation)


@pytest.mark.parametrize("task", ["reacher-easy", pytest.param("cheetah-run", marks=pytest.mark.slow)])
def test_a_task_of_dm_control_is_explained(task):
    pytest.importorskip("shimmy")
    found = describe(f"shimmy:dm_control/{task}-v0")
    assert found["mujoco"]["after_steps"] == "mj_step1"
    if task == "reacher-easy":  # its target is a shape of the world's, which each reset puts elsewhere
        places = [tuple(value for _, value in start["changes"]["geom_pos"]) for start in found["starts"]]
        assert len(set(places)) == len(places)


def test_what_cannot_be_explained_is_refused_by_name():
    pytest.importorskip("shimmy")
    env = make_env("shimmy:dm_control/fish-swim-v0", unit_actions=False)
    names = [f"part {i}" for i in range(env.observation_space.shape[0])]
    with pytest.raises(UserError, match="nothing in MuJoCo's data explains entry 7 of the observation, part 7"):
        mujoco_task.describe(zero(env), env, names)


def wrapped(env_id, *wrappers):
    env = gymnasium.make(env_id)
    for wrapper in wrappers:
        env = wrapper(env)
    return wrap(env, unit_actions=False)


def scaled(env):
    space = env.observation_space
    return gymnasium.wrappers.TransformObservation(env, lambda x: x * 1.0001, space)


def stronger(env):
    return gymnasium.wrappers.TransformAction(env, lambda a: 0.5 * a, env.action_space)


def sticky(env):
    return gymnasium.wrappers.StickyAction(env, 0.3)


@pytest.mark.parametrize(
    ("wrapper", "message"),
    [(scaled, "entry 0 of the observation"), (stronger, "step is more than MuJoCo's"), (sticky, "step is more than")],
)
def test_a_world_that_is_more_than_mujoco_is_refused(wrapper, message):
    env = wrapped("Reacher-v5", wrapper)
    with pytest.raises(UserError, match=message):
        mujoco_task.describe(zero(env), env, [str(i) for i in range(10)])


@pytest.mark.parametrize("wrapper", [scaled, stronger, sticky])
def test_a_pendulum_that_is_more_than_its_equations_is_refused(wrapper):
    env = wrapped("Pendulum-v1", wrapper)
    with pytest.raises(UserError, match="something stands between"):
        pendulum_task.describe(zero(env), env)


def arrays(packed):
    """What `pack` has packed."""
    (kind,) = packed.keys() - {"shape"}
    return np.frombuffer(base64.b64decode(packed[kind]), kind).reshape(packed["shape"])


def test_the_rotary_pendulum_is_explained_with_all_that_lies_between():
    act, said = artefact.load(FURUTA)
    env = facts.environment(said, FURUTA).make(unit_actions=False)
    task = mujoco_task.describe(act, env, said["observation"]["names"])
    terms = [Term(**term) for term in task["mujoco"]["observation"]]
    assert terms == [Term("qpos", 0, 1, "counts"), Term("qpos", 1, 1, "counts from upright")]
    assert task["channel"] == {  # gin/furuta.gin
        "noise": [np.float32(0.7)] * 2, "rounding": [1.0, 1.0], "observations": 6, "actions": 2,
        "drawn": [
            "arm_damping", "dead_zone", "motor_resistance", "pendulum_damping", "pendulum_length", "pendulum_mass",
        ],
    }  # fmt: skip
    assert {start["delay"] for start in task["starts"]} == {1}
    assert len({start["dead_zone"] for start in task["starts"]}) == 10
    # The noise that is written down is the noise that was drawn: with it the true angles become what was shown.
    found = task["episodes"]
    angles, shown, drawn = arrays(found["states"]["qpos"]), arrays(found["observations"]), arrays(found["normals"])
    turned = np.round(angles * 2048 / (2 * np.pi))
    counts = np.stack([turned[:, 0], turned[:, 1] % 2048 - 1024], axis=1).astype(np.float32)
    np.testing.assert_array_equal(shown[:, :2], np.round(counts + np.float32(0.7) * drawn))
    assert sum(found["lengths"]) == len(shown) == 2000


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"action_drop": 0.1}, "does not know what HoldLast does"),
        ({"action_slew": 0.5}, "does not know what SlewLimit does"),
        ({"observation_delay": 1}, "does not know what ObservationDelay does"),
        ({"randomize": {"m": (0.8, 1.2), "l": 1.1}}, "env.randomize draws its l, m"),
    ],
)
def test_what_the_page_cannot_do_between_policy_and_machine_is_refused_by_name(settings, message):
    env = EnvSettings("Pendulum-v1", **settings).make(unit_actions=False)
    with pytest.raises(UserError, match=message):
        pendulum_task.describe(zero(env), env)


def test_layers_in_another_order_are_refused():
    env = SensorNoise(EnvSettings("Pendulum-v1", action_delay=1).make(unit_actions=False), 0.1)
    with pytest.raises(UserError, match="does not know what History does, where it stands"):
        Channel(env)


def test_a_pendulum_of_other_constants_has_them():
    env = wrap(gymnasium.make("Pendulum-v1", g=3.7), unit_actions=False)
    assert pendulum_task.describe(zero(env), env)["pendulum"]["g"] == 3.7


def test_a_reward_that_a_wrapper_changes_has_no_formula():
    def doubled(env):
        return gymnasium.wrappers.TransformReward(env, lambda r: 2 * r)

    names = [str(i) for i in range(10)]
    for env, expected in ((wrapped("Reacher-v5"), "reacher"), (wrapped("Reacher-v5", doubled), None)):
        reward = mujoco_task.describe(zero(env), env, names)["reward"]
        assert (reward and reward["kind"]) == expected


def test_only_a_mujoco_environment_or_pendulum_has_a_page(tmp_path):
    env = make_env("MountainCarContinuous-v0", unit_actions=False)
    file = tmp_path / "policy.tflite"
    file.write_bytes(tiny_tflite.random_policy("MountainCarContinuous-v0", 2, [1.0]))
    with pytest.raises(UserError, match="neither Pendulum nor an environment on MuJoCo|not here"):
        page.write_demo(tmp_path / "demo.html", file, env)
    assert not (tmp_path / "demo.html").exists()


def test_only_a_float32_file_goes_into_a_page(tmp_path):
    env = make_env("Pendulum-v1", unit_actions=False)
    with pytest.raises(UserError, match="reads float32 files, received .*policy_dynamic.tflite of kind dynamic"):
        page.write_demo(tmp_path / "demo.html", PENDULUM.replace("policy.t", "policy_dynamic.t"), env)


def data_of(**arrays):
    """Snapshots, of which all arrays are empty but these [N, size]."""
    from tfsac.deploy.demo.explain import ARRAYS

    count = len(next(iter(arrays.values())))
    return [{name: arrays.get(name, np.zeros([count, 0]))[i] for name in ARRAYS} for i in range(count)]


def test_each_kind_of_term_is_found():
    rng = np.random.default_rng(0)
    arrays = {"qpos": rng.normal(0, 2, [50, 6]), "xpos": rng.normal(size=[50, 9]), "sensordata": rng.random([50, 2])}
    parts = {
        Term("qpos", 1, 2): arrays["qpos"][:, 1:3],
        Term("qpos", 4, 2, "sin"): np.sin(arrays["qpos"][:, 4:6]),
        Term("qpos", 0, 3, clip=1.5): np.clip(arrays["qpos"][:, :3], -1.5, 1.5),
        Term("xpos", 3, 3, minus="xpos", minus_at=0): arrays["xpos"][:, 3:6] - arrays["xpos"][:, :3],
        Term("sensordata", 0, 2, "log1p"): np.log1p(arrays["sensordata"]),
    }
    observations = np.hstack(list(parts.values())).astype(np.float32)
    assert explain(observations, data_of(**arrays), ["name"] * observations.shape[1]) == list(parts)
    observations[17, 5] = np.nextafter(observations[17, 5], np.float32(9))  # one bit of one state
    with pytest.raises(UserError, match="entry 5 of the observation, the sixth"):
        explain(observations, data_of(**arrays), ["name"] * 5 + ["the sixth"] * 10)


def test_episodes_are_compared_whole_only_where_rounding_does_not_grow():
    def linear(gain):
        """x' = gain x + a, unstable for gain > 1."""

        class Line(gymnasium.Env):
            observation_space = gymnasium.spaces.Box(-np.inf, np.inf, [1], np.float32)
            action_space = gymnasium.spaces.Box(-1, 1, [1], np.float32)

            def reset(self, *, seed=None, options=None):
                super().reset(seed=seed)
                self.x, self.t = np.float64(0.0), 0
                return np.array([self.x], np.float32), {}

            def step(self, action):
                self.x, self.t = gain * self.x + float(action[0]), self.t + 1
                return np.array([self.x], np.float32), 0.0, False, self.t == 60, {}

        return Line()

    for gain, steady in ((0.9, True), (1.5, False)):
        env = linear(gain)
        assert episodes.golden(lambda x: np.zeros(1, np.float32), env, lambda env=env: {"x": env.x})[1] is steady


def test_the_page_that_is_in_git_is_what_the_code_writes():
    """But for the golden episodes, whose last bits may be another processor's."""
    committed = Path("export/policies/pendulum/demo.html").read_text(encoding="utf-8")
    written = page.render(Path(PENDULUM).read_bytes(), page.describe(PENDULUM, make_env("Pendulum-v1", False)))
    assert len(committed) <= 600_000

    def without_task(text):
        before, _, after = text.partition('id="task">')
        return before, after.partition("</script>")[2]

    assert without_task(committed) == without_task(written), "make demos writes it anew: copy it from there"


def test_json_in_a_page_cannot_end_its_element():
    text = page.render(b"", {"kind": "pendulum", "environment": "</script><script>alert(1)</script>"})
    assert "alert(1)</script>" not in text.replace("\\u003c", "<").split("<title>")[0]
    assert text.count("</script>") == 3  # task, policy and the page's own


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "tfsac" / f"mujoco-wasm-{mujoco_wasm.VERSION}"


def test_without_mujocos_files_the_message_says_how_to_get_them(cache):
    with pytest.raises(UserError, match=r"not here: python -m tfsac.demos --fetch"):
        mujoco_wasm.read()


@pytest.mark.parametrize(
    "content",
    [b"", b"nonsense", gzip.compress(b"another"), gzip.compress(b"x" * 999)[:-9]],
    ids=["empty", "nonsense", "another", "cut off"],  # without the time in gzip's head, which every worker has its own
)
def test_other_files_than_were_pinned_are_refused(content, cache):
    cache.mkdir(parents=True)
    for name in mujoco_wasm.FILES:
        (cache / f"{name}.gz").write_bytes(content)
    with pytest.raises(UserError, match="is not @mujoco/mujoco 3.14.0's: remove"):
        mujoco_wasm.read()


def test_fetching_without_npm_or_network_is_one_line(cache, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RunError, match="npm is not here: install Node.js"):
        mujoco_wasm.fetch()
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'npm error network is down' >&2\nexit 1\n")
    npm.chmod(0o755)
    with pytest.raises(RunError, match="could not get @mujoco/mujoco 3.14.0: npm error network is down"):
        mujoco_wasm.fetch()
    assert not cache.exists()


def test_a_package_of_other_content_is_not_kept(cache, monkeypatch, tmp_path):
    (tmp_path / "package").mkdir()
    for name in mujoco_wasm.FILES:
        (tmp_path / "package" / name).write_text("something else")
    subprocess.run(["tar", "czf", tmp_path / "made.tgz", "-C", tmp_path, "package"], check=True)
    npm = tmp_path / "npm"
    npm.write_text(f"#!/bin/sh\n/bin/cp {tmp_path}/made.tgz .\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RunError, match="holds another mujoco.js than was pinned"):
        mujoco_wasm.fetch()
    assert not cache.exists()


def test_the_gallery_shows_every_policy_and_says_what_is_missing(tmp_path):
    """As a command, on a machine without npm and without MuJoCo's files: Pendulum has a page, Furuta a reason."""
    policies = tmp_path / "policies"
    policies.mkdir()
    for name in ("pendulum", "furuta"):
        (policies / name).symlink_to(Path("export/policies").resolve() / name)
    alone = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PATH": str(tmp_path)}
    done = commands.run("tfsac.demos", f"--policies={policies}", "--out=out", cwd=tmp_path, **alone)
    assert done.status == 0, done.err
    assert "pages of MuJoCo tasks are left out: npm is not here" in done.out
    assert "furuta: no demo.html: MuJoCo's WebAssembly is not here" in done.out
    index = (tmp_path / "out" / "index.html").read_text()
    assert 'href="pendulum/demo.html"' in index and 'href="furuta/demo.html"' not in index
    assert "-138.65" in index and "no demo.html: MuJoCo" in index
    assert (tmp_path / "out" / "pendulum" / "clip.webp").stat().st_size > 10_000
    for name in ("pendulum", "furuta"):
        assert (tmp_path / "out" / name / "report.md").is_file()


def test_a_gallery_of_nothing_is_refused(tmp_path):
    with pytest.raises(UserError, match="no .*policy.tflite in"):
        gallery.write_gallery(tmp_path, tmp_path / "out")


def test_the_notices_of_mujoco_travel_with_it():
    text = mujoco_wasm.licences()
    assert "Apache License" in text and "Version 2.0" in text


def test_show_writes_what_it_can_and_says_what_it_left_out(tmp_path):
    """An environment without pictures that is no MuJoCo task, over files of an earlier policy."""
    env = make_env("MountainCarContinuous-v0", unit_actions=False)
    file = tmp_path / "policy.tflite"
    file.write_bytes(tiny_tflite.random_policy("MountainCarContinuous-v0", 2, [1.0]))
    for name in (PAGE, CLIP):
        (tmp_path / name).write_text("an earlier policy's")
    left_out = show(file, env, None, tmp_path)
    assert [line.partition(":")[0] for line in left_out] == ["no demo.html", "no clip.webp"]
    assert [path.name for path in tmp_path.iterdir()] == ["policy.tflite"]
    assert show(PENDULUM, make_env("Pendulum-v1", unit_actions=False), None, tmp_path, video=False) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [PAGE, "policy.tflite"]


def test_an_environment_that_breaks_the_page_costs_the_page_only(tmp_path):
    """Its dt is a method: a TypeError where the page is made."""
    env = make_env("Pendulum-v1", unit_actions=False)
    env.unwrapped.dt = lambda: 0.05
    (said,) = show(PENDULUM, env, None, tmp_path, video=False)
    assert said.startswith("no demo.html: ") and list(tmp_path.iterdir()) == []
