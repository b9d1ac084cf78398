"""A clip of a policy at work: animated WebP or GIF with Pillow, MP4 where an ffmpeg is installed. Needs no screen.

A process of its own, `python -m tfsac.deploy.clip`, draws the pictures, for two reasons. MuJoCo's renderer must be
chosen before MuJoCo is imported. And TensorFlow and the LLVM inside Mesa's software renderer end in a segmentation
fault in one process, in either order (seen with TensorFlow 2.21 and Mesa 22.3). So the policy acts in the caller's
process; the other process takes the same actions from the same start and draws.
"""

import ctypes
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tfsac import standard_output
from tfsac.data.envs import EnvSettings
from tfsac.deploy import facts
from tfsac.errors import RunError, UserError, require
from tfsac.quiet_tensorflow import tf

LARGEST = {".webp": 400, ".gif": 280, ".mp4": 720}  # pixels of the longer edge; a GIF's bytes grow fastest
SECONDS = 6.0  # of the environment's time
SHORTEST_FRAME = 0.033  # s; some browsers show shorter ones of a GIF far too long, and nobody sees more
GIF_TICK = 10  # ms, in which a GIF counts
RENDERERS = {"egl": "libEGL.so.1", "osmesa": "libOSMesa.so.8"}  # MuJoCo's names, the best first
CURE = "install Debian's libegl1 and libgl1-mesa-dri, or libosmesa6, or leave the clip out"


def check_path(path):
    """Refuses a clip that could not be written, before any work on it.

    Raises:
        UserError: another kind of file, a folder that is not there, or .mp4 without ffmpeg.
    """
    suffix = Path(path).suffix.lower()
    require(suffix in LARGEST, f"expected a clip named *{', *'.join(LARGEST)}, received {path}")
    folder = Path(path).parent
    require(folder.is_dir(), f"cannot write {path}: there is no folder {folder}")
    require(os.access(folder, os.W_OK), f"cannot write {path}: {folder} may not be written to; choose another folder")
    require(
        suffix != ".mp4" or shutil.which("ffmpeg"),
        f"{path}: .mp4 needs ffmpeg, which is not installed (Debian: apt-get install ffmpeg); .webp and .gif do not",
    )


def record(act, settings, unit_actions, *paths, seconds=SECONDS, seed=0):
    """Writes a clip of a policy's first episodes, at the environment's speed.

    Args:
        act: observation [O] -> action [A].
        settings: the EnvSettings of the environment.
        unit_actions: whether act gives actions in [-1, 1]^A, as agents do, or in the environment's units, as files do.
        paths: the files to write, each whole or not at all: .webp, .gif or .mp4.
        seconds: of the environment's time; the last episode is cut off there.
        seed: of the first episode; each one after it has the next, as in `rollout`.

    Returns:
        The returns of the episodes that ended.

    Raises:
        UserError: `check_path`'s reasons, an environment that has no pictures, or a machine that cannot draw them.
        RunError: as the environment raises it.
    """
    for path in paths:
        check_path(path)
    env = settings.make(unit_actions)
    actions = []

    def noted(observation):
        actions.append(np.asarray(act(observation)))
        return actions[-1]

    for _ in _moments(noted, env, seconds, seed):
        pass
    job = {
        "settings": settings._asdict(),
        "unit_actions": unit_actions,
        "dtype": str(actions[0].dtype),
        "actions": [action.tolist() for action in actions],
        "seconds": seconds,
        "seed": seed,
        "paths": [str(Path(path).resolve()) for path in paths],
    }
    python_path = os.pathsep.join(filter(None, sys.path))  # what the environment is imported from
    done = subprocess.run(
        [sys.executable, "-m", "tfsac.deploy.clip"],
        input=json.dumps(job), capture_output=True, text=True, env={**os.environ, "PYTHONPATH": python_path},
    )  # fmt: skip
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"drawing {settings.id} ended with status {done.returncode} ({last}); {CURE}") from None
    if "error" in answer:
        raise UserError(answer["error"])
    return answer["returns"]


def write_of_run(policy, settings, logdir, step):
    """Writes the clip at the end of a training run: clip.webp in its directory, and the same in its TensorBoard.

    Args:
        policy: a `tfsac.policy.Policy`.
        settings: the run's EnvSettings.
        logdir: the run directory.
        step: environment steps of the run.

    Returns:
        None, or why there is none: one line.
    """
    with tempfile.TemporaryDirectory() as folder:
        gif = Path(folder) / "clip.gif"
        try:
            record(policy.deterministic, settings, True, Path(logdir) / "clip.webp", gif)
        except (UserError, RunError) as reason:
            return f"no clip: {reason}"
        to_tensorboard(gif.read_bytes(), Path(logdir) / "tensorboard", "clip", step)
    return None


def to_tensorboard(gif, folder, tag, step):
    """Adds a GIF's bytes to TensorBoard's folder; its image tab plays it. `tf.summary.image` can write none."""
    from tensorboard.plugins.image import metadata

    with Image.open(io.BytesIO(gif)) as image:
        size = [str(x).encode() for x in image.size]
    about = metadata.create_summary_metadata(display_name=tag, description="", converted_to_tensor=None)
    writer = tf.summary.create_file_writer(os.fsencode(folder), filename_suffix=".clip")
    with writer.as_default(step=step):
        tf.summary.write(tag, tf.constant([*size, gif]), metadata=about)
    writer.close()


class Clip(NamedTuple):
    """Pictures of a policy at work.

    Attributes:
        frames: PIL images, captioned.
        period: seconds of the environment's time between two of them.
        returns: of the episodes that ended.
    """

    frames: list
    period: float
    returns: list

    def save(self, path):
        """Writes the file, whole or not at all: .webp, .gif or .mp4."""
        partial = Path(path).with_name(f".{Path(path).name}.partial")
        partial.write_bytes(self.encoded(Path(path).suffix.lower()))
        partial.replace(path)

    def encoded(self, suffix):
        """The file's bytes."""
        frames = [frame.copy() for frame in self.frames]
        for frame in frames:
            frame.thumbnail((LARGEST[suffix], LARGEST[suffix]))
        if suffix == ".mp4":
            return _mp4(frames, self.period)
        if suffix == ".gif":  # without dithering, which no GIF can pack
            frames = [frame.quantize(128, dither=Image.Dither.NONE) for frame in frames]
        tick = GIF_TICK if suffix == ".gif" else 1
        ends = np.round(np.arange(len(frames) + 1) * 1000 * self.period / tick).astype(int) * tick
        options = {"quality": 75, "method": 4} if suffix == ".webp" else {"optimize": True}
        options |= {"save_all": True, "append_images": frames[1:], "duration": np.diff(ends).tolist(), "loop": 0}
        buffer = io.BytesIO()
        frames[0].save(buffer, suffix[1:].upper(), **options)
        return buffer.getvalue()


def play(act, env, seconds=SECONDS, seed=0):
    """Plays episodes and keeps their pictures.

    Args:
        act, seconds, seed: as in `record`.
        env: made with render_mode="rgb_array".

    Returns:
        A Clip.

    Raises:
        UserError: an environment that has no pictures, or a machine that cannot draw them.
    """
    name = env.spec.id if env.spec else type(env.unwrapped).__name__
    require(env.render_mode == "rgb_array", f"{name} has no pictures: it does not render as rgb_array")
    period = shown_period(env)
    every = max(1, int(np.ceil(SHORTEST_FRAME / period - 1e-9)))  # steps of one frame
    frames, returns = [], []
    for number, moment in enumerate(_moments(act, env, seconds, seed)):
        if number == 0:
            _draw(env, name)  # it makes the camera
            _follow(env)
        if number % every == 0:
            frames.append(_captioned(_draw(env, name), name, moment.total, moment.step * period))
        returns = moment.returns
    return Clip(frames, every * period, returns)


class _Moment(NamedTuple):
    """Before a step: steps and sum of rewards of this episode so far, and the returns of the finished episodes."""

    step: int
    total: float
    returns: list


def _moments(act, env, seconds, seed):
    """Runs episodes for so long; yields before every step."""
    returns, over = [], True
    for _ in range(max(1, round(seconds / shown_period(env)))):
        if over:
            observation, _ = env.reset(seed=seed + len(returns))
            total, step, over = 0.0, 0, False
        yield _Moment(step, total, returns)
        observation, reward, terminated, truncated, _ = env.step(act(observation))
        total, step, over = total + float(reward), step + 1, terminated or truncated
        if over:
            returns.append(total)


def shown_period(env):
    """Seconds between two actions. The metadata may not say: Pendulum's have 30 frames a second, and it steps at 20 Hz.

    Environments without a `dt` have nothing but their metadata's render_fps; without that, 1/30 s.
    """
    return facts.control_period(env) or 1 / float(env.metadata.get("render_fps") or 30)


def _follow(env):
    """Lets MuJoCo's camera move with a model that has one called `track`; Gymnasium 1.4 lets such a model run away."""
    renderer = getattr(env.unwrapped, "mujoco_renderer", None)
    if renderer and renderer.camera_id == -1:  # the user has chosen none
        import mujoco  # only now: its renderer has been chosen

        if mujoco.mj_name2id(env.unwrapped.model, mujoco.mjtObj.mjOBJ_CAMERA, "track") != -1:
            renderer.camera_id = None  # or each picture would set the camera back
            camera = renderer.viewer.cam
            camera.type = mujoco.mjtCamera.mjCAMERA_TRACKING
            camera.trackbodyid = max(1, camera.trackbodyid)  # body 0 is the world


def _draw(env, name):
    """One picture, or the one line that says what to install."""
    try:
        frame = env.render()
    except Exception as error:  # whatever the drawing library raises where it finds no driver
        reason = f"{type(error).__name__}: {error}".split("\n")[0]
        raise UserError(f"cannot draw {name} here ({reason}); {CURE}") from error
    require(isinstance(frame, np.ndarray) and frame.ndim == 3, f"{name} has no pictures: it drew {type(frame)}")
    return frame


def _captioned(frame, name, total, seconds):
    """A frame with what it shows written in its corner."""
    image = Image.fromarray(np.ascontiguousarray(frame[..., :3]))
    text = f"{name.rpartition('/')[2]}   return {total:.1f}   {seconds:.1f} s"
    font = ImageFont.load_default(max(11, image.width // 25))
    draw = ImageDraw.Draw(image, "RGBA")
    *_, right, bottom = draw.textbbox((8, 6), text, font=font)
    draw.rectangle((0, 0, right + 8, bottom + 6), fill=(16, 21, 28, 190))
    draw.text((8, 6), text, font=font, fill=(255, 255, 255, 255))
    return image


def _mp4(frames, period):
    width, height = (x - x % 2 for x in frames[0].size)  # H.264 wants even numbers
    raw = b"".join(np.asarray(frame)[:height, :width].tobytes() for frame in frames)
    picture = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{1 / period:.6f}"]
    moving = ["-pix_fmt", "yuv420p", "-movflags", "frag_keyframe+empty_moov", "-f", "mp4", "pipe:1"]
    command = ["ffmpeg", "-v", "error", *picture, "-i", "pipe:0", *moving]
    done = subprocess.run(command, input=raw, capture_output=True, check=False)
    if done.returncode:
        reason = " ".join(done.stderr.decode(errors="replace").split())
        raise UserError(f"ffmpeg cannot write .mp4 ({reason}); take .webp or .gif")
    return done.stdout


def _use_renderer_without_screen():
    """On Linux without a display, MuJoCo draws with EGL, else OSMesa, and pygame nowhere. What the user has set stays.

    A library that is not there is not chosen: MuJoCo could not even be imported then.
    """
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        there = [name for name, library in RENDERERS.items() if _loads(library)]
        if there:
            os.environ.setdefault("MUJOCO_GL", there[0])
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # else SDL complains of a missing XDG_RUNTIME_DIR


def _loads(library):
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _main():
    """The process that draws: a job of `record` on standard input, a JSON object as the answer."""
    job, output = json.load(sys.stdin), standard_output.for_answers()
    _use_renderer_without_screen()
    answers = iter(np.array(job["actions"], job["dtype"]))
    settings = EnvSettings.read(job["settings"])
    drawn = settings._replace(kwargs={**settings.kwargs, "render_mode": "rgb_array"})
    try:
        with warnings.catch_warnings(action="ignore"):  # Gymnasium's of a mode that there is not; here it is an error
            try:
                env = drawn.make(job["unit_actions"])
            except UserError as error:
                raise UserError(f"{settings.id} has no pictures: {error}") from error
        clip = play(lambda _: next(answers), env, job["seconds"], job["seed"])
        for path in job["paths"]:
            clip.save(path)
        answer = {"returns": clip.returns}
    except (UserError, RunError, OSError) as error:
        answer = {"error": str(error)}
    print(json.dumps(answer), file=output, flush=True)
    os._exit(0)  # a viewer that was never complete would fail once more when it is thrown away


if __name__ == "__main__":
    _main()
