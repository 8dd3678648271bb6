"use strict";
// A ball-and-stick view of a trajectory on a 2D canvas: nothing but this file is needed.
// Spheres are sprites shaded once per colour and blended with depth; bonds are two half-sticks, painted back to front.

const BOND_FACTOR = 1.2;      // bonded where the distance is below this × the sum of covalent radii
const BALL_SCALE = 0.42;      // ball radius as a part of the covalent radius
const STICK_RADIUS = 0.11;    // Å
const EYE_DISTANCE = 4.5;     // in radii of the scene: mild perspective
const FRAMES_PER_SECOND = 20;

function decodePositions(data) {
  const binary = atob(data.positions);
  const bytes = new Uint8Array(binary.length);
  for (let k = 0; k < binary.length; k++) bytes[k] = binary.charCodeAt(k);
  const view = new DataView(bytes.buffer);
  const positions = new Float32Array(bytes.length / 2);
  for (let k = 0; k < positions.length; k++) {
    positions[k] = data.low[k % 3] + data.step[k % 3] * view.getUint16(2 * k, true);
  }
  if (positions.length !== 3 * data.atoms * data.frames) throw new Error(`Scene '${data.title}': positions do not match.`);
  return positions;
}

// Pairs of bonded atoms of one frame, by a sweep along x.
function findBonds(xyz, radius) {
  const n = radius.length;
  const order = Array.from({ length: n }, (_, i) => i).sort((a, b) => xyz[3 * a] - xyz[3 * b]);
  const reach = 2 * BOND_FACTOR * Math.max(...new Set(radius));
  const bonds = [];
  for (let a = 0; a < n; a++) {
    const i = order[a];
    for (let b = a + 1; b < n; b++) {
      const j = order[b];
      const dx = xyz[3 * j] - xyz[3 * i];
      if (dx > reach) break;
      const dy = xyz[3 * j + 1] - xyz[3 * i + 1], dz = xyz[3 * j + 2] - xyz[3 * i + 2];
      const limit = BOND_FACTOR * (radius[i] + radius[j]);
      if (dx * dx + dy * dy + dz * dz < limit * limit) bonds.push(i, j);
    }
  }
  return bonds;
}

function parseColor(text, canvasContext) {
  canvasContext.fillStyle = text;
  const hex = canvasContext.fillStyle;
  return [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16));
}

const mix = (a, b, t) => a.map((v, k) => Math.round(v + (b[k] - v) * t));
const css = (rgb) => `rgb(${rgb[0]} ${rgb[1]} ${rgb[2]})`;

// A lit sphere of one colour, drawn once into its own canvas.
function makeSprite(rgb, size) {
  const sprite = document.createElement("canvas");
  sprite.width = sprite.height = size;
  const c = sprite.getContext("2d");
  const r = size / 2;
  const light = c.createRadialGradient(r * 0.68, r * 0.6, r * 0.04, r, r, r);
  light.addColorStop(0, css(mix(rgb, [255, 255, 255], 0.82)));
  light.addColorStop(0.22, css(mix(rgb, [255, 255, 255], 0.28)));
  light.addColorStop(0.55, css(rgb));
  light.addColorStop(0.86, css(mix(rgb, [0, 0, 0], 0.42)));
  light.addColorStop(1, css(mix(rgb, [0, 0, 0], 0.62)));
  c.fillStyle = light;
  c.beginPath();
  c.arc(r, r, r - 0.5, 0, 2 * Math.PI);
  c.fill();
  return sprite;
}

const multiply = (a, b) => {
  const out = new Array(9).fill(0);
  for (let i = 0; i < 3; i++) for (let j = 0; j < 3; j++) for (let k = 0; k < 3; k++) out[3 * i + j] += a[3 * i + k] * b[3 * k + j];
  return out;
};
const turn = (about, angle) => {
  const c = Math.cos(angle), s = Math.sin(angle);
  if (about === "x") return [1, 0, 0, 0, c, -s, 0, s, c];
  if (about === "y") return [c, 0, s, 0, 1, 0, -s, 0, c];
  return [c, -s, 0, s, c, 0, 0, 0, 1];
};

class Viewer {
  constructor(host, data) {
    this.data = data;
    this.positions = decodePositions(data);
    this.radius = data.kind.map((k) => data.kinds[k].radius);
    this.bondsOf = new Map();
    this.frame = 0;
    this.playing = false;
    this.show = { bonds: true, cell: Boolean(data.cell) };
    this.build(host);
    this.measure();
    this.reset();
    this.theme();
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  build(host) {
    const make = (tag, attributes = {}, text = "") => {
      const element = document.createElement(tag);
      for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
      element.textContent = text;
      return element;
    };
    const stage = make("div", { class: "stage" });
    this.stage = stage;
    this.canvas = make("canvas", {
      tabindex: "0", role: "img",
      "aria-label": `${this.data.title}: ${this.data.atoms} atoms, ${this.data.frames} frames. Arrow keys turn, plus and minus zoom, space plays, comma and full stop step, R resets.`,
    });
    this.label = make("div", { class: "label" });
    const legend = make("ul", { class: "legend", "aria-label": "elements" });
    for (const kind of this.data.kinds) {
      const item = make("li", {}, kind.symbol);
      const dot = make("i");
      dot.style.background = kind.color;
      item.prepend(dot);
      legend.append(item);
    }
    const bar = make("div", { class: "bar" });
    const button = (text, action, attributes = {}) => {
      const b = make("button", { type: "button", ...attributes }, text);
      b.addEventListener("click", action);
      bar.append(b);
      return b;
    };
    this.playButton = button("▶ Play", () => this.play(!this.playing), { class: "play" });
    this.slider = make("input", { type: "range", min: "0", max: String(this.data.frames - 1), value: "0", "aria-label": "frame" });
    this.slider.addEventListener("input", () => this.go(Number(this.slider.value)));
    this.count = make("span", { class: "count" });
    bar.append(this.slider, this.count);
    if (this.data.frames === 1) for (const e of [this.playButton, this.slider, this.count]) e.hidden = true;
    const toggle = (text, key) => {
      const b = button(text, () => {
        this.show[key] = !this.show[key];
        b.setAttribute("aria-pressed", String(this.show[key]));
        this.draw();
      }, { "aria-pressed": String(this.show[key]) });
    };
    toggle("Bonds", "bonds");
    if (this.data.cell) toggle("Cell", "cell");
    button("Reset", () => { this.reset(); this.draw(); });
    if (document.fullscreenEnabled) {
      button("Full screen", () => (document.fullscreenElement ? document.exitFullscreen() : stage.requestFullscreen()));
    }
    stage.append(this.canvas, this.label, legend, bar);
    host.append(stage);
    this.context = this.canvas.getContext("2d");
  }

  // Centre and size: of the cell and the atoms together, or of a molecule about its own centroid in each frame.
  measure() {
    const { atoms, frames, cell } = this.data;
    this.centres = new Float32Array(3 * frames);
    for (let f = 0; f < frames; f++) {
      for (let a = 0; a < atoms; a++) for (let d = 0; d < 3; d++) this.centres[3 * f + d] += this.positions[3 * (f * atoms + a) + d] / atoms;
    }
    this.corners = [];
    if (cell) {
      for (let k = 0; k < 8; k++) this.corners.push([0, 1, 2].map((d) => (k & 1) * cell[0][d] + ((k >> 1) & 1) * cell[1][d] + ((k >> 2) & 1) * cell[2][d]));
      for (let f = 0; f < frames; f++) for (let d = 0; d < 3; d++) this.centres[3 * f + d] = (cell[0][d] + cell[1][d] + cell[2][d]) / 2;
    }
    let size = 0;
    const grow = (x, y, z, margin) => { size = Math.max(size, Math.hypot(x, y, z) + margin); };
    for (let f = 0; f < frames; f++) {
      for (let a = 0; a < atoms; a++) {
        const k = 3 * (f * atoms + a);
        grow(this.positions[k] - this.centres[3 * f], this.positions[k + 1] - this.centres[3 * f + 1], this.positions[k + 2] - this.centres[3 * f + 2], this.radius[a] * BALL_SCALE);
      }
    }
    for (const c of this.corners) grow(c[0] - this.centres[0], c[1] - this.centres[1], c[2] - this.centres[2], 0.2);
    this.size = Math.max(size, 1);
  }

  reset() {
    this.rotation = multiply(turn("x", 0.42), turn("y", -0.55));
    this.zoom = 1;
    this.pan = [0, 0];
  }

  theme() {
    const style = getComputedStyle(document.documentElement);
    this.background = parseColor(style.getPropertyValue("--scene").trim(), this.context);
    this.lineColor = parseColor(style.getPropertyValue("--muted").trim(), this.context);
    this.colors = this.data.kinds.map((k) => parseColor(k.color, this.context));
    // Eight sprites a colour, fading into the background with depth.
    this.sprites = this.colors.map((rgb) => Array.from({ length: 8 }, (_, d) => makeSprite(mix(rgb, this.background, (d / 7) * 0.55), 128)));
    this.sticks = this.colors.map((rgb) => Array.from({ length: 8 }, (_, d) => {
      const far = mix(rgb, this.background, (d / 7) * 0.55);
      return [css(mix(far, [0, 0, 0], 0.5)), css(mix(far, [0, 0, 0], 0.14)), css(mix(far, [255, 255, 255], 0.45))];
    }));
    this.draw();
  }

  listen() {
    const canvas = this.canvas;
    const pointers = new Map();
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, [event.clientX, event.clientY]);
      canvas.focus({ preventScroll: true });
    });
    const release = (event) => pointers.delete(event.pointerId);
    canvas.addEventListener("pointerup", release);
    canvas.addEventListener("pointercancel", release);
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("pointermove", (event) => {
      const before = pointers.get(event.pointerId);
      if (!before) return;
      const now = [event.clientX, event.clientY];
      const dx = now[0] - before[0], dy = now[1] - before[1];
      if (pointers.size === 2) {
        const other = [...pointers.entries()].find(([id]) => id !== event.pointerId)[1];
        const was = Math.hypot(before[0] - other[0], before[1] - other[1]);
        const is = Math.hypot(now[0] - other[0], now[1] - other[1]);
        if (was > 0) this.zoomBy(is / was);
        this.pan = [this.pan[0] + dx / 2, this.pan[1] + dy / 2];
      } else if (event.shiftKey || event.buttons & 6) {
        this.pan = [this.pan[0] + dx, this.pan[1] + dy];
      } else if (event.altKey) {
        this.rotate("z", dx * 0.01);
      } else {
        this.rotate("y", dx * 0.01);
        this.rotate("x", dy * 0.01);
      }
      pointers.set(event.pointerId, now);
      this.draw();
    });
    // The wheel zooms once the view has the focus; before that it scrolls the page.
    canvas.addEventListener("wheel", (event) => {
      if (document.activeElement !== canvas && !event.ctrlKey) return;
      event.preventDefault();
      this.zoomBy(Math.exp(-event.deltaY * 0.0015));
      this.draw();
    }, { passive: false });
    canvas.addEventListener("dblclick", () => { this.reset(); this.draw(); });
    const keys = {
      ArrowLeft: () => this.rotate("y", -0.1), ArrowRight: () => this.rotate("y", 0.1),
      ArrowUp: () => this.rotate("x", -0.1), ArrowDown: () => this.rotate("x", 0.1),
      "+": () => this.zoomBy(1.15), "=": () => this.zoomBy(1.15), "-": () => this.zoomBy(1 / 1.15),
      ",": () => this.go(this.frame - 1), ".": () => this.go(this.frame + 1),
      Home: () => this.go(0), End: () => this.go(this.data.frames - 1),
      " ": () => this.play(!this.playing), r: () => this.reset(), R: () => this.reset(),
    };
    canvas.addEventListener("keydown", (event) => {
      if (!(event.key in keys) || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      keys[event.key]();
      this.draw();
    });
  }

  rotate(about, angle) { this.rotation = multiply(turn(about, angle), this.rotation); }
  zoomBy(factor) { this.zoom = Math.min(20, Math.max(0.2, this.zoom * factor)); }

  go(frame) {
    this.frame = ((frame % this.data.frames) + this.data.frames) % this.data.frames;
    this.slider.value = String(this.frame);
    this.draw();
  }

  play(on) {
    this.playing = on && this.data.frames > 1;
    this.playButton.textContent = this.playing ? "❚❚ Pause" : "▶ Play";
    let last = performance.now();
    const tick = (now) => {
      if (!this.playing) return;
      if (now - last >= 1000 / FRAMES_PER_SECOND) { last = now; this.go(this.frame + 1); }
      requestAnimationFrame(tick);
    };
    if (this.playing) requestAnimationFrame(tick);
  }

  bonds(xyz) {
    if (!this.bondsOf.has(this.frame)) this.bondsOf.set(this.frame, findBonds(xyz, this.radius));
    return this.bondsOf.get(this.frame);
  }

  // Everything to paint, far to near.
  draw() {
    if (!this.sprites) return;
    const { canvas, context: c, data } = this;
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
    if (!width || !height) return;
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    c.fillStyle = css(this.background);
    c.fillRect(0, 0, width, height);

    const eye = EYE_DISTANCE * this.size;
    const scale = (0.5 * Math.min(width, height) * this.zoom) / this.size;
    const centre = [this.centres[3 * this.frame], this.centres[3 * this.frame + 1], this.centres[3 * this.frame + 2]];
    const R = this.rotation;
    const project = (x, y, z) => {
      const u = x - centre[0], v = y - centre[1], w = z - centre[2];
      const depth = R[6] * u + R[7] * v + R[8] * w;
      const near = (eye / Math.max(eye - depth, 0.05 * eye)) * scale;
      return [width / 2 + this.pan[0] * ratio + (R[0] * u + R[1] * v + R[2] * w) * near, height / 2 + this.pan[1] * ratio - (R[3] * u + R[4] * v + R[5] * w) * near, depth, near];
    };
    const fade = (depth) => Math.min(1, Math.max(0, 0.5 - depth / (2 * this.size)));

    const start = 3 * this.frame * data.atoms;
    const xyz = this.positions.subarray(start, start + 3 * data.atoms);
    const points = data.kind.map((_, a) => project(xyz[3 * a], xyz[3 * a + 1], xyz[3 * a + 2]));
    const items = points.map((p, a) => [p[2], a, -1, -1]);
    if (this.show.bonds) {
      const bonds = this.bonds(xyz);
      this.crowded = bonds.length > 4000;
      for (let b = 0; b < bonds.length; b += 2) {
        for (const [from, to] of [[bonds[b], bonds[b + 1]], [bonds[b + 1], bonds[b]]]) {
          items.push([0.75 * points[from][2] + 0.25 * points[to][2], from, to, b]);
        }
      }
    }
    if (this.show.cell && data.cell) {
      const corners = this.corners.map((k) => project(...k));
      for (let k = 0; k < 8; k++) for (const bit of [1, 2, 4]) if (!(k & bit)) items.push([(corners[k][2] + corners[k | bit][2]) / 2, -1, corners[k], corners[k | bit]]);
    }
    items.sort((a, b) => a[0] - b[0]);
    c.lineCap = "butt";
    for (const [depth, a, to, other] of items) {
      if (a < 0) this.edge(to, other, fade(depth), ratio);
      else if (to < 0) this.ball(points[a], a, fade(depth));
      else this.halfStick(points[a], points[to], a, this.visibleFrom(xyz, a, to), fade(depth));
    }
    this.label.textContent = data.labels ? data.labels[this.frame] : "";
    this.count.textContent = `${this.frame + 1} / ${data.frames}`;
  }

  ball(p, a, fade) {
    const r = this.radius[a] * BALL_SCALE * p[3];
    this.context.drawImage(this.sprites[this.data.kind[a]][Math.min(7, Math.floor(fade * 8))], p[0] - r, p[1] - r, 2 * r, 2 * r);
  }

  // The part of a bond that is inside the ball of atom a.
  visibleFrom(xyz, a, b) {
    const length = Math.hypot(xyz[3 * b] - xyz[3 * a], xyz[3 * b + 1] - xyz[3 * a + 1], xyz[3 * b + 2] - xyz[3 * a + 2]);
    return Math.min(0.45, (0.88 * BALL_SCALE * this.radius[a]) / Math.max(length, 1e-6));
  }

  halfStick(p, q, a, from, fade) {
    const c = this.context;
    const width = 2 * STICK_RADIUS * p[3];
    const sx = p[0] + from * (q[0] - p[0]), sy = p[1] + from * (q[1] - p[1]);
    const mx = (p[0] + q[0]) / 2, my = (p[1] + q[1]) / 2;
    const shades = this.sticks[this.data.kind[a]][Math.min(7, Math.floor(fade * 8))];
    // Thin or very many sticks are one or two strokes, for speed.
    const strokes = this.crowded ? [[1, 1]] : width < 6 ? [[1, 0], [0.6, 1]] : [[1, 0], [0.72, 1], [0.26, 2]];
    for (const [part, shade] of strokes) {
      c.strokeStyle = shades[shade];
      c.lineWidth = Math.max(0.5, width * part);
      c.beginPath();
      c.moveTo(sx, sy);
      c.lineTo(mx, my);
      c.stroke();
    }
  }

  edge(p, q, fade, ratio) {
    const c = this.context;
    c.strokeStyle = css(mix(this.lineColor, this.background, 0.15 + 0.5 * fade));
    c.lineWidth = 1.2 * ratio;
    c.beginPath();
    c.moveTo(p[0], p[1]);
    c.lineTo(q[0], q[1]);
    c.stroke();
  }

  // Number of pixels that differ from the background: zero would mean that nothing is seen.
  drawnPixels() {
    const { width, height } = this.canvas;
    if (!width || !height) return 0;
    const pixels = this.context.getImageData(0, 0, width, height).data;
    let n = 0;
    for (let k = 0; k < pixels.length; k += 4) {
      if (pixels[k] !== this.background[0] || pixels[k + 1] !== this.background[1] || pixels[k + 2] !== this.background[2]) n++;
    }
    return n;
  }
}
