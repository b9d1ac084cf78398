// Draws a MuJoCo model in WebGL 2 and lets a person take hold of it.

const PLANE = 0, SPHERE = 2, CAPSULE = 3, ELLIPSOID = 4, CYLINDER = 5, BOX = 6; // mjtGeom
const SLIDE = 2; // mjtJoint
const LIGHT = [0.35, -0.45, 0.82]; // towards the light, from the front and above
const VIEW_ANGLE = Math.PI / 4; // from the lower edge of the picture to the upper one
const STIFFNESS = 90; // 1/s^2, of the hand's spring for each kg that it feels
const REACH = 14; // CSS pixels beside a body within which a finger still takes hold of it

const VERTEX = `#version 300 es
precision highp float;
in vec3 point, normal;
uniform mat4 camera;
uniform mat3 turn;
uniform vec3 place, size, light;
uniform float stretch, ground;  // half the cylinder between a capsule's caps; the height that a shadow falls on
uniform bool shadow;
out vec3 world, facing;
void main() {
  vec3 local = point * size + vec3(0, 0, sign(point.z) * stretch);
  world = turn * local + place;
  facing = turn * (normal / size);
  if (shadow) world -= light * ((world.z - ground) / light.z);
  gl_Position = camera * vec4(world, 1);
}`;

const FRAGMENT = `#version 300 es
precision highp float;
in vec3 world, facing;
uniform vec3 light, eye, fog, centre;
uniform vec4 colour;
uniform float cell, far;  // cell of the floor's checks, 0 for no floor; where it has faded
uniform bool shadow;
out vec4 painted;
void main() {
  float distance = length(world.xy - centre.xy);
  float faded = smoothstep(0.35 * far, far, distance);
  if (shadow) { painted = vec4(0, 0, 0, colour.a * (1.0 - faded)); return; }
  vec3 normal = normalize(facing), view = normalize(eye - world);
  if (dot(normal, view) < 0.0) normal = -normal;
  vec3 base = colour.rgb;
  if (cell > 0.0) {
    vec2 at = world.xy / cell, blur = fwidth(at) + 1e-6;
    vec2 wave = clamp((abs(fract(at * 0.5) - 0.5) - 0.25) / blur * 2.0, -0.5, 0.5);
    base *= 1.0 + 0.05 * (4.0 * wave.x * wave.y) * (1.0 - smoothstep(0.2, 0.7, max(blur.x, blur.y)));
  }
  float lit = 0.55 * max(dot(normal, light), 0.0);
  float sky = 0.45 + 0.12 * normal.z;
  float gloss = cell > 0.0 ? 0.0 : 0.22 * pow(max(dot(normal, normalize(light + view)), 0.0), 40.0);
  vec3 shade = base * (lit + sky) + gloss;
  painted = cell > 0.0 ? vec4(mix(shade, fog, faded), 1) : vec4(shade, colour.a);
}`;

/** A ball, from pole to pole in two halves that part at the equator: stretched, it is a capsule. */
function ballMesh(rings = 24, segments = 32) {
  const points = [], faces = [];
  for (let ring = 0; ring <= rings + 1; ring++) {
    const upper = ring <= rings / 2;
    const latitude = Math.PI * (0.5 - (upper ? ring : ring - 1) / rings);
    const height = Math.abs(latitude) < 1e-9 ? (upper ? 1e-6 : -1e-6) : Math.sin(latitude);
    for (let i = 0; i <= segments; i++) {
      const angle = (2 * Math.PI * i) / segments;
      const p = [Math.cos(latitude) * Math.cos(angle), Math.cos(latitude) * Math.sin(angle), height];
      points.push([...p, ...p]);
    }
  }
  for (let ring = 0; ring <= rings; ring++) {
    for (let i = 0; i < segments; i++) {
      const [a, b] = [ring * (segments + 1) + i, (ring + 1) * (segments + 1) + i];
      faces.push(a, b, a + 1, a + 1, b, b + 1);
    }
  }
  return { points, faces };
}

function cylinderMesh(segments = 40) {
  const points = [], faces = [];
  for (let i = 0; i <= segments; i++) {
    const [x, y] = [Math.cos((2 * Math.PI * i) / segments), Math.sin((2 * Math.PI * i) / segments)];
    points.push([x, y, 1, x, y, 0], [x, y, -1, x, y, 0], [x, y, 1, 0, 0, 1], [x, y, -1, 0, 0, -1]);
  }
  const [top, bottom] = [points.push([0, 0, 1, 0, 0, 1]) - 1, points.push([0, 0, -1, 0, 0, -1]) - 1];
  for (let i = 0; i < 4 * segments; i += 4) {
    faces.push(i, i + 1, i + 4, i + 4, i + 1, i + 5, i + 2, i + 6, top, i + 3, i + 7, bottom);
  }
  return { points, faces };
}

function boxMesh() {
  const points = [], faces = [];
  for (let axis = 0; axis < 3; axis++) {
    for (const side of [1, -1]) {
      const first = points.length;
      for (const [u, v] of [[-1, -1], [1, -1], [1, 1], [-1, 1]]) {
        const p = [0, 0, 0], n = [0, 0, 0];
        p[axis] = n[axis] = side;
        p[(axis + 1) % 3] = u;
        p[(axis + 2) % 3] = v;
        points.push([...p, ...n]);
      }
      faces.push(first, first + 1, first + 2, first, first + 2, first + 3);
    }
  }
  return { points, faces };
}

function planeMesh() {
  return { points: [[-1, -1], [1, -1], [1, 1], [-1, 1]].map((p) => [...p, 0, 0, 0, 1]), faces: [0, 1, 2, 0, 2, 3] };
}

const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const sub = (a, b) => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
const along = (a, b, share) => [a[0] + share * b[0], a[1] + share * b[1], a[2] + share * b[2]];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const unit = (a) => a.map((x) => x / Math.hypot(...a));
/** Rows of a 3x3 matrix times a vector, and its transpose times one. */
const turned = (m, v) => [0, 1, 2].map((i) => m[3 * i] * v[0] + m[3 * i + 1] * v[1] + m[3 * i + 2] * v[2]);
const turnedBack = (m, v) => [0, 1, 2].map((i) => m[i] * v[0] + m[3 + i] * v[1] + m[6 + i] * v[2]);

class MujocoView {
  constructor(canvas, world) {
    this.canvas = canvas;
    this.world = world;
    const camera = world.task.camera;
    this.lookat = [...camera.lookat];
    this.distance = camera.distance;
    this.azimuth = (camera.azimuth * Math.PI) / 180;
    this.elevation = (camera.elevation * Math.PI) / 180;
    this.follow = camera.follow;
    this.held = null;
    this._readModel();
    this._prepare();
    this.restart();
  }

  /** What of the model does not change, as JavaScript's own arrays: views on MuJoCo's memory do not last. */
  _readModel() {
    const m = this.world.model;
    const colours = Array.from(m.geom_rgba), materials = Array.from(m.mat_rgba);
    const types = Array.from(m.geom_type), sizes = Array.from(m.geom_size), groups = Array.from(m.geom_group);
    const bodies = Array.from(m.geom_bodyid), material = Array.from(m.geom_matid);
    this.geoms = types.map((type, i) => {
      const own = colours.slice(4 * i, 4 * i + 4);
      const plain = own.every((x, k) => Math.abs(x - [0.5, 0.5, 0.5, 1][k]) < 1e-6);
      const colour = material[i] >= 0 && plain ? materials.slice(4 * material[i], 4 * material[i] + 4) : own;
      return { i, type, size: sizes.slice(3 * i, 3 * i + 3), body: bodies[i], colour, hidden: groups[i] > 2 || !colour[3] };
    }).filter((geom) => !geom.hidden);
    this.floor = this.geoms.find((geom) => geom.type === PLANE && geom.body === 0);
    // A start may move geoms of the world: targets, which a person may move too.
    const moved = new Set(this.world.starts.flatMap((s) => (s.changes.geom_pos ?? []).map(([i]) => Math.floor(i / 3))));
    for (const geom of this.geoms) geom.target = geom.body === 0 && moved.has(geom.i);
    const motors = new Set(Array.from(m.actuator_trnid).filter((_, i) => i % 2 === 0));
    const joints = Array.from(m.jnt_type, (type, i) => ({ type, body: m.jnt_bodyid[i], motor: motors.has(i), i }));
    // Bodies on slides without a motor are placed; they lie there until someone moves them.
    this.placed = new Set(joints.map((j) => j.body).filter((body) => {
      const own = joints.filter((j) => j.body === body);
      return body !== this.follow && own.every((j) => j.type === SLIDE && !j.motor);
    }));
    this._slides = joints.filter((j) => this.placed.has(j.body)).map(({ i, body }) => ({
      body,
      axis: Array.from(m.jnt_axis.slice(3 * i, 3 * i + 3)),
      at: m.jnt_qposadr[i],
      velocityAt: m.jnt_dofadr[i],
      range: Array.from(m.jnt_range.slice(2 * i, 2 * i + 2)),
    }));
  }

  _prepare() {
    const gl = (this.gl = this.canvas.getContext("webgl2", { antialias: true, stencil: true, alpha: false }));
    if (!gl) throw new PageError("this browser has no WebGL 2, which the picture needs");
    const program = (this.program = gl.createProgram());
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.bindAttribLocation(program, 0, "point");
    gl.bindAttribLocation(program, 1, "normal");
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) {
      throw new PageError(`the graphics driver refuses the picture's program: ${gl.getProgramInfoLog(program)}`);
    }
    gl.useProgram(program);
    this._uniforms = {};
    for (let i = 0; i < gl.getProgramParameter(program, gl.ACTIVE_UNIFORMS); i++) {
      const { name } = gl.getActiveUniform(program, i);
      this._uniforms[name] = gl.getUniformLocation(program, name);
    }
    const ball = this._upload(ballMesh());
    const [cylinder, box, plane] = [cylinderMesh(), boxMesh(), planeMesh()].map((mesh) => this._upload(mesh));
    this._meshes = { [PLANE]: plane, [SPHERE]: ball, [CAPSULE]: ball, [ELLIPSOID]: ball, [CYLINDER]: cylinder, [BOX]: box };
    this.canvas.addEventListener("webglcontextlost", () => this.onLost?.());
  }

  _upload({ points, faces }) {
    const { gl } = this;
    const vertices = gl.createVertexArray();
    gl.bindVertexArray(vertices);
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array(points.flat()), gl.STATIC_DRAW);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, new Uint16Array(faces), gl.STATIC_DRAW);
    for (const attribute of [0, 1]) {
      gl.enableVertexAttribArray(attribute);
      gl.vertexAttribPointer(attribute, 3, gl.FLOAT, false, 24, 12 * attribute);
    }
    return { vertices, count: faces.length };
  }

  get holding() { return this.held !== null; }

  restart() {
    if (this.follow >= 0) this._centre = this._followed();
    this.held = null;
  }

  _followed() {
    return Array.from(this.world.data.xpos.slice(3 * this.follow, 3 * this.follow + 3));
  }

  /** Where the eye is, and its directions: forward, right, up; `tall` is half a pixel row's angle over the height. */
  eye() {
    const [ca, sa, ce, se] = [Math.cos(this.azimuth), Math.sin(this.azimuth), Math.cos(this.elevation), Math.sin(this.elevation)];
    const forward = [ce * ca, ce * sa, se];
    const right = [sa, -ca, 0];
    const aspect = this.canvas.width / this.canvas.height;
    const away = this.distance / Math.min(1, aspect); // a narrow picture shows as much in width
    const lookat = this._centre ? [this._centre[0], this._centre[1], this.lookat[2]] : this.lookat;
    const tall = Math.tan(VIEW_ANGLE / 2);
    return { place: along(lookat, forward, -away), forward, right, up: cross(right, forward), aspect, tall, lookat, away };
  }

  /** The ray through a pixel: unit vector. */
  ray(x, y) {
    const { forward, right, up, aspect, tall } = this.eye();
    const across = (2 * x / this.canvas.width - 1) * tall * aspect;
    return unit(along(along(forward, right, across), up, (1 - 2 * y / this.canvas.height) * tall));
  }

  /** The pixel of a point. */
  pixel(point) {
    const { place, forward, right, up, aspect, tall } = this.eye();
    const away = sub(point, place);
    const depth = dot(away, forward);
    const { width, height } = this.canvas;
    return [width * 0.5 * (1 + dot(away, right) / (depth * tall * aspect)), height * 0.5 * (1 - dot(away, up) / (depth * tall))];
  }

  draw() {
    const { gl, canvas, world } = this;
    if (this.follow >= 0) {
      const followed = this._followed();
      this._centre = this._centre.map((x, k) => x + 0.1 * (followed[k] - x));
    }
    const eye = this.eye();
    const style = getComputedStyle(canvas);
    const paint = (name) => hexColour(style.getPropertyValue(name).trim());
    const sky = paint("--scene");
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(...sky, 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT | gl.STENCIL_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    const set = this._uniforms;
    const light = unit(LIGHT);
    const far = 2.5 * eye.away;
    gl.uniformMatrix4fv(set.camera, false, projection(eye, far));
    gl.uniform3fv(set.light, light);
    gl.uniform3fv(set.eye, eye.place);
    gl.uniform3fv(set.fog, sky);
    gl.uniform3fv(set.centre, eye.lookat);
    gl.uniform1f(set.far, far);
    const places = world.data.geom_xpos, turns = world.data.geom_xmat;
    const one = (geom, colour, isFloor, asShadow) => {
      const { i, type } = geom;
      const [a, b, c] = geom.size;
      const size = isFloor ? [far * 1.5, far * 1.5, 1] : { [PLANE]: [a || far, b || far, 1], [SPHERE]: [a, a, a], [CAPSULE]: [a, a, a], [CYLINDER]: [a, a, b] }[type] ?? [a, b, c];
      const place = places.slice(3 * i, 3 * i + 3);
      gl.uniform3fv(set.place, isFloor ? [eye.lookat[0], eye.lookat[1], place[2]] : place);
      gl.uniformMatrix3fv(set.turn, true, new Float32Array(turns.slice(9 * i, 9 * i + 9)));
      gl.uniform3fv(set.size, size);
      gl.uniform1f(set.stretch, type === CAPSULE ? b : 0);
      gl.uniform1f(set.cell, isFloor ? this._cell() : 0);
      gl.uniform1i(set.shadow, asShadow);
      gl.uniform4fv(set.colour, colour);
      const mesh = this._meshes[type];
      gl.bindVertexArray(mesh.vertices);
      gl.drawElements(gl.TRIANGLES, mesh.count, gl.UNSIGNED_SHORT, 0);
    };
    if (this.floor) {
      const ground = places[3 * this.floor.i + 2];
      one(this.floor, [...paint("--floor"), 1], true, false);
      gl.enable(gl.BLEND);
      gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
      gl.enable(gl.STENCIL_TEST); // each pixel of the floor is darkened once
      gl.stencilFunc(gl.EQUAL, 0, 255);
      gl.stencilOp(gl.KEEP, gl.KEEP, gl.INCR);
      gl.enable(gl.POLYGON_OFFSET_FILL);
      gl.polygonOffset(-1, -1);
      gl.uniform1f(set.ground, ground);
      for (const geom of this.geoms) if (geom.type !== PLANE) one(geom, [0, 0, 0, 0.28 * geom.colour[3]], false, true);
      gl.disable(gl.POLYGON_OFFSET_FILL);
      gl.disable(gl.STENCIL_TEST);
      gl.disable(gl.BLEND);
    }
    const solid = this.geoms.filter((geom) => geom !== this.floor && geom.colour[3] === 1);
    const clear = this.geoms.filter((geom) => geom !== this.floor && geom.colour[3] < 1);
    for (const geom of solid) one(geom, this._shown(geom), false, false);
    gl.enable(gl.BLEND);
    for (const geom of clear) one(geom, this._shown(geom), false, false);
    gl.disable(gl.BLEND);
  }

  /** A geom's colour; what a person holds is brighter. */
  _shown({ colour, body, target }) {
    const holding = this.held && (body ? this.held.body === body : target);
    return holding ? colour.map((x, k) => (k < 3 ? 0.6 * x + 0.4 : x)) : colour;
  }

  /** Edge of the floor's checks: 1, 2 or 5 times a power of ten, some ten across the picture. */
  _cell() {
    const rough = this.distance / 14;
    const power = 10 ** Math.floor(Math.log10(rough));
    return power * [1, 2, 5, 10].find((x) => x * power >= rough);
  }

  /** What a ray meets: the nearest geom that it hits, else the one it passes closest by within REACH. */
  _meet(x, y) {
    const { place, forward, tall } = this.eye();
    const ray = this.ray(x, y);
    const d = this.world.data;
    let best = null;
    for (const geom of this.geoms) {
      if (geom.body === 0 && !geom.target) continue;
      const { i, type, size } = geom;
      const centre = Array.from(d.geom_xpos.slice(3 * i, 3 * i + 3));
      const turn = Array.from(d.geom_xmat.slice(9 * i, 9 * i + 9));
      const long = type === CAPSULE || type === CYLINDER;
      const radius = long || type === SPHERE ? size[0] : Math.min(...size.filter((s) => s > 0));
      const reach = long ? size[1] : type === SPHERE ? 0 : Math.max(...size) - radius;
      const axis = long ? 2 : size.indexOf(Math.max(...size));
      for (let share = -1; share <= 1; share += 0.125) {
        const point = along(centre, turned(turn, [0, 1, 2].map((k) => (k === axis ? 1 : 0))), share * reach);
        const away = sub(point, place);
        const depth = dot(away, ray);
        const miss = Math.hypot(...sub(away, ray.map((r) => r * depth))) - radius;
        const pixel = (2 * tall * dot(away, forward)) / this.canvas.height;
        const missed = Math.max(0, miss) / (pixel * devicePixelRatio);
        // A place near the eye wins among hits; among near misses, the closest.
        const rank = missed > 0 ? 1e6 + missed : depth;
        if (depth > 0 && missed < REACH && (!best || rank < best.rank)) best = { geom, point, rank };
      }
    }
    return best;
  }

  /** A hand takes hold at pixel (x, y); returns whether there is something to hold. */
  grab(x, y) {
    const met = this._meet(x, y);
    if (!met) return false;
    const { body, i, target } = met.geom;
    const d = this.world.data;
    const origin = Array.from(target ? d.geom_xpos.slice(3 * i, 3 * i + 3) : d.xpos.slice(3 * body, 3 * body + 3));
    const turn = Array.from(d.xmat.slice(9 * body, 9 * body + 9));
    const slides = this._slides.filter((slide) => slide.body === body);
    const how = target ? "target" : slides.length && this.placed.has(body) ? "placed" : "pulled";
    const normal = { target: [0, 0, 1], placed: slides.length > 1 ? cross(slides[0].axis, slides[1].axis) : this.eye().forward, pulled: this.eye().forward }[how];
    const through = how === "pulled" ? met.point : origin;
    this.held = { how, body, geom: i, slides, normal, through, local: turnedBack(turn, sub(met.point, origin)), hand: met.point, before: met.point };
    if (how !== "pulled") this.moveTo(x, y);
    return true;
  }

  moveTo(x, y) {
    const { held, world } = this;
    const { place } = this.eye();
    const ray = this.ray(x, y);
    const slope = dot(ray, held.normal);
    if (Math.abs(slope) < 1e-6) return;
    held.hand = along(place, ray, dot(sub(held.through, place), held.normal) / slope);
    const { data: d, model: m, mj } = world;
    if (held.how === "target") {
      m.geom_pos.set(held.hand.slice(0, 2), 3 * held.geom);
    } else if (held.how === "placed") {
      const body = Array.from(d.xpos.slice(3 * held.body, 3 * held.body + 3));
      for (const { axis, at, velocityAt, range } of held.slides) {
        const [low, high] = range[0] < range[1] ? range : [-Infinity, Infinity];
        d.qpos[at] = Math.min(Math.max(d.qpos[at] + dot(sub(held.hand, body), axis), low), high);
        d.qvel[velocityAt] = 0;
      }
    }
    if (held.how !== "pulled") mj.mj_kinematics(m, d);
  }

  release() {
    if (this.held?.how === "pulled") this.world.data.xfrc_applied.fill(0);
    this.held = null;
  }

  /** Before each step: the hand pulls the body as a spring with a damper does. */
  applyHand() {
    if (this.held?.how !== "pulled") return;
    const { held, world } = this;
    const { data: d, model: m } = world;
    const at = 3 * held.body;
    const turn = d.xmat.slice(9 * held.body, 9 * held.body + 9);
    const point = along(turned(turn, held.local), d.xpos.slice(at, at + 3), 1);
    const velocity = sub(point, held.before).map((x) => x / (world.period / world.substeps));
    const mass = 1 / Math.max(m.body_invweight0[2 * held.body], 1e-6);
    const force = sub(held.hand, point).map((x, k) => mass * (STIFFNESS * x - 2 * Math.sqrt(STIFFNESS) * velocity[k]));
    const lever = sub(point, d.xipos.slice(at, at + 3));
    d.xfrc_applied.set([...force, ...cross(lever, force)], 6 * held.body);
    held.before = point;
  }

  /** Turns the camera by pixels, and moves it nearer or away. */
  orbit(dx, dy) {
    this.azimuth -= (3 * dx) / this.canvas.height;
    this.elevation = Math.min(Math.max(this.elevation - (3 * dy) / this.canvas.height, -1.55), 0.3);
  }

  zoom(factor) {
    const { distance } = this.world.task.camera;
    this.distance = Math.min(Math.max(this.distance * factor, distance / 5), distance * 5);
  }
}

/** "#rrggbb" -> [r, g, b] in 0..1. */
function hexColour(text) {
  return [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16) / 255);
}

/** The camera's matrix, column by column as WebGL wants it. */
function projection({ place, forward, right, up, aspect, tall, away }, far) {
  const [near, end] = [away / 100, away + 3 * far];
  const [x, y, z] = [right, up, forward].map((axis) => -dot(axis, place));
  const scaleX = 1 / (tall * aspect), scaleY = 1 / tall;
  const depth = (end + near) / (end - near), offset = (-2 * end * near) / (end - near);
  const column = (k) => [scaleX * right[k], scaleY * up[k], depth * forward[k], forward[k]];
  return [...column(0), ...column(1), ...column(2), scaleX * x, scaleY * y, depth * z + offset, z];
}
