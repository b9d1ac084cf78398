// What tfsac has put between the policy and the machine, as channel.py describes it: delay, noise, rounding, memory.

/** x mod n, never negative, as Python has it. */
const mod = (x, n) => ((x % n) + n) % n;

/** The nearest whole number; of two, the even one, as numpy has it. */
function rint(x) {
  const up = Math.round(x);
  return up - x === 0.5 && up % 2 ? up - 1 : up;
}

/** A number drawn from N(0, 1). */
function gaussian() {
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}

class Channel {
  /**
   * @param task the page's task.
   * @param policy what is shown and acts.
   * Attributes: delay (control periods from a command to its effect, in this episode), middle (of the action's bounds).
   */
  constructor({ channel, starts }, { facts }) {
    Object.assign(this, channel);
    this._starts = starts;
    const { low, high } = facts.action;
    this.middle = Float32Array.from(low, (x, i) => (x + high[i]) / 2);
  }

  start(number) {
    this.delay = this._starts[number].delay;
    this._seen = []; // observations, the newest first, and so are
    this._sent = []; // commands
  }

  /** What the policy is shown of what the machine's sensors measure; `normal` gives numbers drawn from N(0, 1). */
  sense(measured, normal = gaussian) {
    const { fround } = Math; // Gymnasium's observations are float32, and so is all that is done to them
    let shown = measured;
    if (this.noise) shown = shown.map((x, i) => fround(fround(x) + fround(this.noise[i] * normal())));
    if (this.rounding) shown = shown.map((x, i) => (this.rounding[i] ? fround(rint(fround(fround(x) / this.rounding[i])) * this.rounding[i]) : x));
    const past = this._seen.length ? this._seen : Array(this.observations).fill(shown);
    this._seen = [shown, ...past].slice(0, this.observations);
    const commands = Array.from({ length: this.actions }, (_, i) => [...(this._sent[i] ?? this.middle)]);
    return [...this._seen, ...commands].flat();
  }

  /** What the machine gets now that `action` is commanded, `more` periods later than its own delay. */
  act(action, more = 0) {
    const delay = this.delay + more;
    this._sent = [action, ...this._sent].slice(0, Math.max(1 + delay, this.actions));
    return this._sent[delay] ?? this.middle;
  }
}
