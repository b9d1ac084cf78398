// Any MuJoCo task: the physics, stepped by the calls that the environment in Python makes.

// Parts of a state, by their names in MjData.
const STATE = ["qpos", "qvel", "act", "qacc_warmstart"];
const COUNTS = 2048; // of an encoder, a turn
const FUNCTIONS = {
  identity: (x) => x,
  cos: Math.cos,
  sin: Math.sin,
  log1p: Math.log1p,
  counts: (x) => rint((x * COUNTS) / (2 * Math.PI)),
  "counts from upright": (x) => mod(rint((x * COUNTS) / (2 * Math.PI)), COUNTS) - COUNTS / 2,
};

/** MuJoCo's WebAssembly, unpacked from this page. `log` takes the lines that MuJoCo writes. */
async function loadMujoco(log) {
  const source = await gunzip(fromBase64(block("mujoco-js")));
  const wasmBinary = await gunzip(fromBase64(block("mujoco-wasm")));
  const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const { default: load } = await import(address);
  URL.revokeObjectURL(address);
  return load({ wasmBinary, locateFile: (name) => name, print: log, printErr: log });
}

class MujocoWorld {
  /**
   * @param mj MuJoCo, from `loadMujoco`.
   * @param task the page's task.
   */
  constructor(mj, task) {
    this.mj = mj;
    this.task = task.mujoco;
    this.starts = task.starts;
    this.reward = task.reward;
    this.substeps = this.task.frame_skip;
    this.period = task.control_period;
    this._after = mj[this.task.after_steps].bind(mj);
    const files = new mj.MjVFS();
    for (const [name, content] of Object.entries(this.task.assets)) files.addBuffer(name, fromBase64(content));
    this.model = mj.MjModel.from_xml_string(this.task.xml, files);
    files.delete();
    if (!this.model) throw new PageError("MuJoCo cannot compile the model in this page");
    this.data = new mj.MjData(this.model);
    this._changed = {}; // of the model by this start: name -> [[index, the value as compiled]]
    this.start(0);
  }

  start(number) {
    const { mj, model, data } = this;
    const start = this.starts[number];
    this._deadZone = start.dead_zone;
    for (const [name, entries] of Object.entries(this._changed)) for (const [i, value] of entries) model[name][i] = value;
    this._changed = {};
    for (const [name, entries] of Object.entries(start.changes)) {
      this._changed[name] = entries.map(([i]) => [i, model[name][i]]);
      for (const [i, value] of entries) model[name][i] = value;
    }
    mj.mj_resetData(model, data);
    for (const name of ["qpos", "qvel", "act"]) data[name].set(start[name]);
    mj.mj_forward(model, data);
    data.qacc_warmstart.set(start.qacc_warmstart); // last: mj_forward writes it
  }

  /** Puts the physics into a state: arrays by name. */
  setState(state) {
    for (const name of STATE) this.data[name].set(state[name]);
  }

  observe() {
    const found = [];
    for (const term of this.task.observation) {
      const values = this.data[term.array];
      const subtracted = term.minus ? this.data[term.minus] : null;
      const apply = FUNCTIONS[term.function];
      for (let i = 0; i < term.count; i++) {
        let value = apply(values[term.at + i]);
        if (subtracted) value -= subtracted[term.minus_at + i];
        if (term.clip !== null) value = Math.min(Math.max(value, -term.clip), term.clip);
        found.push(value);
      }
    }
    return found;
  }

  /** One control period; returns the reward, or null where the page has no formula for it. */
  step(action) {
    this.begin(action);
    for (let i = 0; i < this.substeps; i++) this.substep();
    return this.finish();
  }

  begin(action) {
    this._action = action;
    this._x = this.data.qpos[0];
    this.data.ctrl.set(action.map((x) => (Math.abs(x) >= this._deadZone ? x : 0)));
  }

  substep() {
    this.mj.mj_step(this.model, this.data);
  }

  finish() {
    this._after(this.model, this.data);
    return this.reward ? REWARDS[this.reward.kind](this) : null;
  }

  /** How far it is from its goal, in the goal's units; null where the page knows none. */
  away() { return AWAY[this.reward?.kind]?.(this) ?? null; }
}

/** Sum of squares in float32, in which Gymnasium has the action. */
function effort(action) {
  return action.reduce((sum, a) => Math.fround(sum + Math.fround(a * a)), 0);
}

/** Metres from Reacher's fingertip to its target. */
function gap({ data, reward }) {
  const [fingertip, target] = reward.bodies.map((body) => data.xpos.slice(3 * body, 3 * body + 3));
  return Math.hypot(...fingertip.map((x, i) => x - target[i]));
}

/** The rotary pendulum's angle from upright, rad. */
const tilt = ({ data }) => mod(data.qpos[1], 2 * Math.PI) - Math.PI;

const AWAY = {
  reacher: (world) => 100 * gap(world),
  furuta: (world) => (180 / Math.PI) * Math.abs(tilt(world)),
};

// The environments' rewards, after a step. Each is compared with Python's when the page opens.
const REWARDS = {
  reacher(world) {
    const { reward, _action } = world;
    return -gap(world) * reward.distance_weight - effort(_action) * reward.control_weight;
  },
  furuta(world) {
    const { data, reward, _action } = world;
    const [angle, speed, arm, volts] = [tilt(world), data.qvel[1], data.qpos[0] / reward.stop, _action[0] / reward.volts];
    const upright = 0.25 * (1 + Math.cos(angle)) + 0.5 * Math.exp(-((angle / 0.3) ** 2) - (speed / 6) ** 2);
    return upright - (0.25 * arm ** 2 + 0.05 * volts ** 2);
  },
  half_cheetah({ data, reward, period, _action, _x }) {
    return (reward.forward_weight * (data.qpos[0] - _x)) / period - reward.control_weight * effort(_action);
  },
};
