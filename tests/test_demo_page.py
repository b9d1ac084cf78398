"""demo.html in a real browser: held to Gymnasium and LiteRT here, not to the numbers that the page carries."""

import hashlib
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny_tflite
from browser import Browser, actions_in_page, executable
from PIL import Image

from tfsac.data.envs import EnvSettings, make_env
from tfsac.data.imperfections.sensors import SensorNoise
from tfsac.deploy import artefact, facts
from tfsac.deploy.demo import mujoco_wasm, page
from tfsac.errors import UserError

if executable() is None:
    pytest.skip("no Chromium here: tests/install_browser.sh installs one", allow_module_level=True)

RELEASED = ("pendulum", "reacher", "furuta")
# All that a page can do between policy and machine; noise in the units of cos, sin and rad/s.
DISTURBED = EnvSettings(
    "Pendulum-v1", action_delay=(0, 3), observation_noise=(0.01, 0.01, 0.1), observation_bits=(8, (1.0, 1.0, 8.0)),
    observation_history=2,
)  # fmt: skip

STARTS = 10
OBSERVATIONS = np.random.default_rng(0).normal(0, 3, [20, 3])


@pytest.fixture(scope="module")
def browser():
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Writes pages, each once, a .tflite beside each: pages(name) -> path. Names are those of `environment`."""
    folder, written = tmp_path_factory.mktemp("pages"), {}

    def write(name):
        if name not in written:
            env, file = environment(name), folder / f"{name}.tflite"
            if name in RELEASED:
                shutil.copy(f"export/policies/{name}/policy.tflite", file)
            else:
                file.write_bytes(tiny_tflite.random_policy(name, env.observation_space.shape[0], env.action_space.high))
            if name not in ("pendulum", "disturbed"):
                try:
                    mujoco_wasm.read()
                except UserError as reason:
                    pytest.skip(str(reason))
            page.write_demo(folder / f"{name}.html", file, env)
            written[name] = folder / f"{name}.html"
        return written[name]

    return write


def environment(name):
    """The environment of a released policy, `DISTURBED`, or the one of that id."""
    if name in RELEASED:
        file = f"export/policies/{name}/policy.tflite"
        return facts.environment(artefact.load(file)[1], file).make(unit_actions=False)
    return (DISTURBED if name == "disturbed" else EnvSettings(name)).make(unit_actions=False)


def task_of(path):
    """What a page knows beside its policy."""
    return json.loads(re.search(r'id="task">([^<]*)', path.read_text(encoding="utf-8"))[1])


@pytest.fixture
def opened(browser, pages):
    """Opens a page unless it is open, at its first start and still: opened(name) -> the browser."""

    def load(name, width=700, height=520, touch=False):
        path = pages(name)
        if browser.opened != path:
            state = browser.open(path, width, height, touch)
            assert state == "ready", browser.js("$('error').textContent")
        browser.size(width, height, touch)
        browser.js("""(() => {
            for (const id of ["delay", "noise", "speed"]) { $(id).value = 0; $(id).oninput(); }
            demo.page.play(false);
            demo.run.returns.length = 0;
            demo.page.restart(0);
        })()""")
        return browser

    return load


def closed_loop(browser, start):
    """An episode in the page: policy and world run there -> observations [T, O], actions [T, A], rewards [T]."""
    text = browser.js(f"""(() => {{
        const {{ world, policy, run }} = demo, rows = [];
        world.start({start});
        for (let i = 0; i < run.limit; i++) {{
            const observation = world.observe(), action = policy.run(observation);
            rows.push([Array.from(observation), Array.from(action), world.step(action)]);
        }}
        return JSON.stringify(rows);
    }})()""")
    return tuple(map(np.array, zip(*json.loads(text), strict=True)))


def test_what_the_page_says_of_its_agreement_is_so(opened):
    browser = opened("pendulum")
    found = browser.js("demo.agreement")
    assert found["agrees"] and found["episodes"] == STARTS
    assert 0 < found["observation"] <= 2e-5 and 0 < found["total"] <= 1e-5
    shown = browser.js("$('agreement').innerText")
    assert shown.startswith("agrees with Python: observations within")


@pytest.mark.parametrize("place", ["world.constants.g", "task.starts[3].state[0]"])
def test_a_page_that_differs_says_so(place, opened):
    browser = opened("pendulum")
    agrees = f"""((earlier) => {{
        demo.{place} += 1e-3;
        const {{ agrees }} = compare(demo.world, demo.policy, demo.task);
        demo.{place} = earlier;
        return agrees;
    }})(demo.{place})"""
    assert browser.js(agrees) is False


def pixels(browser):
    """What is drawn on the canvas, [height, width, 3]."""
    box = browser.js("(({ x, y, right, bottom }) => [x, y, right, bottom])(demo.page.canvas.getBoundingClientRect())")
    return np.asarray(Image.open(io.BytesIO(browser.screenshot())).convert("RGB").crop([round(x) for x in box]))


def on_screen(browser, point):
    """CSS pixels of a point that a JavaScript expression gives in device pixels of the canvas."""
    x, y = browser.js(f"({point}).map((x) => x / devicePixelRatio)")
    left, top = browser.js("(({ x, y }) => [x, y])(demo.page.canvas.getBoundingClientRect())")
    return left + x, top + y


def test_a_pendulum_is_pulled(opened):
    browser = opened("pendulum")
    x, y = on_screen(browser, "demo.view._frame() && [demo.view._frame().x, demo.view._frame().y]")
    browser.mouse("Pressed", x + 60, y)
    browser.js("(() => { for (let i = 0; i < 60; i++) demo.page.step(); })()")
    # To the right of the axle: theta = -pi / 2, held there against a motor that wants it upright
    assert np.sin(browser.js("demo.world.theta")) < -0.8
    browser.mouse("Released", x + 60, y)
    assert browser.js("demo.world.pull") == 0
    assert browser.js("demo.run.disturbed")


def test_keys_and_buttons(opened):
    browser = opened("pendulum")
    state = "[demo.page.playing, demo.run.steps, demo.run.startNumber, demo.page.speed]"
    browser.key("s")
    browser.key("s")
    assert browser.js(state) == [False, 2, 0, 1]
    browser.js("$('step').click()")
    assert browser.js("demo.run.steps") == 3
    browser.key("n")
    assert browser.js(state) == [False, 0, 1, 1]
    assert browser.js("[demo.world.theta, demo.world.speed]") == browser.js("demo.task.starts[1].state")
    browser.key("s")
    browser.key("r")
    browser.key("+")
    assert browser.js(state) == [False, 0, 1, 2]
    browser.key(" ")
    frames = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    while browser.js("demo.run.steps") == 0:
        browser.js(frames)
    assert browser.js("demo.page.playing")
    browser.key(" ")
    steps = browser.js("demo.run.steps")
    browser.js(frames)
    assert browser.js(state)[:2] == [False, steps]


def test_the_delay_is_that_of_so_many_periods(opened):
    browser = opened("pendulum")
    applied = browser.js("""(() => {
        const slider = $("delay");
        slider.value = 2;
        slider.oninput();
        demo.page.restart(0);
        const asked = [], applied = [];
        for (let i = 0; i < 6; i++) {
            asked.push(demo.run.action[0]);
            demo.page.step();
            applied.push(demo.run.applied[0]);
        }
        return [asked, applied, demo.run.disturbed];
    })()""")
    assert applied[1] == [0, 0, *applied[0][:4]]  # at first the middle of the torque's range
    assert applied[2]
    browser.js("(() => { const d = $('delay'); d.value = 0; d.oninput(); demo.page.restart(0); })()")
    assert not browser.js("demo.run.disturbed")


def test_the_noise_is_as_large_as_it_says(opened):
    browser = opened("pendulum")
    shown, spread = browser.js("""(() => {
        const slider = $("noise");
        slider.value = 10;
        slider.oninput();
        demo.page.restart(0);
        const errors = Array.from({ length: 2000 }, () => {
            demo.run._look();
            const clean = demo.world.observe();
            return demo.run.observation.map((x, i) => x - clean[i]);
        });
        slider.value = 0;
        slider.oninput();
        return [errors, demo.task.spread];
    })()""")
    np.testing.assert_allclose(np.std(shown, axis=0), 0.1 * np.array(spread), rtol=0.15)  # 9 standard errors


def test_returns_are_listed_and_disturbed_ones_marked(opened):
    browser = opened("pendulum")
    browser.js("""(() => {
        for (let i = 0; i < 201; i++) demo.page.step();
    })()""")
    env = make_env("Pendulum-v1", unit_actions=False)
    act, _ = artefact.load("export/policies/pendulum/policy.tflite")
    observation, total, over = env.reset(seed=0)[0], 0.0, False
    while not over:
        observation, reward, _, over, _ = env.step(act(observation))
        total += reward
    chips = browser.js("Array.from(document.querySelectorAll('#history span'), (x) => [x.textContent, x.className])")
    assert [float(text.replace("−", "-")) for text, _ in chips] == [pytest.approx(total, abs=0.01)]
    assert chips[0][1] == ""
    assert browser.js("demo.run.steps") == 1  # the next episode has begun


@pytest.mark.parametrize(("name", "megabytes"), [("pendulum", 0.6), ("reacher", 4.5), ("furuta", 4.5)])
def test_the_file_is_as_small_as_promised(name, megabytes, pages):
    assert pages(name).stat().st_size <= megabytes * 1e6


@pytest.mark.parametrize(("width", "height"), [(360, 640), (820, 1100), (1600, 900)])
def test_nothing_sticks_out_and_all_has_a_name(width, height, opened):
    browser = opened("pendulum", width=width, height=height, touch=width < 500)
    assert browser.js("document.documentElement.scrollWidth") <= width
    box = browser.js("(({ width, height }) => [width, height])(demo.page.canvas.getBoundingClientRect())")
    assert min(box) >= 250
    unnamed = browser.js("""Array.from(document.querySelectorAll("button, input, select, canvas"))
        .filter((x) => !(x.textContent.trim() || x.ariaLabel || x.labels?.[0]?.textContent.trim())).map((x) => x.id)""")
    assert unnamed == []
    assert browser.js("Math.min(...Array.from(document.querySelectorAll('button'), (x) => x.offsetHeight))") >= 40


@pytest.mark.parametrize("kept", [4, 100, 5000, 250_000])
def test_a_file_that_is_cut_off_is_damaged(kept, opened):
    browser = opened("pendulum")
    message = browser.js(f"""(() => {{
        const bytes = fromBase64(block("policy")).slice(0, {kept});
        try {{
            return String(new Policy(bytes).run([1, 0, 0]));
        }} catch (error) {{
            return [error.constructor.name, error.message];
        }}
    }})()""")
    assert message[0] == "PageError" and "damaged" in message[1]


UNARY = ["LOGISTIC", "RELU", "RELU_N1_TO_1", "RELU6", "TANH", "ABS"]


BINARY = {
    "ADD": "AddOptions",
    "SUB": "SubOptions",
    "MUL": "MulOptions",
    "DIV": "DivOptions",
    "MAXIMUM": None,
    "MINIMUM": None,
}


@pytest.mark.parametrize("name", UNARY)
def test_an_operator_of_one_input_is_litert_s(name, opened):
    graph = tiny_tflite.Graph(3)
    file = graph.file(graph.operator(name, graph.input), tiny_tflite.facts("None-v0", 3, 3))
    np.testing.assert_allclose(
        actions_in_page(opened("pendulum"), file, OBSERVATIONS),
        tiny_tflite.litert(file, OBSERVATIONS),
        rtol=2e-6,
        atol=2e-7,
    )


@pytest.mark.parametrize("shape", [[3], [1], []])
@pytest.mark.parametrize("name", BINARY)
def test_an_operator_of_two_inputs_is_litert_s(name, shape, opened):
    graph = tiny_tflite.Graph(3)
    constant = graph.constant(np.resize([0.7, -1.3, 2.0], shape))
    file = graph.file(
        graph.operator(name, graph.input, constant, options=BINARY[name]), tiny_tflite.facts("None-v0", 3, 3)
    )
    np.testing.assert_array_equal(
        actions_in_page(opened("pendulum"), file, OBSERVATIONS).astype(np.float32),
        tiny_tflite.litert(file, OBSERVATIONS),
    )


@pytest.mark.parametrize("name", tiny_tflite.COMPARISONS)
def test_a_comparison_chooses_as_litert_s(name, opened):
    graph = tiny_tflite.Graph(3)
    chosen = graph.operator(name, graph.input, graph.constant([0.5, -1.0, 2.0]))
    output = graph.operator(
        "SELECT_V2", chosen, graph.input, graph.constant([9.0, 8.0, 7.0]), shape=[1, 3], floating=True
    )
    file = graph.file(output, tiny_tflite.facts("None-v0", 3, 3))
    observations = np.vstack([OBSERVATIONS, [[0.5, -1.0, 2.0], [np.nan, -1.0, 3.0]]])
    rows = tiny_tflite.litert(file, observations[:-1])
    np.testing.assert_array_equal(actions_in_page(opened("pendulum"), file, observations[:-1]).astype(np.float32), rows)


@pytest.mark.parametrize("activation", [0, 1, 2, 3])
def test_a_layer_with_its_activation_is_litert_s(activation, opened):
    rng, graph = np.random.default_rng(activation), tiny_tflite.Graph(3)
    x = graph.dense(graph.input, rng.normal(size=[3, 40]), rng.normal(size=40), activation)
    file = graph.file(graph.dense(x, rng.normal(size=[40, 2]), rng.normal(size=2)), tiny_tflite.facts("None-v0", 3, 2))
    np.testing.assert_allclose(
        actions_in_page(opened("pendulum"), file, OBSERVATIONS),
        tiny_tflite.litert(file, OBSERVATIONS),
        rtol=1e-5,
        atol=1e-5,
    )


def test_falls_are_counted_as_the_page_says(opened):
    """Within 12 degrees for a second, which is 50 steps, then below the horizontal."""
    browser = opened("pendulum")

    def held(*angles):
        return browser.js(f"""(() => {{
            const held = new Held(GOALS.furuta, 0.02);
            {list(angles)}.forEach((angle) => held.see(angle));
            return [held.seconds, held.falls];
        }})()""")

    assert held(*[12.0] * 49, 91.0) == [pytest.approx(0.98), 0]  # it swung through, slowly
    assert held(*[12.0] * 50, 90.0) == [pytest.approx(1.0), 0]
    assert held(*[12.0] * 50, 90.0, 91.0, 92.0) == [pytest.approx(1.0), 1]
    assert held(*[3.0] * 60, 91.0, *[3.0] * 30, 20.0, *[3.0] * 30, 91.0) == [pytest.approx(2.4), 1]
    assert held(*[3.0] * 60, 91.0, *[3.0] * 60, 91.0) == [pytest.approx(2.4), 2]


@pytest.mark.parametrize(("name", "observation_error"), [("pendulum", 2e-5), ("reacher", 1e-6)])
def test_whole_episodes_are_those_of_gymnasium_and_litert(name, observation_error, opened):
    browser, env = opened(name), environment(name)
    act, _ = artefact.load(f"export/policies/{name}/policy.tflite")
    for start in range(STARTS):
        observations, actions, rewards = closed_loop(browser, start)
        observation, _ = env.reset(seed=start)
        total = 0.0
        for t in range(len(rewards)):
            # float32's last bit of a velocity of 20 is 2e-6
            assert np.all(np.abs(observations[t] - observation) <= observation_error + np.spacing(np.abs(observation)))
            action = act(observation)
            assert np.max(np.abs(actions[t] - action)) <= 2e-4
            observation, reward, _, over, _ = env.step(action)
            total += reward
        assert over
        assert rewards.sum() == pytest.approx(total, abs=1e-5)


TARGET = "demo.view.pixel(Array.from(demo.world.data.xpos.slice(12, 15)))"


def test_the_reacher_is_drawn_where_it_is(opened):
    browser = opened("reacher")
    browser.js("demo.page.restart(0), demo.view.draw()")
    picture = pixels(browser)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 500
    x, y = browser.js(TARGET)
    red, green, blue = picture[round(y), round(x)].astype(int)
    assert red > 120 and red > 2 * green and red > 2 * blue  # the model's target is red


def test_a_target_that_is_dragged_lies_under_the_pointer_and_the_arm_follows(opened):
    browser = opened("reacher")
    x, y = on_screen(browser, TARGET)
    centre = on_screen(browser, "demo.view.pixel([0, 0, 0.01])")
    to = (centre[0] - 35, centre[1] + 28)
    browser.mouse("Pressed", x, y)
    browser.mouse("Moved", (x + to[0]) / 2, (y + to[1]) / 2)
    browser.mouse("Moved", *to)
    assert np.hypot(*np.subtract(on_screen(browser, TARGET), to)) < 1
    browser.js("(() => { for (let i = 0; i < 40; i++) demo.page.step(); })()")
    browser.mouse("Released", *to)
    fingertip, target = np.reshape(browser.js("Array.from(demo.world.data.xpos.slice(9, 15))"), [2, 3])
    assert np.linalg.norm(fingertip - target) < 0.03
    assert browser.js("demo.view.held") is None
    assert browser.js("demo.run.disturbed")


def test_an_episode_goes_on_while_a_hand_holds(opened):
    browser = opened("reacher")
    x, y = on_screen(browser, TARGET)
    browser.mouse("Pressed", x, y)
    browser.js("(() => { for (let i = 0; i < 60; i++) demo.page.step(); })()")  # an episode has 50
    browser.mouse("Moved", x + 10, y)
    assert browser.js("[demo.run.steps, demo.run.returns.length]") == [60, 1]
    browser.mouse("Released", x + 10, y)
    browser.js("demo.page.step()")
    assert browser.js("[demo.run.steps, document.body.dataset.state]") == [1, "ready"]


def test_a_key_that_restarts_lets_go_of_what_is_dragged(opened):
    browser = opened("reacher")
    x, y = on_screen(browser, TARGET)
    browser.mouse("Pressed", x, y)
    browser.mouse("Moved", x + 5, y)
    assert browser.js("demo.view.holding")
    browser.key("r")
    browser.mouse("Moved", x + 10, y)
    assert browser.js("[demo.view.holding, document.body.dataset.state]") == [False, "ready"]
    assert not browser.js("document.querySelector('canvas').classList.contains('holding')")
    browser.mouse("Released", x + 10, y)


def test_a_target_outside_the_training_range_is_warned_of(opened):
    browser = opened("reacher")
    browser.js(
        "(() => { demo.page.restart(0); demo.world.data.qpos[2] = 0.26; demo.run._look(); demo.page._show(true); })()"
    )
    assert "target_x" in browser.js("$('warning').innerText")
    assert browser.js("document.querySelectorAll('#observations .outside').length") >= 1
    browser.js("demo.page.restart(0)")
    assert browser.js("$('warning').hidden")


def test_dragging_the_background_turns_and_the_wheel_zooms(opened):
    browser = opened("reacher")
    azimuth, distance = browser.js("[demo.view.azimuth, demo.view.distance]")
    browser.mouse("Pressed", 20, 200)
    browser.mouse("Moved", 120, 200)
    browser.mouse("Released", 120, 200)
    browser.mouse("Wheel", 200, 200, deltaX=0, deltaY=400)
    assert browser.js("demo.view.azimuth") != azimuth and browser.js("demo.view.distance") > distance


def test_the_page_loads_nothing_and_says_nothing_to_the_console(opened):
    browser = opened("reacher")
    said = [message for message in browser.messages if message.get("entry", {}).get("source") != "rendering"]
    assert not said  # SwiftShader's driver complains of screenshots
    for forbidden in ("fetch('https://example.org')", "fetch('data:,x')", "import('data:text/javascript,')"):
        with pytest.raises(RuntimeError, match="Failed to fetch|Refused|violates"):
            browser.js(forbidden)


def noted_noise(env):
    """Notes the sensors' noise of an environment as it is drawn: rows of standard normal numbers."""
    while not isinstance(env, SensorNoise):
        env = env.env
    rows, disturb = [], env.shown

    def shown(observation):
        disturbed = disturb(observation)
        rows.append(((disturbed.astype(float) - observation) / env.deviation).tolist())
        return disturbed

    env.shown = shown
    return rows


def state_of(env):
    """The machine's state by the page's names."""
    bare = env.unwrapped
    if bare.spec.id == "Pendulum-v1":
        return {"state": [float(x) for x in bare.state]}
    return {name: getattr(bare._data, name).tolist() for name in ("qpos", "qvel", "act", "qacc_warmstart")}


@pytest.mark.parametrize(("name", "starts", "angle", "upright"), [("disturbed", 4, 0, 0.0), ("furuta", 3, 1, np.pi)])
def test_delay_noise_rounding_and_memory_are_python_s(name, starts, angle, upright, opened, pages):
    """In whole episodes whose steps begin in Python's states: where sensors round, small differences grow unseen."""
    browser, env = opened(name), environment(name)
    act, _ = artefact.load(pages(name).with_suffix(".tflite"))
    noise, sensors = noted_noise(env), 6  # numbers that sensors gave; the rest are commands
    for start in range(starts):
        noise.clear()
        observation, _ = env.reset(seed=start)
        before, expected, over = [], [], False
        while not over:
            shown, action = observation, act(observation)
            before.append(state_of(env))
            observation, reward, _, over, _ = env.step(action)
            expected.append((shown, action, reward, np.array(env.unwrapped.state)))
        found = browser.js(f"""((before, noise) => {{
            const {{ world, policy, task, run }} = demo, channel = new Channel(task, policy);
            const held = new Held(run.goal, task.control_period);
            world.start({start});
            channel.start({start});
            const rows = before.map((state, step) => {{
                world.setState(state);
                const normals = [...noise[step]];
                const observation = channel.sense(world.observe(), () => normals.shift());
                const action = policy.run(observation), reward = world.step(channel.act(action));
                held.see(world.away());
                const {{ theta, speed, data }} = world;
                return [observation, [...action], reward, data ? [...data.qpos, ...data.qvel] : [theta, speed]];
            }});
            return {{ rows, seconds: held.seconds, falls: held.falls }};
        }})({json.dumps(before)}, {json.dumps(noise)})""")
        for (shown, action, reward, after), row in zip(expected, found["rows"], strict=True):
            np.testing.assert_array_equal(np.float32(row[0][:sensors]), shown[:sensors])
            np.testing.assert_allclose(row[0][sensors:], shown[sensors:], rtol=0, atol=5e-4)
            np.testing.assert_allclose(row[1], action, rtol=0, atol=5e-4)
            assert row[2] == pytest.approx(reward, abs=1e-5)
            np.testing.assert_allclose(row[3], after, rtol=1e-4, atol=1e-4)
        total = sum(reward for _, _, reward, _ in expected)
        assert sum(row[2] for row in found["rows"]) == pytest.approx(total, abs=1e-5)
        tilts = [np.degrees(np.arccos(np.cos(after[angle] - upright))) for *_, after in expected]
        assert found["seconds"] == pytest.approx(sum(np.array(tilts) <= 12) * env.unwrapped.dt)


ROD = "demo.view.pixel(Array.from(demo.world.data.geom_xpos.slice(-3)))"


def test_the_rotary_pendulum_swings_up_and_its_rod_is_pulled(opened):
    browser = opened("furuta")
    # From a start that hangs; the noise is the page's own, of a generator that repeats.
    browser.js("""(() => {
        let state = 1;
        Math.random = () => (state = (48271 * state) % 2147483647) / 2147483647;
        demo.page.restart(demo.task.starts.findIndex((start) => Math.abs(start.qpos[1]) < 0.2));
        while (!demo.run.over) demo.page.step();
    })()""")
    assert browser.js("demo.world.away()") <= 12
    assert browser.js("demo.run.held.seconds") >= 1
    assert browser.js("$('held').textContent").startswith("upright within 12°: ")
    browser.js("demo.page.restart(), demo.run.policy = { run: () => Float32Array.of(0) }")  # so the hand alone moves it
    x, y = on_screen(browser, ROD)
    browser.mouse("Pressed", x, y)
    browser.mouse("Moved", x + 80, y)
    browser.js("(() => { for (let i = 0; i < 20; i++) demo.page.step(); })()")
    assert on_screen(browser, ROD)[0] > x + 20
    browser.mouse("Released", x + 80, y)
    browser.js("demo.run.policy = demo.policy")
    assert browser.js("demo.world.data.xfrc_applied.every((x) => x === 0)")


def test_one_step_from_states_in_contact_is_mujocos_in_python(opened):
    """From states that the page has not brought along: another seed, actions at random."""
    browser, env, rng = (
        opened("HalfCheetah-v5"),
        make_env("HalfCheetah-v5", unit_actions=False),
        np.random.default_rng(1),
    )
    env.reset(seed=1234)
    data, names = env.unwrapped.data, ("qpos", "qvel", "act", "qacc_warmstart")
    sent, expected, contacts = [], [], 0
    for _ in range(50):
        before = {name: np.array(getattr(data, name)).tolist() for name in names}
        action = rng.uniform(env.action_space.low, env.action_space.high).astype(np.float32)
        observation, reward, *_ = env.step(action)
        contacts += data.ncon > 0
        sent.append([before, action.tolist()])
        expected.append((np.concatenate([data.qpos, data.qvel]), observation, reward))
    found = browser.js(f"""{json.dumps(sent)}.map(([state, action]) => {{
        const {{ world }} = demo;
        world.setState(state);
        const reward = world.step(action);
        return [[...world.data.qpos, ...world.data.qvel], world.observe(), reward];
    }})""")
    assert contacts > 10
    for (state, observation, reward), (expected_state, expected_observation, expected_reward) in zip(
        found, expected, strict=True
    ):
        assert np.max(np.abs(state - expected_state) / (1 + np.abs(expected_state))) <= 1e-12
        np.testing.assert_array_equal(np.array(observation, np.float32), expected_observation)
        assert reward == pytest.approx(expected_reward, abs=1e-6)
    assert browser.js("demo.agreement.agrees && demo.agreement.step <= 1e-12")


def test_a_limb_is_pulled_and_let_go(opened):
    browser = opened("HalfCheetah-v5")
    torso = "demo.view.pixel(Array.from(demo.world.data.xpos.slice(3, 6)))"
    x, y = on_screen(browser, torso)
    height = browser.js("demo.world.data.qpos[1]")
    browser.mouse("Pressed", x, y)
    browser.mouse("Moved", x, y - 100)
    browser.js("(() => { for (let i = 0; i < 20; i++) demo.page.step(); })()")
    assert browser.js("demo.world.data.qpos[1]") > height + 0.1
    browser.mouse("Released", x, y - 100)
    assert browser.js("demo.world.data.xfrc_applied.every((x) => x === 0)")


def test_a_constant_action_has_a_span_of_one(opened):
    """Its answers and the memory of it are compared as Python does; before, all was divided by 0."""
    found = opened("disturbed").js("""(() => {
        const { action } = demo.policy.facts, { high } = action;
        action.high = action.low;
        const found = [demo.policy.selfTest(), compareEpisodes(demo.world, demo.policy, demo.task).observation];
        action.high = high;
        return found.map(Number.isFinite);
    })()""")
    assert found == [True, True]


# Each of these opens a page of its own, so they come last.


def test_the_reward_is_not_made_up_where_there_is_no_formula(browser, pages, tmp_path):
    file = Path("export/policies/pendulum/policy.tflite")
    task = task_of(pages("pendulum")) | {"reward": None}
    path = tmp_path / "page.html"
    path.write_text(page.render(file.read_bytes(), task), encoding="utf-8")
    assert browser.open(path) == "ready"
    assert browser.js("demo.agreement.total") is None
    browser.js("(() => { for (let i = 0; i < 201; i++) demo.page.step(); })()")
    assert "not computed" in browser.js("$('return-file').textContent")
    assert browser.js("$('return-now').hidden && !$('history').children.length && !$('held').textContent")
    assert "Falls are not counted" in browser.js("$('goal').textContent")


def damaged(path, page, pattern, change):
    """Writes a copy of a page in which one match of the pattern is what `change` makes of it."""
    text = page.read_text(encoding="utf-8")
    found, count = re.subn(pattern, change, text, count=1)
    assert count == 1 and found != text
    path.write_text(found, encoding="utf-8")
    return path


def test_a_damaged_file_is_an_error_on_the_page(pages, browser, tmp_path):
    flipped = damaged(
        tmp_path / "flipped.html", pages("pendulum"), r'(id="policy">.{1000})(.)', lambda m: m[1] + "AB"[m[2] == "A"]
    )
    assert browser.open(flipped) == "error"
    assert "SHA-256" in browser.js("document.getElementById('error').innerText")
    cut = damaged(tmp_path / "cut.html", pages("pendulum"), r'(id="policy">.{1000})[^<]*', lambda m: m[1] + "!")
    assert browser.open(cut) == "error"
    assert "no base64" in browser.js("document.getElementById('error').innerText")


def test_an_unknown_operator_is_an_error_on_the_page(browser, pages, tmp_path):
    graph = tiny_tflite.Graph(3)
    x = graph.operator("SIN", graph.dense(graph.input, np.ones([3, 1]), np.zeros(1)))
    about = tiny_tflite.facts("Pendulum-v1", 3, 1)
    task = task_of(pages("pendulum"))
    file = graph.file(x, about)
    task["sha256"] = hashlib.sha256(file).hexdigest()
    path = tmp_path / "page.html"
    path.write_text(page.render(file, task), encoding="utf-8")
    assert browser.open(path) == "error"
    assert "operator number 66" in browser.js("document.getElementById('error').innerText")
    assert not browser.js("$('error').hidden")
