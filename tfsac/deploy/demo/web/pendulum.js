// Pendulum-v1 of Gymnasium: its equations and its picture.

const wrapAngle = (angle) => mod(angle + Math.PI, 2 * Math.PI) - Math.PI;

/** The pendulum: theta is 0 upright and grows counter-clockwise; rad, rad/s, N m. */
class PendulumWorld {
  constructor(task) {
    this.constants = task.pendulum;
    this.substeps = 1; // of a control period
    this.starts = task.starts;
    this.pull = 0; // N m, of a person's hand
    this.start(0);
  }

  start(number) {
    [this.theta, this.speed] = this.starts[number].state;
    this.before = this.theta; // the angle one step ago: pictures between two steps need both
    this.torque = 0;
    this.pull = 0;
  }

  /** Puts the pendulum into a state. */
  setState({ state }) { [this.theta, this.speed] = state; }

  /** [cos theta, sin theta, speed]; Gymnasium hands out float32. */
  observe() {
    return [Math.fround(Math.cos(this.theta)), Math.fround(Math.sin(this.theta)), Math.fround(this.speed)];
  }

  /** One control period under a torque; returns Gymnasium's reward. */
  step(action) {
    this.begin(action);
    this.substep();
    return this.finish();
  }

  begin([action]) { this.action = action; }
  finish() { return this.reward; }

  /** Degrees from upright. */
  away() { return (180 / Math.PI) * Math.abs(wrapAngle(this.theta)); }

  substep() {
    const { action } = this;
    const { g, m, l, dt, max_speed: fastest, max_torque: strongest } = this.constants;
    // The action is float32 in Gymnasium, and so is what is computed of it alone.
    const torque = Math.fround(Math.min(Math.max(action, -strongest), strongest));
    const effort = Math.fround(0.001) * Math.fround(torque * torque);
    const cost = wrapAngle(this.theta) ** 2 + 0.1 * this.speed ** 2 + Math.fround(effort);
    const push = Math.fround(Math.fround(3 / (m * l ** 2)) * torque) + (3 / (m * l ** 2)) * this.pull;
    this.before = this.theta;
    this.speed += (((3 * g) / (2 * l)) * Math.sin(this.theta) + push) * dt;
    this.speed = Math.min(Math.max(this.speed, -fastest), fastest);
    this.theta += this.speed * dt;
    this.torque = torque;
    this.reward = -cost;
  }
}

/** Draws the pendulum on a canvas, and lets a person pull its end. */
class PendulumView {
  constructor(canvas, world) {
    this.canvas = canvas;
    this.world = world;
    this.context = canvas.getContext("2d");
    if (!this.context) throw new PageError("this browser cannot draw: it has no 2-D canvas");
    this.trail = [];
    this.hand = null;
  }

  _frame() {
    const { width, height } = this.canvas;
    return { x: width / 2, y: height / 2, rod: Math.min(width, height) * 0.36 };
  }

  /** The rod's end in pixels, `share` of the way from the last step but one to the last. */
  end(share = 1) {
    const { x, y, rod } = this._frame();
    const { theta, before } = this.world;
    const angle = before + share * (theta - before);
    return [x - rod * Math.sin(angle), y - rod * Math.cos(angle)];
  }

  get holding() { return this.hand !== null; }

  restart() {
    this.trail = [];
  }

  /** Draws the moment that lies `share` of a step behind the last but one. */
  draw(share) {
    const { context: c, canvas } = this;
    const { x, y, rod } = this._frame();
    const [endX, endY] = this.end(share);
    const unit = rod / 10;
    const colours = getComputedStyle(canvas);
    const colour = (name) => colours.getPropertyValue(name).trim();
    c.clearRect(0, 0, canvas.width, canvas.height);
    this._dial(c, x, y, rod, colour("--line"));

    this.trail.push([endX, endY]);
    if (this.trail.length > 40) this.trail.shift();
    c.lineCap = "butt"; // round ends would overlap, and show
    for (let i = 1; i < this.trail.length; i++) {
      c.globalAlpha = (0.35 * i) / this.trail.length;
      c.strokeStyle = colour("--accent");
      c.lineWidth = unit * 0.9 * (i / this.trail.length);
      c.beginPath();
      c.moveTo(...this.trail[i - 1]);
      c.lineTo(...this.trail[i]);
      c.stroke();
    }
    c.globalAlpha = 1;
    c.lineCap = "round";

    c.shadowColor = "rgba(0, 0, 0, 0.35)";
    c.shadowBlur = unit;
    c.shadowOffsetY = unit * 0.4;
    c.strokeStyle = colour("--rod");
    c.lineWidth = unit * 1.5;
    c.beginPath();
    c.moveTo(x, y);
    c.lineTo(endX, endY);
    c.stroke();
    c.shadowColor = "transparent";
    this._disc(c, endX, endY, unit * 1.35, colour("--accent"));
    this._disc(c, x, y, unit * 0.9, colour("--ink"));
    this._torque(c, x, y, unit, colour("--warn"));
    if (this.hand) {
      c.strokeStyle = colour("--ink");
      c.setLineDash([unit * 0.5, unit * 0.5]);
      c.lineWidth = unit * 0.2;
      c.beginPath();
      c.moveTo(endX, endY);
      c.lineTo(...this.hand);
      c.stroke();
      c.setLineDash([]);
    }
  }

  _dial(c, x, y, rod, colour) {
    c.strokeStyle = colour;
    c.lineWidth = 1.5 * devicePixelRatio;
    c.beginPath();
    c.arc(x, y, rod, 0, 2 * Math.PI);
    c.stroke();
    for (let tick = 0; tick < 24; tick++) {
      const angle = (tick * Math.PI) / 12;
      const inner = rod * (tick % 6 ? 1.04 : 1.02);
      const outer = rod * (tick % 6 ? 1.07 : 1.12);
      c.beginPath();
      c.moveTo(x + inner * Math.sin(angle), y - inner * Math.cos(angle));
      c.lineTo(x + outer * Math.sin(angle), y - outer * Math.cos(angle));
      c.stroke();
    }
  }

  _disc(c, x, y, radius, colour) {
    c.fillStyle = colour;
    c.beginPath();
    c.arc(x, y, radius, 0, 2 * Math.PI);
    c.fill();
  }

  /** An arc around the axle, as long as the torque is strong. */
  _torque(c, x, y, unit, colour) {
    const { torque, constants } = this.world;
    const share = torque / constants.max_torque;
    if (Math.abs(share) < 0.02) return;
    const radius = unit * 2.6;
    const from = -Math.PI / 2;
    const to = from - share * Math.PI * 0.75; // canvas angles grow clockwise
    c.strokeStyle = c.fillStyle = colour;
    c.lineWidth = unit * 0.45;
    c.beginPath();
    c.arc(x, y, radius, from, to, share > 0);
    c.stroke();
    const [tipX, tipY] = [x + radius * Math.cos(to), y + radius * Math.sin(to)];
    const ahead = to + (share > 0 ? -Math.PI / 2 : Math.PI / 2);
    c.beginPath();
    for (const [turn, size] of [[0, 1.1], [2.4, 0.8], [-2.4, 0.8]]) {
      c.lineTo(tipX + unit * size * Math.cos(ahead + turn), tipY + unit * size * Math.sin(ahead + turn));
    }
    c.fill();
  }

  /** A hand takes hold at (x, y); returns whether there is something to hold. */
  grab(x, y) {
    const { x: centreX, y: centreY, rod } = this._frame();
    if (Math.hypot(x - centreX, y - centreY) > rod * 1.4) return false;
    this.moveTo(x, y);
    return true;
  }

  moveTo(x, y) {
    this.hand = [x, y];
    const { x: centreX, y: centreY } = this._frame();
    this._target = Math.atan2(centreX - x, centreY - y);
  }

  release() {
    this.hand = null;
    this.world.pull = 0;
  }

  /** Before each step: the hand pulls as a spring with a damper does, up to five times the motor's strength. */
  applyHand() {
    if (!this.hand) return;
    const { theta, speed, constants } = this.world;
    const wanted = 12 * Math.sin(this._target - theta) - 2 * speed;
    const strongest = 5 * constants.max_torque;
    this.world.pull = Math.min(Math.max(wanted, -strongest), strongest);
  }
}
