// Holds this page to Python: the same starts, the same file, Gymnasium and LiteRT there, the page here.

// What a difference may be: of observations in whole episodes; of rewards and returns in parts of 1 + the largest one's
// size; of one step's state in parts of 1 + |x|. To its own answers the file says itself how close it must come.
const ALLOWED = { observation: 2e-5, reward: 2e-5, total: 1e-5, step: 1e-12 };
const BETWEEN_VERSIONS = 1e-3; // of a step, where the MuJoCo here is another version than Python's

/**
 * Runs all that can be compared.
 *
 * @returns {object} largest differences: answers (the file's golden vectors); with whole episodes: observation, action,
 *   reward (null without a formula), total (of an episode's return, null likewise), episodes, forced (whether each step
 *   began from Python's state, since rounding grows); with single steps: step, stepReward, steps. `agrees` says whether all are allowed, `near` whether
 *   all but one step's state are, and that is no more off than two versions of MuJoCo may be.
 */
function compare(world, policy, task) {
  const found = { answers: policy.selfTest() };
  if (task.episodes) Object.assign(found, compareEpisodes(world, policy, task));
  if (task.single_steps) Object.assign(found, compareSteps(world, task));
  world.start(0);
  const counts = { episodes: Infinity, forced: true, steps: Infinity, action: Infinity };
  const allowed = { ...ALLOWED, ...counts, answers: policy.facts.golden.tolerance, stepReward: ALLOWED.reward };
  const { largest } = found;
  delete found.largest;
  if (largest) {
    allowed.reward *= 1 + largest.reward;
    allowed.total *= 1 + largest.total;
  }
  const { versions } = task;
  const otherVersion = "MuJoCo here" in versions && versions["MuJoCo here"] !== versions.MuJoCo;
  // NaN is no agreement, so what is asked is whether a difference is within bounds.
  const within = (bounds) => Object.entries(found).every(([name, value]) => value === null || value <= bounds[name]);
  const [agrees, near] = [within(allowed), otherVersion && within({ ...allowed, step: BETWEEN_VERSIONS })];
  return { ...found, agrees, near };
}

/** Closed loop: policy, channel and world run here, from the same starts, with the same noise. */
function compareEpisodes(world, policy, task) {
  const [observations, actions, rewards] = ["observations", "actions", "rewards"].map((x) => unpack(task.episodes[x]));
  const states = Object.entries(task.episodes.states ?? {}).map(([name, packed]) => [name, unpack(packed)]);
  const normals = task.episodes.normals && unpack(task.episodes.normals).data;
  let drawn = 0;
  const channel = new Channel(task, policy);
  const { low, high } = policy.facts.action;
  const spans = Array(channel.actions).fill(Array.from(high, (x, i) => x - low[i] || 1)).flat();
  // Commands that are remembered differ as actions do: they count in parts of the action's span.
  const scaled = (shown) => Array.from(shown, (x, i) => x / (spans[i - (shown.length - spans.length)] ?? 1));
  const worst = { observation: 0, action: 0, reward: 0, total: 0 };
  const largest = { reward: 0, total: 0 };
  let row = 0;
  task.episodes.lengths.forEach((length, start) => {
    world.start(start);
    channel.start(start);
    let [total, expectedTotal] = [0, 0];
    for (let step = 0; step < length; step++, row++) {
      if (states.length) world.setState(Object.fromEntries(states.map(([name, rows]) => [name, rows.row(row)])));
      const observation = channel.sense(world.observe(), () => normals[drawn++]);
      const action = policy.run(observation);
      const reward = world.step(channel.act(action));
      worst.observation = Math.max(worst.observation, difference(scaled(observation), scaled(observations.row(row))));
      worst.action = Math.max(worst.action, difference(action, actions.row(row)));
      worst.reward = Math.max(worst.reward, Math.abs(reward - rewards.data[row]));
      total += reward;
      expectedTotal += rewards.data[row];
      largest.reward = Math.max(largest.reward, Math.abs(rewards.data[row]));
    }
    largest.total = Math.max(largest.total, Math.abs(expectedTotal));
    worst.total = Math.max(worst.total, Math.abs(total - expectedTotal));
  });
  if (!task.reward) worst.reward = worst.total = null;
  return { ...worst, largest, episodes: task.episodes.lengths.length, forced: states.length > 0 };
}

/** One step from each stored state: for tasks where rounding grows through contacts. */
function compareSteps(world, task) {
  const stored = Object.fromEntries(Object.entries(task.single_steps).map(([name, packed]) => [name, unpack(packed)]));
  const steps = stored.action.shape[0];
  let [step, stepReward] = [0, task.reward ? 0 : null];
  for (let row = 0; row < steps; row++) {
    world.start(stored.start.data[row]);
    world.setState(Object.fromEntries(STATE.map((name) => [name, stored[`${name}_before`].row(row)])));
    const reward = world.step(stored.action.row(row));
    for (const name of ["qpos", "qvel", "act"]) {
      step = Math.max(step, difference(world.data[name], stored[`${name}_after`].row(row), true));
    }
    step = Math.max(step, difference(world.observe(), stored.observation.row(row), true));
    if (task.reward) stepReward = Math.max(stepReward, Math.abs(reward - stored.reward.data[row]));
  }
  return { step, stepReward, steps };
}

/** The largest |a - b|, in parts of 1 + |b| if relative; NaN where either is no number. */
function difference(a, b, relative = false) {
  let worst = 0;
  for (let i = 0; i < b.length; i++) {
    const off = Math.abs(a[i] - b[i]) / (relative ? 1 + Math.abs(b[i]) : 1);
    if (!(off <= worst)) worst = off;
    if (Number.isNaN(off)) return NaN;
  }
  return worst;
}
