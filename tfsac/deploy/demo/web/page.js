// The page: what a person sees and does.

const $ = (id) => document.getElementById(id);
const SPEEDS = { "-3": 0.125, "-2": 0.25, "-1": 0.5, 0: 1, 1: 2, 2: 4 };
const OWED = 0.1; // seconds of real time that are made up for after a pause of the browser's, at most
const TEXT_EVERY = 100; // ms between two updates of numbers: faster, nobody reads them
const LONGEST = 1000; // steps of an episode, where the environment has no limit
const HISTORY = 12; // returns shown
const HOLD = 1; // seconds near its goal after which it counts as held, so that to lose it is a fall
const FAR = 90; // degrees: below the horizontal
const UPRIGHT = { words: "upright within 12°", near: 12, far: FAR, says: `A fall: upright for ${HOLD} s, then below the horizontal.` };
const GOALS = {
  pendulum: UPRIGHT,
  furuta: UPRIGHT,
  reacher: { words: "fingertip within 2 cm of the target", near: 2, far: Infinity, says: "Nothing here can fall." },
};

/** Shows an error for good, and stops. */
function fail(error) {
  document.body.dataset.state = "error";
  const text = error instanceof PageError ? error.message : `this page has a fault: ${error?.message ?? error}`;
  $("error").textContent = text;
  $("error").hidden = false;
  $("loading").hidden = true;
  console.error(error);
}
addEventListener("error", (event) => fail(event.error ?? event.message));
addEventListener("unhandledrejection", (event) => fail(event.reason));

/** A number in as many digits as a glance takes. */
function short(value, digits = 4) {
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  const decimals = size >= 1000 ? 0 : Math.max(0, digits - 1 - Math.max(0, Math.floor(Math.log10(size || 1))));
  return value.toFixed(Math.min(decimals, 3)).replace("-", "−");
}

/** The file's names, or the model's words where the file only counts: observation_0, observation_1 ... */
function named(names, word, labels) {
  return labels && names.every((name, i) => name === `${word}_${i}`) ? labels[word] : names;
}

/** Fills a <dl> from [term, description] pairs. */
function describe(list, pairs) {
  for (const [term, description] of pairs) {
    const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
    dt.textContent = term;
    dd.textContent = description;
    list.append(dt, dd);
  }
}

/** Live bars: one a number, with the range that it should lie in. */
class Bars {
  constructor(container, { names, units, low, high }, signed) {
    this.low = low;
    this.high = high;
    this.rows = names.map((name, i) => {
      const row = document.createElement("div");
      row.className = "bar";
      row.innerHTML = '<span class="label"></span><span class="track"><span class="band"></span><span class="fill"></span>'
        + '<span class="mark"></span></span><span class="value"></span>';
      const [label, track, value] = row.children;
      label.textContent = label.title = name;
      container.append(row);
      const margin = 0.15 * (high[i] - low[i]) || 1; // the track shows more than the range
      const [from, to] = [low[i] - margin, high[i] + margin];
      const share = (x) => 100 * Math.min(Math.max((x - from) / (to - from), 0), 1);
      const [band, fill, mark] = track.children;
      band.style.left = `${share(low[i])}%`;
      band.style.right = `${100 - share(high[i])}%`;
      return { row, fill, mark, value, share, unit: units[i], zero: signed && low[i] < 0 && high[i] > 0 ? share(0) : share(low[i]) };
    });
  }

  /** Moves the bars; returns the numbers of those outside. Texts are written only if asked. */
  show(values, withText) {
    const outside = [];
    this.rows.forEach(({ row, fill, mark, value, share, unit: name, zero }, i) => {
      const at = share(values[i]);
      fill.style.left = `${Math.min(at, zero)}%`;
      fill.style.width = `${Math.abs(at - zero)}%`;
      mark.style.left = `${at}%`;
      const isOutside = !(values[i] >= this.low[i] && values[i] <= this.high[i]);
      if (isOutside) outside.push(i);
      row.classList.toggle("outside", isOutside);
      if (withText) value.textContent = `${short(values[i], name === "counts" ? 1 : 4)}${name ? " " + name : ""}`;
    });
    return outside;
  }
}

/** How long an episode was near its goal, and how often the goal was lost after it had been held. */
class Held {
  /** @param period seconds of a step. */
  constructor({ near, far }, period) {
    Object.assign(this, { near, far, period, steps: 0, falls: 0, _steps: 0, _holds: false });
  }

  get seconds() { return this.steps * this.period; }

  /** @param away the distance from the goal after a step. */
  see(away) {
    const isNear = away <= this.near;
    this.steps += isNear;
    this._steps = isNear ? this._steps + 1 : 0;
    this._holds ||= this._steps * this.period >= HOLD - 1e-9;
    if (!this._holds || away <= this.far) return;
    this.falls++;
    this._holds = false;
  }
}

/** The policy in its world: one episode after the other, with what a person puts in between. */
class Run {
  constructor(world, policy, task) {
    Object.assign(this, { world, policy, task, delay: 0, noise: 0, startNumber: 0, returns: [] });
    this.channel = new Channel(task, policy);
    this.goal = GOALS[task.reward?.kind];
    this.limit = task.time_limit ?? LONGEST;
    this.restart();
  }

  restart() {
    this.world.start(this.startNumber);
    this.channel.start(this.startNumber);
    this.steps = this.total = this.substep = 0;
    this.held = this.goal && new Held(this.goal, this.task.control_period);
    this.disturbed = false;
    this._look();
  }

  get over() { return this.steps >= this.limit; }

  /** Observes, with the sensors' noise, and asks the policy. */
  _look() {
    const measured = this.world.observe().map((x, i) => x + (this.noise ? this.noise * this.task.spread[i] * gaussian() : 0));
    this.observation = this.channel.sense(measured);
    this.action = this.policy.run(this.observation);
    this.disturbed ||= this.delay > 0 || this.noise > 0;
  }

  /** One of the steps that a control period has; what is drawn lies between two of them. */
  advance(view) {
    if (this.substep === 0) {
      this.applied = this.channel.act(this.action, this.delay);
      this.world.begin(this.applied);
    }
    this.disturbed ||= view.holding;
    view.applyHand();
    this.world.substep();
    this.substep = (this.substep + 1) % this.world.substeps;
    if (this.substep) return;
    this.total += this.world.finish() ?? 0;
    this.steps++;
    this.held?.see(this.world.away());
    this._look();
    if (!this.observation.every(Number.isFinite)) throw new PageError("the simulation has become unstable: restart it");
    if (this.steps === this.limit) {
      this.returns.push({ total: this.task.reward ? this.total : null, disturbed: this.disturbed });
    }
  }
}

async function open() {
  const task = JSON.parse(block("task"));
  const bytes = fromBase64(block("policy"));
  const digest = await sha256(bytes);
  if (digest && digest !== task.sha256) throw new PageError("the .tflite file in this page is damaged: its SHA-256 is not the one that was written down");
  const policy = new Policy(bytes);
  const canvas = $("scene");
  let world, view;
  const lines = [];
  if (task.kind === "pendulum") {
    world = new PendulumWorld(task);
    view = new PendulumView(canvas, world);
  } else {
    const mj = await loadMujoco((line) => lines.push(line));
    world = new MujocoWorld(mj, task);
    view = new MujocoView(canvas, world);
    view.onLost = () => fail(new PageError("the graphics driver has given up: load the page again"));
    task.versions["MuJoCo here"] = mj.mj_versionString();
  }
  const agreement = compare(world, policy, task);
  for (const line of lines) console.info(`MuJoCo: ${line}`);
  const run = new Run(world, policy, task);
  const page = new Page(run, view, canvas, agreement, digest, bytes.length);
  globalThis.demo = { task, world, policy, view, run, page, agreement }; // for the curious, and for tests
  $("loading").hidden = true;
  document.body.dataset.state = "ready";
  page.start();
}

class Page {
  constructor(run, view, canvas, agreement, digest, size) {
    Object.assign(this, { run, view, canvas, playing: true, owed: 0, speed: 1, textAt: 0 });
    const { facts } = run.policy;
    $("name").textContent = facts.environment.id;
    this.names = named(facts.observation.names, "observation", run.task.labels);
    this.observations = new Bars($("observations"), { ...facts.observation, names: this.names }, false);
    const actions = named(facts.action.names, "action", run.task.labels);
    this.actions = new Bars($("actions"), { ...facts.action, names: actions }, true);
    this._showFacts(facts, digest, size);
    this._showAgreement(agreement);
    this._connect();
    this._pointers();
    new ResizeObserver(() => this._resize()).observe(canvas);
    this._resize();
  }

  start() {
    this.last = performance.now();
    const frame = (now) => {
      if (document.body.dataset.state !== "ready") return;
      try {
        this._frame(now);
      } catch (error) {
        return fail(error);
      }
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  _frame(now) {
    const { run, view } = this;
    const each = run.task.control_period / run.world.substeps;
    if (this.playing) {
      this.owed += Math.min((now - this.last) / 1000, OWED) * this.speed;
      while (this.owed >= each) {
        this.owed -= each;
        this._advance();
      }
    }
    this.last = now;
    if (!this.playing && !this.changed) return; // a still picture costs nothing
    this.changed = false;
    view.draw(this.playing ? this.owed / each : 1);
    const withText = now - this.textAt > TEXT_EVERY;
    if (withText) this.textAt = now;
    if (this.playing) this._show(withText);
  }

  _advance() {
    const { run, view } = this;
    if (run.over && !view.holding) { // an episode goes on while a hand holds something
      run.restart();
      view.restart();
    }
    run.advance(view);
    if (run.steps === run.limit) this._showHistory();
  }

  /** To the end of this control period: one step as Gymnasium has them. */
  step() {
    this.play(false);
    do this._advance(); while (this.run.substep);
    this._show(true);
  }

  play(playing) {
    this.playing = playing;
    this.owed = 0;
    this.changed = true;
    $("play").textContent = playing ? "❚❚ Pause" : "▶ Play";
  }

  restart(number = this.run.startNumber) {
    this.view.release();
    this.run.startNumber = number;
    this.run.restart();
    this.view.restart();
    $("start").value = number;
    this._show(true);
  }

  _show(withText) {
    this.changed = true;
    const { run } = this;
    const outside = this.observations.show(run.observation, withText);
    this.actions.show(run.applied ?? run.action, withText);
    if (!withText) return;
    const seconds = run.steps * run.task.control_period;
    $("clock").textContent = `step ${run.steps} of ${run.limit}, ${seconds.toFixed(2)} s`;
    if (run.task.reward) $("return-now").textContent = short(run.total, 5);
    if (run.goal) {
      const { seconds, falls, far } = run.held;
      const fell = Number.isFinite(far) ? `, fell ${falls} ${falls === 1 ? "time" : "times"}` : "";
      $("held").textContent = `${run.goal.words}: ${seconds.toFixed(2)} s${fell}`;
    }
    $("warning").hidden = !outside.length;
    const others = outside.length > 1 ? ` and ${outside.length - 1} more` : "";
    $("warning").textContent = outside.length ? `outside the training range: ${this.names[outside[0]]}${others}` : "";
  }

  _showHistory() {
    $("history").replaceChildren(...this.run.returns.filter((x) => x.total !== null).slice(-HISTORY).map(({ total, disturbed }) => {
      const chip = document.createElement("span");
      chip.textContent = short(total, 5);
      chip.className = disturbed ? "disturbed" : "";
      chip.title = disturbed ? "with delay, noise or a hand" : "undisturbed";
      return chip;
    }));
  }

  _showFacts(facts, digest, size) {
    const { task } = this.run;
    const mean = facts.return?.mean;
    $("return-file").textContent = task.reward
      ? `the file: ${short(mean, 5)} on average over ${facts.return.episodes} episodes`
      : `The reward is not computed in this page. The file: ${short(mean, 5)} on average over ${facts.return.episodes} episodes`;
    $("return-now").hidden = !task.reward;
    $("goal").textContent = this.run.goal?.says ?? "Falls are not counted in this page, and end no episode.";
    const rate = 1 / task.control_period;
    describe($("facts"), [
      ["environment", facts.environment.id],
      ["trained for", `${facts.training.steps.toLocaleString("en")} steps`],
      ["return", `${short(mean, 5)} ± ${short(facts.return.std, 3)}`],
      ["control rate", `${short(rate)} Hz`],
      ["policy", `${this.run.policy.inputs} → ${this.run.policy.outputs}, ${(size / 1000).toFixed(0)} kB`],
      ...this._channelWords(),
      ["tfsac", facts.tfsac],
      ...Object.entries(task.versions),
      ["SHA-256", task.sha256],
    ]);
    const hash = $("facts").lastElementChild;
    hash.className = "hash";
    hash.title = digest ? "computed by this page from the file inside it" : "as written down; this browser cannot compute it here";
    if (!digest) hash.textContent += " (not verified here)";
  }

  /** What stands between policy and machine, for `describe`. */
  _channelWords() {
    const { channel, starts } = this.run.task;
    const range = (values) => [...new Set([Math.min(...values), Math.max(...values)])].map((x) => Number(x.toFixed(3))).join(" to ");
    const delays = starts.map((start) => start.delay);
    return [
      ["commands arrive", Math.max(...delays) && `${range(delays)} control period${Math.max(...delays) > 1 ? "s" : ""} late`],
      ["sensor noise", channel.noise && `± ${range(channel.noise)}, one standard deviation`],
      ["sensors rounded to", channel.rounding && range(channel.rounding)],
      ["the policy remembers", channel.observations + channel.actions > 1 && `${channel.observations} observations, ${channel.actions} commands`],
      ["drawn for each start", channel.drawn.join(", ").replaceAll("_", " ")],
    ].filter(([, words]) => words);
  }

  _showAgreement(found) {
    const { task } = this.run;
    const small = (x) => x.toExponential(0).replace("-", "−");
    const pairs = [["the file’s golden vectors, in parts of the action’s span", small(found.answers)]];
    if (found.episodes) {
      const how = found.forced ? ", each step from Python’s state" : "";
      pairs.push([`observation, ${found.episodes} whole episodes${how}`, small(found.observation)], ["action", small(found.action)]);
      if (found.total !== null) pairs.push(["reward", small(found.reward)], ["return", small(found.total)]);
    }
    if (found.steps) {
      pairs.push([`state after one step, from ${found.steps} states, relative`, small(found.step)]);
      if (found.stepReward !== null) pairs.push(["its reward", small(found.stepReward)]);
    }
    const worst = found.episodes ? `observations within ${small(found.observation)}` : `one step within ${small(found.step)}`;
    const verdict = found.agrees ? "agrees" : found.near ? "near" : "differs";
    $("agreement").className = verdict;
    const says = {
      agrees: `agrees with Python: ${worst}`,
      near: `close to Python with another MuJoCo: ${worst}`,
      differs: `differs from Python: ${worst}`,
    };
    $("agreement").firstElementChild.textContent = says[verdict];
    describe($("agreement").lastElementChild, pairs);
    if (task.kind === "mujoco") {
      describe($("agreement").lastElementChild, [["MuJoCo", `${task.versions["MuJoCo here"]} here, ${task.versions.MuJoCo} in Python`]]);
    }
    $("hint").textContent = task.kind === "pendulum" ? "drag the rod" : "drag a body, or the view; wheel or pinch to zoom";
  }

  _connect() {
    const { run } = this;
    for (let i = 0; i < run.task.starts.length; i++) $("start").append(new Option(i + 1, i));
    $("play").onclick = () => this.play(!this.playing);
    $("step").onclick = () => this.step();
    $("restart").onclick = () => this.restart();
    $("start").onchange = () => this.restart(Number($("start").value));
    $("speed").oninput = () => {
      this.speed = SPEEDS[$("speed").value];
      $("speed-shown").textContent = `${this.speed} ×`;
    };
    $("delay").oninput = () => {
      run.delay = Number($("delay").value);
      const time = (1000 * run.delay * run.task.control_period).toFixed(0);
      $("delay-shown").textContent = run.delay ? `${run.delay} period${run.delay > 1 ? "s" : ""}, ${time} ms` : "none";
    };
    $("noise").oninput = () => {
      run.noise = Number($("noise").value) / 100;
      $("noise-shown").textContent = run.noise ? `${$("noise").value} %` : "none";
    };
    for (const id of ["speed", "delay", "noise"]) $(id).oninput();
    this.play(true);
    const nudge = (id, by) => {
      $(id).value = Number($(id).value) + by;
      $(id).oninput();
    };
    const keys = {
      " ": () => this.play(!this.playing),
      s: () => this.step(),
      r: () => this.restart(),
      n: () => this.restart((run.startNumber + 1) % run.task.starts.length),
      "+": () => nudge("speed", 1),
      "=": () => nudge("speed", 1),
      "-": () => nudge("speed", -1),
      d: () => nudge("delay", Number($("delay").value) === Number($("delay").max) ? -run.delay : 1),
    };
    addEventListener("keydown", (event) => {
      const action = keys[event.key.toLowerCase()];
      const typing = event.target.closest?.("select, summary") || (event.key === " " && event.target.closest?.("button"));
      if (!action || typing || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      action();
    });
  }

  /** Fingers and mice: one holds a body or turns the camera, two zoom. */
  _pointers() {
    const { canvas, view } = this;
    const at = new Map();
    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      return [(event.clientX - box.left) * devicePixelRatio, (event.clientY - box.top) * devicePixelRatio];
    };
    const guarded = (act) => (event) => {
      this.changed = true;
      try {
        act(event);
      } catch (error) {
        fail(error);
      }
    };
    canvas.addEventListener("pointerdown", guarded((event) => {
      canvas.setPointerCapture(event.pointerId);
      at.set(event.pointerId, place(event));
      if (at.size === 1) view.grab(...place(event));
      else if (view.holding) view.release();
      canvas.classList.toggle("holding", view.holding);
    }));
    canvas.addEventListener("pointermove", guarded((event) => {
      const before = at.get(event.pointerId);
      if (!before) return;
      const now = place(event);
      const other = [...at].find(([id]) => id !== event.pointerId)?.[1];
      if (other) view.zoom?.(Math.hypot(before[0] - other[0], before[1] - other[1]) / Math.hypot(now[0] - other[0], now[1] - other[1]));
      else if (view.holding) view.moveTo(...now); // a key may have restarted the episode, which lets go
      else view.orbit?.(now[0] - before[0], now[1] - before[1]);
      at.set(event.pointerId, now);
      canvas.classList.toggle("holding", view.holding);
    }));
    const up = guarded((event) => {
      if (!at.delete(event.pointerId)) return;
      if (view.holding) view.release();
      canvas.classList.remove("holding");
    });
    canvas.addEventListener("pointerup", up);
    canvas.addEventListener("pointercancel", up);
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      view.zoom?.(Math.exp(event.deltaY / 800));
      this.changed = true;
    }, { passive: false });
  }

  _resize() {
    const { canvas } = this;
    const scale = devicePixelRatio;
    canvas.width = Math.max(1, Math.round(canvas.clientWidth * scale));
    canvas.height = Math.max(1, Math.round(canvas.clientHeight * scale));
    this.changed = true;
  }
}

open().catch(fail);
