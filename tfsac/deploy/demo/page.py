"""Writes demo.html: a policy live in its simulation, one file that opens by double click and loads nothing."""

import base64
import hashlib
import html
import json
from importlib.metadata import version
from pathlib import Path

import gymnasium

from tfsac.data.envs import time_limit
from tfsac.deploy import artefact
from tfsac.deploy.demo import mujoco_task, mujoco_wasm, pendulum_task
from tfsac.deploy.facts import control_period
from tfsac.errors import require

WEB = Path(__file__).parent / "web"
COMMON = ("bytes.js", "tflite.js", "channel.js", "agreement.js")
SCRIPTS = {
    "pendulum": (*COMMON, "pendulum.js", "page.js"),
    "mujoco": (*COMMON, "mujoco.js", "view3d.js", "page.js"),
}


def write_demo(path, file, env):
    """Writes the page of one exported policy.

    Args:
        path: the file to write.
        file: the .tflite file that goes into the page as it is, float32.
        env: the environment that it was trained in, taking actions in its own units.

    Raises:
        UserError: there can be no such page; the message is one line that says why. Nothing is written then.
    """
    task = describe(file, env)
    Path(path).write_text(render(Path(file).read_bytes(), task), encoding="utf-8")


def describe(file, env):
    """All that the page knows beside the policy's file: a dict that JSON can hold. UserError as in `write_demo`."""
    act, facts = artefact.load(file)
    kind = facts.get("kind", "float32")
    require(kind == "float32", f"the page reads float32 files, received {file} of kind {kind}: take policy.tflite")
    bare, period = env.unwrapped, control_period(env)
    if type(bare).__module__ == "gymnasium.envs.classic_control.pendulum":
        task = pendulum_task.describe(act, env)
        versions = {"Gymnasium": gymnasium.__version__}
    else:
        mujoco_wasm.read()  # without it there is no page, and the search is for nothing
        task = mujoco_task.describe(act, env, facts["observation"]["names"])
        versions = {"Gymnasium": gymnasium.__version__, "MuJoCo": version("mujoco")}
    require(period, f"{type(bare).__name__} does not say the seconds of a step: expected a number as its attribute dt")
    return {
        **task,
        "environment": facts["environment"]["id"] or type(bare).__name__,
        "control_period": period,
        "time_limit": time_limit(env),
        "versions": versions,
        "sha256": hashlib.sha256(Path(file).read_bytes()).hexdigest(),
    }


def render(file, task):
    """The page's text.

    Args:
        file: bytes of the .tflite file.
        task: from `describe`.
    """
    blocks = {"task": _escaped(task), "policy": base64.b64encode(file).decode()}
    notice = ""
    if task["kind"] == "mujoco":
        packed = mujoco_wasm.read().items()
        blocks |= {name.replace(".", "-"): base64.b64encode(content).decode() for name, content in packed}
        notice = (
            f"<p>The physics is MuJoCo {mujoco_wasm.VERSION} (npm {mujoco_wasm.PACKAGE}), unchanged, under the Apache "
            f"License 2.0.</p><pre>{html.escape(mujoco_wasm.licences())}</pre>"
        )
    script = "\n".join((WEB / name).read_text(encoding="utf-8") for name in SCRIPTS[task["kind"]])
    parts = {
        "title": f"{html.escape(task['environment'])}: a policy by tfsac",
        "csp": _policy_of_content(script, task["kind"]),
        "css": (WEB / "page.css").read_text(encoding="utf-8"),
        "notice": notice,
        "blocks": "\n".join(f'<script type="text/plain" id="{name}">{text}</script>' for name, text in blocks.items()),
        "script": script,
    }
    text = (WEB / "page.html").read_text(encoding="utf-8")
    for name, part in parts.items():
        text = text.replace("{{" + name + "}}", part, 1)
    return text


def _policy_of_content(script, kind):
    """What the page may do: run this one script, load nothing. MuJoCo's loader makes functions of text."""
    digest = base64.b64encode(hashlib.sha256(f"\n{script}\n".encode()).digest()).decode()
    extra = " 'unsafe-eval' blob:" if kind == "mujoco" else ""
    return f"default-src 'none'; script-src 'sha256-{digest}'{extra}; style-src 'unsafe-inline'; base-uri 'none'"


def _escaped(value):
    """JSON that cannot end the element it stands in."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c")
