"use strict";
// What you see and touch. net.js computes, prepare.js turns the drawing into pixels; this file
// draws. Whatever changes calls update(), which computes everything anew, at most once a frame.

const $ = id => document.getElementById(id);
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`);
const count = number => number.toLocaleString("en");

const state = {
  model: 3,
  strokes: [],     // of the drawing: { thickness, points: [[x, y], ...] }
  loaded: null,    // a digit of DIGITS that is shown in place of the drawing
  pen: null,       // [x, y] of the pen that the keyboard moves, once it was used
  penDown: false,
  pixels: null,    // the 784 numbers, not deskewed
  maps: [],        // what the net makes of them: computeMaps()
  unit: null,      // the unit pointed at: { layer, channel, y, x }
};

// ---- the drawing ------------------------------------------------------------------------------

const canvas = $("drawing");

// The drawing on paper of the page's colours; prepare() finds out which of the two is the ink.
function paintDrawing() {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = colour("sheet");
  context.fillRect(0, 0, canvas.width, canvas.height);
  if (state.loaded) {
    context.imageSmoothingEnabled = false;
    context.drawImage(imageOf(pixelsOf(state.loaded)), 0, 0, canvas.width, canvas.height);
    return;
  }
  context.strokeStyle = colour("ink");
  context.lineCap = context.lineJoin = "round";
  for (const { thickness, points } of state.strokes) {
    context.lineWidth = thickness;
    context.beginPath();
    context.moveTo(...points[0]);
    points.forEach(point => context.lineTo(...point));  // also of a single point: a dot
    context.stroke();
  }
}

// Where a pointer is, in pixels of the canvas.
function placeOf(event) {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) * canvas.width / box.width,
          (event.clientY - box.top) * canvas.height / box.height];
}

function beginStroke(point) {
  if (state.loaded) show(null);
  state.strokes.push({ thickness: Number($("thickness").value), points: [point] });
  update();
}

function continueStroke(point) {
  state.strokes.at(-1).points.push(point);
  update();
}

canvas.addEventListener("pointerdown", event => {
  canvas.setPointerCapture(event.pointerId);
  state.penDown = false;
  beginStroke(placeOf(event));
});
canvas.addEventListener("pointermove", event => {
  if (!canvas.hasPointerCapture(event.pointerId)) return;
  // A fast hand makes several moves between two frames.
  const moves = event.getCoalescedEvents?.() ?? [];
  (moves.length ? moves : [event]).forEach(move => continueStroke(placeOf(move)));
});

canvas.addEventListener("keydown", event => {
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  state.pen ??= [canvas.width / 2, canvas.height / 2];
  if (moves[event.key]) {
    state.pen = state.pen.map((place, axis) =>
      Math.min(540, Math.max(20, place + 20 * moves[event.key][axis])));
    if (state.penDown) continueStroke(state.pen);
  } else if (event.key === " ") {
    state.penDown = !state.penDown;
    if (state.penDown) beginStroke(state.pen);
  } else if (event.key === "Delete" || event.key === "Backspace") {
    clear();
  } else {
    return;
  }
  event.preventDefault();
  showPen();
  const [x, y] = state.pen.map(place => Math.round(place / 5.6));
  $("unit").textContent = `Pen ${state.penDown ? "down" : "up"} at ${x} % across, ${y} % down`;
  update();
});

// The keyboard's pen is a ring on the drawing while that has the focus: full when it is down.
function showPen() {
  const zoom = canvas.clientWidth / canvas.width;
  $("pen").hidden = !state.pen || document.activeElement !== canvas;
  if ($("pen").hidden) return;
  $("pen").className = state.penDown ? "down" : "";
  $("pen").style.left = `${canvas.offsetLeft + state.pen[0] * zoom}px`;
  $("pen").style.top = `${canvas.offsetTop + state.pen[1] * zoom}px`;
}

canvas.addEventListener("blur", () => {
  state.penDown = false;
  showPen();
});

function clear() {
  state.strokes = [];
  state.penDown = false;
  show(null);
}

function undo() {
  if (!state.loaded) state.strokes.pop();
  state.penDown = false;
  show(null);
}

$("clear").addEventListener("click", clear);
$("undo").addEventListener("click", undo);
document.addEventListener("keydown", event => {
  if ((event.ctrlKey || event.metaKey) && event.key === "z") undo();
});

// ---- digits to load ---------------------------------------------------------------------------

function pixelsOf(digit) {
  return Array.from(decode(digit.pixels, Uint8Array));
}

// Show a digit of DIGITS, or with null the drawing again. A new drawing begins on clean paper.
function show(digit) {
  state.loaded = digit;
  if (digit) state.strokes = [];
  document.querySelectorAll(".strip button").forEach(button =>
    button.setAttribute("aria-pressed", button.dataset.index === String(digit?.index)));
  update();
}

function buildStrips() {
  for (const digit of DIGITS) {
    const wrong = digit.misread !== null;
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.index = digit.index;
    button.append(imageOf(pixelsOf(digit)), wrong ? `${digit.label} → ${digit.misread}` : digit.label);
    button.title = `Test digit ${digit.index}, labelled ${digit.label}`
      + (wrong ? `, read as ${digit.misread}` : "");
    button.setAttribute("aria-label", button.title);
    button.addEventListener("click", () => show(digit));
    $(wrong ? "misread" : "strip").append(button);
  }
}

// ---- pictures of numbers ----------------------------------------------------------------------

// [red, green, blue] of a colour's name in style.css, read off a pixel.
function rgb(name) {
  const dot = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
  const context = dot.getContext("2d");
  context.fillStyle = colour(name);
  context.fillRect(0, 0, 1, 1);
  return context.getImageData(0, 0, 1, 1).data.slice(0, 3);
}

// 784 numbers 0..255 as a canvas of 28×28: ink on paper in the page's colours.
function imageOf(pixels, target = document.createElement("canvas")) {
  target.width = target.height = 28;
  const image = new ImageData(28, 28);
  const ink = rgb("ink"), paper = rgb("sheet");
  pixels.forEach((value, i) => mix(image.data, 4 * i, paper, ink, value / 255));
  target.getContext("2d").putImageData(image, 0, 0);
  return target;
}

// Writes one pixel: a part of `colour` on `ground`.
function mix(data, at, ground, colour, part) {
  for (let i = 0; i < 3; i++) data[at + i] = ground[i] + part * (colour[i] - ground[i]);
  data[at + 3] = 255;
}

// ---- layers -----------------------------------------------------------------------------------

// What an operation is, in words.
function nameOf(step) {
  const { kind, kernel, stride, padding, groups } = step;
  if (kind === "relu") return "ReLU";
  if (kind === "gelu") return "GELU";
  if (kind === "affine") return "BatchNorm";
  if (kind === "linear") return "Linear: every number times a weight";
  const what = { conv: "convolution", maxpool: "max pool", avgpool: "average pool" }[kind];
  return [
    `${kernel}×${kernel} ${what}`,
    kind === "conv" ? stride > 1 && `stride ${stride}` : stride !== kernel && `stride ${stride}`,
    padding > 0 && `padding ${padding}`,
    groups > 1 && (groups === step.shape[0] ? "each map by itself" : `in ${groups} groups`),
    step.batchnorm && "BatchNorm",
    step.again && "the weights of before again",
  ].filter(Boolean).join(", ");
}

// A section for each operation of the model: title, facts, and a canvas for its maps.
function buildLayers() {
  const net = NETS[state.model];
  $("layers").replaceChildren(...net.operations.map((step, layer) => {
    const section = document.createElement("section");
    section.className = "layer";
    const [, height = 1, width = 1] = step.shape;
    const field = receptiveField(net, layer, height >> 1, width >> 1);
    const facts = [
      step.shape.join("×"),
      `${count(step.parameters)} parameters`,
      `a unit sees ${field.right - field.left + 1}×${field.bottom - field.top + 1} pixels`,
    ];
    section.innerHTML = `<h3>${layer + 1} ${nameOf(step)}</h3>
      <p class="help">${facts.join(" · ")}</p>
      <div class="maps"><canvas tabindex="0" role="img"></canvas><div class="mark" hidden></div></div>`;
    const maps = section.querySelector("canvas");
    maps.setAttribute("aria-label", `Maps of layer ${layer + 1}, ${nameOf(step)}: ${facts.join(", ")}`);
    maps.addEventListener("pointermove", event => point(layer, unitAt(layer, maps, event)));
    maps.addEventListener("pointerdown", event => point(layer, unitAt(layer, maps, event)));
    maps.addEventListener("pointerleave", () => point(layer, null));
    maps.addEventListener("blur", () => point(layer, null));
    maps.addEventListener("keydown", event => moveUnit(layer, event));
    return section;
  }));
}

// How the maps of a layer lie on its canvas: one pixel for a unit, one between maps; style.css
// enlarges the whole by `zoom`, so that a map is about 64 pixels wide.
function layout(layer) {
  const { channels, height, width } = state.maps[layer + 1];
  const zoom = Math.min(16, Math.max(2, Math.round(64 / width)));
  const room = $("layers").clientWidth / zoom;
  const fit = Math.max(1, Math.floor((room + 1) / (width + 1)));
  const rows = Math.ceil(channels / fit);
  return { channels, height, width, zoom, rows, columns: Math.ceil(channels / rows) };
}

function paintLayers() {
  const ground = rgb("sheet"), page = rgb("page");
  const positive = rgb("positive"), negative = rgb("negative");
  document.querySelectorAll("#layers canvas").forEach((canvas, layer) => {
    const { data } = state.maps[layer + 1];
    const { height, width, zoom, columns, rows } = layout(layer);
    canvas.width = columns * (width + 1) - 1;
    canvas.height = rows * (height + 1) - 1;
    canvas.style.width = `${canvas.width * zoom}px`;
    const image = new ImageData(canvas.width, canvas.height);
    for (let at = 0; at < image.data.length; at += 4) mix(image.data, at, page, page, 0);
    const most = data.reduce((a, b) => Math.max(a, Math.abs(b)), 1e-9);
    data.forEach((value, i) => {
      const channel = Math.floor(i / (height * width));
      const y = Math.floor(channel / columns) * (height + 1) + Math.floor(i / width) % height;
      const x = channel % columns * (width + 1) + i % width;
      const strength = Math.abs(value) / most;
      mix(image.data, 4 * (y * canvas.width + x), ground, value > 0 ? positive : negative, strength);
    });
    canvas.getContext("2d").putImageData(image, 0, 0);
  });
}

// The unit of a layer under the pointer, or null between the maps.
function unitAt(layer, canvas, event) {
  const { channels, height, width, columns } = layout(layer);
  const box = canvas.getBoundingClientRect();
  const column = Math.floor((event.clientX - box.left) * canvas.width / box.width);
  const row = Math.floor((event.clientY - box.top) * canvas.height / box.height);
  const unit = {
    channel: Math.floor(row / (height + 1)) * columns + Math.floor(column / (width + 1)),
    y: row % (height + 1),
    x: column % (width + 1),
  };
  const inside = unit.y < height && unit.x < width && unit.channel < channels;
  return inside && row >= 0 && column >= 0 ? unit : null;
}

// Arrow keys go from unit to unit, and over a map's edge into the next map.
function moveUnit(layer, event) {
  const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  if (!moves[event.key]) return;
  event.preventDefault();
  const { channels, height, width } = state.maps[layer + 1];
  const from = state.unit?.layer === layer ? state.unit : { channel: 0, y: 0, x: 0 };
  const unit = { ...from, y: from.y + moves[event.key][0], x: from.x + moves[event.key][1] };
  const step = unit.x >= width || unit.y >= height ? 1 : unit.x < 0 || unit.y < 0 ? -1 : 0;
  unit.channel = (unit.channel + step + channels) % channels;
  unit.x = (unit.x + width) % width;
  unit.y = (unit.y + height) % height;
  point(layer, unit);
}

function point(layer, unit) {
  state.unit = unit && { layer, channel: unit.channel, y: unit.y, x: unit.x };
  paintUnit();
}

// The mark on the unit, its receptive field on the net's input, and its value in words.
function paintUnit() {
  document.querySelectorAll(".mark").forEach(mark => { mark.hidden = true; });
  $("window").hidden = !state.unit;
  if (!state.unit) {
    const prepared = NETS[state.model].preparation !== "none";
    $("unit").textContent = prepared ? "Set upright, as in training." : "";
    return;
  }
  const { layer, channel, y, x } = state.unit;
  const { height, width, zoom, columns } = layout(layer);
  const mark = document.querySelectorAll(".mark")[layer];
  const row = Math.floor(channel / columns) * (height + 1) + y;
  const column = channel % columns * (width + 1) + x;
  place(mark, 0, 0, zoom, { left: column, right: column, top: row, bottom: row });

  const field = receptiveField(NETS[state.model], layer, y, x);
  place($("window"), $("seen").offsetLeft, $("seen").offsetTop, $("seen").clientWidth / 28, field);

  const value = state.maps[layer + 1].data[(channel * height + y) * width + x];
  const across = field.right - field.left + 1, down = field.bottom - field.top + 1;
  $("unit").textContent = `Layer ${layer + 1}, map ${channel + 1}, row ${y + 1}, column ${x + 1}: `
    + `${value.toFixed(3)}. It sees ${across}×${down} pixels: rows ${field.top + 1} to `
    + `${field.bottom + 1}, columns ${field.left + 1} to ${field.right + 1}.`;
}

// Put a frame around a window of units, each `zoom` pixels large.
function place(frame, left, top, zoom, window) {
  frame.hidden = false;
  frame.style.left = `${left + window.left * zoom - 2}px`;
  frame.style.top = `${top + window.top * zoom - 2}px`;
  frame.style.width = `${(window.right - window.left + 1) * zoom + 4}px`;
  frame.style.height = `${(window.bottom - window.top + 1) * zoom + 4}px`;
}

// ---- the answer -------------------------------------------------------------------------------

function buildBars() {
  $("bars").innerHTML = Array.from({ length: 10 }, (_, digit) =>
    `<li><span>${digit}</span><i></i><span></span></li>`).join("");
}

function paintAnswer(empty, milliseconds) {
  const probabilities = softmax(state.maps.at(-1).data);
  const best = probabilities.indexOf(Math.max(...probabilities));
  const percent = part => `${(100 * part).toFixed(1)} %`;
  [...$("bars").children].forEach((bar, digit) => {
    const part = empty ? 0 : probabilities[digit];
    bar.className = digit === best && !empty ? "first" : "";
    bar.children[1].style.width = `${100 * part}%`;
    bar.children[2].textContent = empty ? "" : percent(part);
  });
  const label = state.loaded ? `labelled ${state.loaded.label}` : "";
  const words = empty ? "Draw a digit" : `${percent(probabilities[best])} ${label}`;
  const text = `${empty ? "·" : best}<small>${words}</small>`;
  if ($("answer").innerHTML !== text) $("answer").innerHTML = text;  // else it would be read again
  $("short").textContent = empty ? "" : best;
  paintCost(milliseconds);
}

function paintCost(milliseconds) {
  const net = NETS[state.model];
  const products = net.operations.reduce((sum, step) => sum + multiplications(step), 0);
  $("cost").textContent = `${count(net.parameters)} parameters, ${count(net.parameters * 4)} bytes as `
    + `32-bit numbers, ${count(products)} multiplications a digit; here ${milliseconds.toFixed(1)} ms.`;
}

function buildModels() {
  for (const model of Object.keys(NETS)) {
    const choice = document.createElement("label");
    choice.className = "choice";
    choice.innerHTML = `<input type="radio" name="model" value="${model}"><span>Model ${model}</span>`;
    const input = choice.firstChild;
    input.checked = Number(model) === state.model;
    input.addEventListener("change", () => {
      state.model = Number(model);
      state.unit = null;
      buildLayers();
      update();
    });
    $("models").append(choice);
  }
}

// ---- everything anew --------------------------------------------------------------------------

let planned = false;

function update() {
  if (planned) return;
  planned = true;
  requestAnimationFrame(() => {
    planned = false;
    paintDrawing();
    const net = NETS[state.model];
    state.pixels = state.loaded ? pixelsOf(state.loaded) : prepare(canvas);
    const seen = netInput(net, state.pixels);
    const began = performance.now();
    state.maps = computeMaps(net, seen);
    const milliseconds = performance.now() - began;
    imageOf(seen, $("seen"));
    paintAnswer(state.pixels.every(value => value === 0), milliseconds);
    paintLayers();
    if (!state.penDown) paintUnit();
  });
}

function repaintInOtherColours() {
  document.querySelectorAll(".strip button").forEach(button => {
    const digit = DIGITS.find(each => each.index === Number(button.dataset.index));
    imageOf(pixelsOf(digit), button.querySelector("canvas"));
  });
  update();
}

buildStrips();
buildModels();
buildBars();
buildLayers();
show(DIGITS.find(digit => digit.label === 5));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaintInOtherColours);
new ResizeObserver(update).observe($("layers"));
