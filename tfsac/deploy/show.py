"""The page and the clip of a policy at work, beside an exported file."""

from pathlib import Path

from tfsac.deploy import artefact, clip
from tfsac.deploy.demo.page import write_demo
from tfsac.errors import require

PAGE, CLIP = "demo.html", "clip.webp"


def show(file, env, settings, folder, page=True, video=True):
    """Writes demo.html and clip.webp, as far as the task and the machine allow; earlier ones there are replaced.

    Any exception, in an environment that may come from anyone, ends in a line of what was left out.

    Args:
        file: the .tflite file, float32.
        env: the environment that it was trained in, taking actions in its own units.
        settings: its EnvSettings; None for an environment that was passed as an object, which has no clip.
        folder: where to write.
        page, video: whether to write the page, the clip.

    Returns:
        What was left out and why: a list of lines.
    """
    left_out = []

    def write_clip(path):
        require(settings, "the environment was passed as an object, which the process that draws cannot make")
        clip.record(artefact.load(file)[0], settings, False, path)

    def write_page(path):
        write_demo(path, file, env)

    for name, write in ((PAGE, write_page if page else None), (CLIP, write_clip if video else None)):
        path = Path(folder) / name
        path.unlink(missing_ok=True)  # else an earlier one would pass for this file's
        if write:
            try:
                write(path)
            except Exception as reason:  # the environment may be anyone's, and its files were sound
                left_out.append(f"no {name}: {' '.join(str(reason).split()) or type(reason).__name__}")
    return left_out
