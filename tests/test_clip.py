"""Clips: right speed, the return in the picture, and one line where a machine cannot draw."""

import io
import os
import shutil
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box
from PIL import Image
from random_policy import random_policy

from tfsac.data.envs import EnvSettings, wrap
from tfsac.data.rollout import rollout
from tfsac.deploy import clip
from tfsac.errors import UserError


class Flag(gymnasium.Env):
    """Draws how many steps it has taken, in a picture's brightness; each step rewards 1."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 7}
    observation_space = Box(-np.inf, np.inf, [1], np.float32)
    action_space = Box(-1.0, 1.0, [1], np.float32)
    dt = 0.01

    def __init__(self, length=130, render_mode="rgb_array"):
        self.length, self.render_mode, self.seeds = length, render_mode, []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.zeros(1, np.float32), 1.0, False, self.steps == self.length, {}

    def render(self):
        return np.full([300, 500, 3], self.steps, np.uint8)


def still(observation):
    return np.zeros(1, np.float32)


def played(env=None, **options):
    return clip.play(still, wrap(env or Flag(), unit_actions=False), **options)


def frames_of(content):
    """[(milliseconds, RGB array)] of an animation's bytes."""
    found = []
    with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as image:
        for i in range(image.n_frames):
            image.seek(i)
            image.load()
            found.append((image.info["duration"], np.asarray(image.convert("RGB"))))
    return found


def test_frames_are_those_of_every_so_many_steps():
    """100 Hz is more than a clip needs: every fourth step is shown, 25 pictures a second."""
    env = Flag()
    result = played(env, seconds=2.0, seed=5)
    assert result.period == pytest.approx(0.04)
    assert [np.asarray(frame)[250, 10, 0] for frame in result.frames[:4]] == [0, 4, 8, 12]
    # Episodes of 130 steps: the second begins with step 130, which is no multiple of 4, and is shown from its third on
    assert [np.asarray(frame)[250, 10, 0] for frame in result.frames[32:35]] == [128, 2, 6]
    assert len(result.frames) == 50 and result.returns == [130.0]
    assert env.seeds == [5, 6]


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_a_clip_lasts_as_long_as_it_took_in_the_environment(suffix, tmp_path):
    """render_fps says 7; what counts is dt."""
    played(seconds=1.2).save(tmp_path / f"clip{suffix}")
    frames = frames_of(tmp_path / f"clip{suffix}")
    assert sum(duration for duration, _ in frames) == 1200
    assert max(frames[0][1].shape[:2]) == clip.LARGEST[suffix]


def test_pendulum_runs_at_its_dt_and_not_at_its_metadata(tmp_path):
    env = EnvSettings("Pendulum-v1", {"render_mode": "rgb_array"}).make(unit_actions=False)
    assert env.metadata["render_fps"] == 30  # which would make it 1.5 times too fast
    assert clip.shown_period(env) == 0.05
    clip.play(still, env, seconds=1.0).save(tmp_path / "clip.webp")
    assert sum(duration for duration, _ in frames_of(tmp_path / "clip.webp")) == 1000


@pytest.mark.parametrize("dt", [None, print, 0])
def test_without_a_dt_the_metadata_count(dt):
    env = Flag()
    env.dt = dt
    assert clip.shown_period(env) == pytest.approx(1 / 7)


def test_the_return_is_in_the_picture():
    """The caption's corner changes with the return; the rest of the picture is as the environment drew it."""
    first, later = (np.asarray(frame).astype(int) for frame in played(seconds=1.0).frames[:2])
    assert len(np.unique(later[:30, :250].reshape(-1, 3), axis=0)) > 5  # letters
    assert np.any(first[:30, :250] != later[:30, :250] - 4)
    assert np.all(first[60:] == 0) and np.all(later[60:] == 4)


def test_a_clip_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    result = played(seconds=0.2)
    (tmp_path / "clip.webp").write_text("an earlier one")
    monkeypatch.setattr(clip.Clip, "encoded", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        result.save(tmp_path / "clip.webp")
    assert [path.name for path in tmp_path.iterdir()] == ["clip.webp"]
    assert (tmp_path / "clip.webp").read_text() == "an earlier one"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("clip.avi", r"expected a clip named \*.webp, \*.gif, \*.mp4, received .*clip.avi"),
        ("clip", "expected a clip named"),
        ("nowhere/clip.webp", "there is no folder .*nowhere"),
    ],
)
def test_a_path_that_cannot_become_a_clip_is_refused_first(name, message, tmp_path):
    with pytest.raises(UserError, match=message):
        clip.check_path(tmp_path / name)


def test_without_ffmpeg_an_mp4_is_refused_with_the_cure(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"needs ffmpeg, which is not installed .*apt-get install ffmpeg"):
        clip.check_path(tmp_path / "clip.mp4")


def test_a_folder_that_may_not_be_written_to_is_refused_first(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # chmod does not bind root
    with pytest.raises(UserError, match="may not be written to; choose another folder"):
        clip.check_path(tmp_path / "clip.webp")


def test_ffmpeg_is_given_every_picture_and_the_right_rate(tmp_path, monkeypatch):
    """A stand-in that writes down what it was asked; test_an_mp4 asks the real one."""
    (tmp_path / "ffmpeg").write_text(
        f"#!{sys.executable}\nimport sys\nraw = sys.stdin.buffer.read()\nprint(len(raw), *sys.argv[1:])\n"
    )
    (tmp_path / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    played(seconds=1.0).save(tmp_path / "clip.mp4")
    asked = (tmp_path / "clip.mp4").read_text()
    assert asked.startswith(f"{25 * 500 * 300 * 3} ") and " -s 500x300 -r 25.000000 " in asked
    (tmp_path / "ffmpeg").write_text("#!/bin/sh\necho 'no such encoder' >&2\nexit 1\n")
    with pytest.raises(UserError, match="ffmpeg cannot write .mp4 .*no such encoder"):
        played(seconds=0.1).save(tmp_path / "clip.mp4")


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="no ffmpeg here")
def test_an_mp4(tmp_path):
    played(seconds=1.0).save(tmp_path / "clip.mp4")
    asked = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", tmp_path / "clip.mp4"]
    assert float(subprocess.run(asked, capture_output=True, text=True, check=True).stdout) == pytest.approx(1, abs=0.05)


def test_an_environment_without_pictures_is_refused(tmp_path):
    with pytest.raises(UserError, match="envs_for_tests:Walk-v0 has no pictures"):
        clip.record(still, EnvSettings("envs_for_tests:Walk-v0"), False, tmp_path / "clip.webp")
    with pytest.raises(UserError, match="Flag has no pictures: it does not render as rgb_array"):
        played(Flag(render_mode=None))


def test_tensorboard_gets_a_gif(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    clip.to_tensorboard(played(seconds=0.4).encoded(".gif"), tmp_path, "clip", step=7)
    events = EventAccumulator(str(tmp_path), {"tensors": 0, "images": 0})
    events.Reload()
    assert events.SummaryMetadata("clip").plugin_data.plugin_name == "images"
    (event,) = events.Tensors("clip")
    width, height, content = event.tensor_proto.string_val
    assert event.step == 7
    shown = frames_of(content)
    assert content.startswith(b"GIF89a") and sum(duration for duration, _ in shown) == 400
    assert shown[0][1].shape[:2] == (int(height), int(width))


@pytest.fixture
def no_display(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"):
        monkeypatch.delenv(name, raising=False)


LASTING = {"Walker2d-v5": {"terminate_when_unhealthy": False}}
REACHER = EnvSettings("Reacher-v5")


def push(observation):
    return np.array([0.5, -0.5], np.float32)


@pytest.mark.skipif(not any(map(clip._loads, clip.RENDERERS.values())), reason="neither EGL nor OSMesa here")
def test_mujoco_is_drawn_without_a_display_beside_tensorflow(tmp_path, no_display):
    """In one process the two end in a segmentation fault."""
    import tensorflow as tf

    assert tf.reduce_sum(tf.ones([3])) == 3
    returns = clip.record(push, REACHER, False, tmp_path / "clip.webp", tmp_path / "clip.gif", seconds=2.0, seed=3)
    assert returns == pytest.approx(rollout(push, REACHER.make(unit_actions=False), 2, seed=3)[0])
    for suffix in (".webp", ".gif"):
        frames = frames_of(tmp_path / f"clip{suffix}")
        assert len(np.unique(frames[0][1][100:].reshape(-1, 3), axis=0)) > 50
        assert np.any(frames[0][1] != frames[20][1])
    assert tf.reduce_sum(tf.ones([3])) == 3
    assert "MUJOCO_GL" not in os.environ


@pytest.mark.parametrize("task", ["Walker2d-v5", "HalfCheetah-v5"])
def test_the_camera_follows_what_runs_away(task, tmp_path, no_display):
    """In the end it is 20 m away or more. A body is brown (0.8, 0.6, 0.4), floor and sky are not."""
    settings = EnvSettings(task, kwargs=LASTING.get(task, {}), wrappers=[("envs_for_tests:Sledge", {})])
    clip.record(lambda _: np.zeros(6, np.float32), settings, False, tmp_path / "clip.webp", seconds=2.0)
    with Image.open(tmp_path / "clip.webp") as image:
        image.seek(image.n_frames - 1)
        red, green, blue = np.moveaxis(np.asarray(image.convert("RGB"), float)[60:], -1, 0)
    assert np.sum((red > 1.15 * green) & (green > 1.15 * blue) & (red - blue > 50)) > 150


def test_an_agent_s_actions_are_mapped_to_the_environment_s(tmp_path):
    half = EnvSettings("Pendulum-v1", {"g": 5.0})
    clip.record(lambda x: np.array([1.0]), half, True, tmp_path / "one.gif", seconds=1.0)
    clip.record(lambda x: np.array([2.0], np.float32), half, False, tmp_path / "other.gif", seconds=1.0)
    assert (tmp_path / "one.gif").read_bytes() == (tmp_path / "other.gif").read_bytes()


def test_a_machine_that_cannot_draw_says_what_to_install(tmp_path, no_display, monkeypatch):
    monkeypatch.setenv("__EGL_VENDOR_LIBRARY_DIRS", str(tmp_path))  # EGL, if there is one, finds no driver
    monkeypatch.setenv("MUJOCO_GL", "egl" if clip._loads("libEGL.so.1") else "")
    with pytest.raises(
        UserError, match=r"cannot draw Reacher-v5 here \(.*; install Debian's libegl1 and libgl1-mesa-dri"
    ):
        clip.record(push, REACHER, False, tmp_path / "clip.webp", seconds=0.1)
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_dies_while_drawing_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "python").write_text("#!/bin/sh\necho 'driver: bad news' >&2\nkill -SEGV $$\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(UserError, match=r"drawing Pendulum-v1 ended with status -11 \(driver: bad news\); install"):
        clip.record(still, EnvSettings("Pendulum-v1"), False, tmp_path / "clip.webp", seconds=0.1)


def test_the_clip_of_a_run(tmp_path):
    policy = random_policy([3, 4, 1], 0)
    assert clip.write_of_run(policy, EnvSettings("Pendulum-v1"), tmp_path, 5) is None
    assert sum(duration for duration, _ in frames_of(tmp_path / "clip.webp")) == 6000
    (event_file,) = (tmp_path / "tensorboard").iterdir()
    assert b"GIF89a" in event_file.read_bytes()
    reason = clip.write_of_run(policy, EnvSettings("envs_for_tests:Walk-v0"), tmp_path, 5)
    assert reason.startswith("no clip: envs_for_tests:Walk-v0 has no pictures") and "\n" not in reason


def test_a_renderer_that_is_not_there_is_not_chosen(monkeypatch):
    """MuJoCo cannot even be imported then."""
    monkeypatch.setattr(os, "environ", {"SDL_VIDEODRIVER": "kept"})
    monkeypatch.setattr(sys, "platform", "linux")
    for there, expected in [((), None), (("libOSMesa.so.8",), "osmesa"), (("libOSMesa.so.8", "libEGL.so.1"), "egl")]:
        monkeypatch.delenv("MUJOCO_GL", raising=False)
        monkeypatch.setattr(clip, "_loads", there.__contains__)
        clip._use_renderer_without_screen()
        assert os.environ.get("MUJOCO_GL") == expected
    monkeypatch.setenv("MUJOCO_GL", "glfw")  # the user's
    clip._use_renderer_without_screen()
    assert (os.environ["MUJOCO_GL"], os.environ["SDL_VIDEODRIVER"]) == ("glfw", "kept")
    monkeypatch.delenv("MUJOCO_GL")
    monkeypatch.setenv("DISPLAY", ":0")
    clip._use_renderer_without_screen()
    assert "MUJOCO_GL" not in os.environ
