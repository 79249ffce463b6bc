"use strict";
// The layers: a canvas of maps for each; the unit that is pointed at or pinned, its receptive field
// and its arithmetic.

// ---- colours, read from style.css when they change ----------------------------------------------

const colours = { css: {}, rgb: {}, shades: null };

function readColours() {
  const style = getComputedStyle(document.documentElement);
  const dot = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
  const context = dot.getContext("2d", { willReadFrequently: true });
  for (const name of ["page", "sheet", "ink", "positive", "negative"]) {
    colours.css[name] = style.getPropertyValue(`--${name}`).trim();
    context.fillStyle = colours.css[name];
    context.fillRect(0, 0, 1, 1);
    colours.rgb[name] = [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
  }
  // The colour of each strength from -255 to 255, as 32 bits: an opaque pixel.
  const { page, sheet, positive, negative } = colours.rgb;
  const pixel = rgb => new Uint32Array(Uint8ClampedArray.of(...rgb, 255).buffer)[0];
  colours.shades = Uint32Array.from({ length: 511 }, (_, i) =>
    pixel(mix(sheet, i > 255 ? positive : negative, Math.abs(i - 255) / 255)));
  colours.between = pixel(page);
}

const mix = (ground, colour, part) => ground.map((value, i) => value + part * (colour[i] - value));

// A canvas of 28×28 whose pixel i has the red, green, blue and alpha of rgba(i).
function image28(rgba, target = document.createElement("canvas")) {
  target.width = target.height = 28;
  const image = new ImageData(28, 28);
  for (let i = 0; i < 784; i++) image.data.set(rgba(i), 4 * i);
  target.getContext("2d").putImageData(image, 0, 0);
  return target;
}

function onPaper(pixels, target) {
  const { sheet, ink } = colours.rgb;
  return image28(i => [...mix(sheet, ink, pixels[i] / 255), 255], target);
}

// ---- sections -----------------------------------------------------------------------------------

let layers = [];   // layersOf(net), each with its section, canvas and how the maps lie on it
const TILE = 112;  // pixels: about the side of a layer in the overview

const sizeOf = ({ shape: [channels, height = 1, width = 1] }) => ({ channels, height, width });
const tenOf = text => [..."0123456789"].map(text).join("");

// What a layer computes, in words.
function nameOf({ kind, kernel, stride, groups, shape }) {
  if (kind === "linear") return "linear";
  if (kind !== "conv") return `${kernel}×${kernel} ${kind === "maxpool" ? "max" : "mean"} pool`;
  const each = groups > 1 && groups === shape[0] ? " each map" : "";
  return `${kernel}×${kernel} conv${each}${stride > 1 ? `, stride ${stride}` : ""}`;
}

function tile(title, facts, below) {
  const section = document.createElement("section");
  section.className = "layer";
  section.innerHTML = `<h3><button type="button" aria-pressed="false">${title}</button></h3>
    <p class="help">${facts}</p>${below}`;
  section.querySelector("button").addEventListener("click", () => enlarge(section));
  return section;
}

// A tile for each layer of the net, and one for the softmax.
function buildLayers() {
  const net = NETS[state.model];
  layers = layersOf(net);
  layers.forEach((layer, number) => {
    const { height, width } = sizeOf(layer);
    const field = receptiveField(net, layer.to - 1, height >> 1, width >> 1);
    const isLast = number === layers.length - 1;
    const title = `${number + 1} ${isLast ? "logits: " : ""}${nameOf(layer.step)}`;
    const facts = `${layer.shape.join("×")} · sees ${field.right - field.left + 1}`;
    layer.section = tile(title, facts,
      `<div class="maps"><canvas tabindex="0" role="application"></canvas>
      <div class="mark frame" hidden></div>
      ${isLast ? `<div class="names">${tenOf(name => `<span>${name}</span>`)}</div>` : ""}</div>`);
    layer.canvas = layer.section.querySelector("canvas");
    layer.mark = layer.section.querySelector(".mark");
    const about = `Maps of layer ${title}, ${facts}, ${count(layer.parameters)} parameters`;
    layer.canvas.setAttribute("aria-label", about);
    listen(layer, number);
  });
  const bars = tenOf(digit => `<li><span>${digit}</span><i></i><span></span></li>`);
  const last = tile("softmax", "e<sup>logit</sup>, sum 1, %", `<ol id="bars">${bars}</ol>`);
  $("layers").replaceChildren(...layers.map(({ section }) => section), last, sumPanel);
  arrange();
}

function listen(layer, number) {
  const { canvas } = layer;
  canvas.addEventListener("pointermove", event => {
    if (!state.pinned && event.pointerType === "mouse") point(number, unitAt(layer, event));
  });
  for (const leave of ["pointerleave", "blur"]) {
    canvas.addEventListener(leave, () => {
      if (!state.pinned) point(number, null);
    });
  }
  canvas.addEventListener("click", event => pin(number, unitAt(layer, event)));
  canvas.addEventListener("keydown", event => moveUnit(layer, number, event));
}

// A layer as large as the width allows, for a projector; or small again.
function enlarge(section) {
  for (const each of $("layers").querySelectorAll(".layer")) {
    const isLarge = each === section && !each.classList.contains("large");
    each.classList.toggle("large", isLarge);
    each.querySelector("button").setAttribute("aria-pressed", isLarge);
  }
  arrange();
  section.firstChild.scrollIntoView();
}

// How the maps of each layer lie on its canvas: a pixel for a unit, one between maps, and the whole
// enlarged by `zoom`. That number of columns is taken which allows the largest zoom.
function arrange() {
  for (const layer of layers) {
    const { channels, height, width } = sizeOf(layer);
    const isLarge = layer.section.classList.contains("large");
    const mostHigh = isLarge ? Math.max(200, innerHeight - 240) : TILE;
    const least = channels * height * width === 10 ? 10 : 1;  // the logits lie in a row
    layer.zoom = 0;
    for (let columns = least; columns <= channels; columns++) {
      const wide = columns * (width + 1) - 1;
      const high = Math.ceil(channels / columns) * (height + 1) - 1;
      const zoom = Math.floor(2 * Math.min(layer.section.clientWidth / wide, mostHigh / high)) / 2;
      const isBetter = isLarge ? zoom >= layer.zoom : zoom > layer.zoom;
      if (isBetter) Object.assign(layer, { columns, wide, high, zoom });
    }
    if (layer.zoom === 0) continue;  // not shown
    layer.canvas.width = layer.wide;
    layer.canvas.height = layer.high;
    layer.canvas.style.width = `${layer.wide * layer.zoom}px`;
    layer.image = new ImageData(layer.wide, layer.high);
    // Where each unit lies in the image.
    layer.places = Uint32Array.from({ length: channels * height * width }, (_, i) => {
      const [row, column] = placeIn(layer, unitOf(layer, i));
      return row * layer.wide + column;
    });
    paintLayer(layer);
  }
  paintUnit();
}

// Row and column of a unit on the layer's canvas.
function placeIn(layer, { channel, y, x }) {
  const { height, width } = sizeOf(layer);
  return [Math.floor(channel / layer.columns) * (height + 1) + y,
          channel % layer.columns * (width + 1) + x];
}

// A drawing without ink leaves maps without colour: what the biases alone make of it shows nothing.
function paintLayer({ image, to, places, canvas }) {
  if (!image || state.maps.length === 0) return;
  const { data } = state.maps[to];
  const pixels = new Uint32Array(image.data.buffer);
  const most = data.reduce((a, b) => Math.max(a, Math.abs(b)), 1e-9);
  const scale = state.empty ? 0 : 255 / most;
  pixels.fill(colours.between);
  for (let i = 0; i < data.length; i++) {
    pixels[places[i]] = colours.shades[255 + Math.round(data[i] * scale)];
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// ---- units --------------------------------------------------------------------------------------

// The unit of a layer under the pointer, or null between the maps.
function unitAt(layer, event) {
  const { channels, height, width } = sizeOf(layer);
  const box = layer.canvas.getBoundingClientRect();
  const column = Math.floor((event.clientX - box.left) * layer.wide / box.width);
  const row = Math.floor((event.clientY - box.top) * layer.high / box.height);
  const y = row % (height + 1), x = column % (width + 1);
  const channel = Math.floor(row / (height + 1)) * layer.columns + Math.floor(column / (width + 1));
  const isInside = y < height && x < width && channel < channels && row >= 0 && column >= 0;
  return isInside ? { channel, y, x } : null;
}

// A layer's unit number `i`, row by row, map by map.
function unitOf(layer, i) {
  const { height, width } = sizeOf(layer);
  const row = Math.floor(i / width);
  return { channel: Math.floor(row / height), y: row % height, x: i % width };
}

// Arrow keys go from unit to unit, and over a map's edge into the next map. Enter pins.
function moveUnit(layer, number, event) {
  const { channels, height, width } = sizeOf(layer), units = channels * height * width;
  const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -width, ArrowDown: width };
  const from = state.unit?.layer === number ? state.unit : { channel: 0, y: 0, x: 0 };
  if (event.key === "Enter" || event.key === " ") {
    pin(number, from);
  } else if (moves[event.key]) {
    const i = (from.channel * height + from.y) * width + from.x;
    point(number, unitOf(layer, (i + moves[event.key] + units) % units));
  } else {
    return;
  }
  event.preventDefault();
}

function point(layer, unit) {
  state.unit = unit && { layer, channel: unit.channel, y: unit.y, x: unit.x };
  paintUnit();
}

// Pin a unit, or let go the one that is pinned.
function pin(layer, unit) {
  const name = each => [each?.layer ?? layer, each?.channel, each?.y, each?.x].join();
  if (!unit || (state.pinned && name(unit) === name(state.unit))) {
    letGo();
    return;
  }
  state.pinned = true;
  state.term = null;
  point(layer, unit);
}

function letGo() {
  state.pinned = false;
  point(0, null);
}

document.addEventListener("keydown", event => {
  if (event.key === "Escape") letGo();
});

// The mark on the unit, its receptive field on the net's input, its value in words, its arithmetic.
function paintUnit() {
  layers.forEach(({ mark }) => { mark.hidden = true; });
  $("window").hidden = !state.unit;
  sumPanel.hidden = !state.pinned;
  $("unit").textContent = "";
  if (!state.unit || state.maps.length === 0) return;
  const { layer: index, channel, y, x } = state.unit;
  const layer = layers[index];
  const [row, column] = placeIn(layer, state.unit);
  frame(layer.mark, layer.zoom, { left: column, right: column, top: row, bottom: row });
  const field = receptiveField(NETS[state.model], layer.to - 1, y, x);
  frame($("window"), $("seen").clientWidth / 28, field);
  const across = field.right - field.left + 1, down = field.bottom - field.top + 1;
  $("unit").textContent = `Layer ${index + 1}, map ${channel + 1}, row ${y + 1}, column ${x + 1}: `
    + `${valueAfter(layer.to - 1, state.unit).toFixed(3)}. It sees ${across}×${down} pixels: rows `
    + `${field.top + 1} to ${field.bottom + 1}, columns ${field.left + 1} to ${field.right + 1}.`;
  if (state.pinned) paintSum(layer);
}

// Put a frame around a window of units, each `zoom` pixels large.
function frame(element, zoom, { left, right, top, bottom }) {
  element.hidden = false;
  const places = { left, top, width: right - left + 1, height: bottom - top + 1 };
  for (const [name, place] of Object.entries(places)) element.style[name] = `${place * zoom}px`;
}

// ---- the arithmetic of the pinned unit ----------------------------------------------------------

const sumPanel = document.createElement("section");
sumPanel.id = "sum";
sumPanel.hidden = true;
sumPanel.setAttribute("aria-label", "How the pinned unit’s value comes about");

sumPanel.addEventListener("click", event => {
  const button = event.target.closest("button");
  if (button?.id === "let-go") letGo();
  if (!button?.dataset.term) return;
  state.term = Number(button.dataset.term);
  paintUnit();
});

// It stands below the row of its layer; the layers behind it fill that row.
function paintSum(layer) {
  if (layer.section.nextElementSibling !== sumPanel) layer.section.after(sumPanel);
  const lines = NETS[state.model].operations.slice(layer.from, layer.to).map((step, i) => {
    const index = layer.from + i;
    return `<div>${SUMS[step.kind](step, state.maps[index], state.unit, index)}</div>`;
  });
  const where = `Layer ${state.unit.layer + 1}, map ${state.unit.channel + 1}`;
  const focused = document.activeElement?.dataset.term;
  sumPanel.innerHTML = `<h3>${where} <button type="button" id="let-go">Let go</button></h3>
    ${lines.join("")}`;
  if (focused) sumPanel.querySelector(`[data-term="${focused}"]`)?.focus();
}

const shown = value => value.toFixed(3).replace("-", "−");
const signed = value => value < 0 ? `− ${shown(-value)}` : `+ ${shown(value)}`;

// The unit's value behind operation `index`.
function valueAfter(index, { channel, y, x }) {
  const { height, width, data } = state.maps[index + 1];
  return data[(channel * height + y) * width + x];
}

function table(rows, isMarked = () => false) {
  const cell = value => `<td${isMarked(value) ? ' class="most"' : ""}>${shown(value)}</td>`;
  return `<table>${rows.map(row => `<tr>${row.map(cell).join("")}</tr>`).join("")}</table>`;
}

// The numbers of a map in the window of unit (y, x); beyond the edge are zeros.
function windowOf({ kernel, stride, padding }, { height, width, data }, channel, y, x) {
  const places = Array.from({ length: kernel }, (_, i) => i - padding);
  return places.map(dy => places.map(dx => {
    const row = y * stride + dy, column = x * stride + dx;
    const isInside = row >= 0 && row < height && column >= 0 && column < width;
    return isInside ? data[(channel * height + row) * width + column] : 0;
  }));
}

// One sum a channel, of window × kernel; the chosen channel's in full, else the largest; the bias.
function weightedSum(parts, bias, value) {
  const sums = parts.map(({ window, weights }) =>
    window.flat().reduce((sum, each, i) => sum + each * weights.flat()[i], 0));
  // Rounded so that what is printed adds up to the value printed.
  const whole = addUp([...sums, bias].map(each => 1000 * each), Math.round(1000 * value));
  const printed = whole.map(each => each / 1000);
  const largest = sums.reduce((best, sum, i) => Math.abs(sum) > Math.abs(sums[best]) ? i : best, 0);
  const chosen = Math.min(state.term ?? largest, sums.length - 1);
  const { channel, window, weights } = parts[chosen];
  const product = `${table(window)} × ${table(weights)} = ${shown(printed[chosen])}`;
  const full = `map ${channel + 1}: ${product}`;
  const rest = `<span>${signed(printed.at(-1))} bias</span> <span>= <b>${shown(value)}</b></span>`;
  if (parts.length === 1) return `${full} ${rest}`;
  const terms = parts.map((part, i) => `<button type="button" data-term="${i}" aria-pressed="${
    i === chosen}"><small>${part.channel + 1}</small> ${signed(printed[i])}</button>`);
  return `${full}; all maps: <span class="terms">${terms.join("")} ${rest}</span>`;
}

// A line for each kind of operation.
const SUMS = {
  conv(step, input, { channel, y, x }, index) {
    const { kernel, groups, weight, bias } = step;
    const inputs = input.channels / groups;
    const first = Math.floor(channel * groups / step.shape[0]) * inputs;
    const parts = Array.from({ length: inputs }, (_, i) => {
      const at = (channel * inputs + i) * kernel ** 2;
      const weights = Array.from({ length: kernel }, (_, row) =>
        Array.from(weight.subarray(at + row * kernel, at + (row + 1) * kernel)));
      return { channel: first + i, window: windowOf(step, input, first + i, y, x), weights };
    });
    const value = valueAfter(index, { channel, y, x });
    return `Window × kernel: ${weightedSum(parts, bias ? bias[channel] : 0, value)}`;
  },

  // The same, a window of one number.
  linear(step, input, unit, index) {
    const numbers = { channels: input.data.length, height: 1, width: 1, data: input.data };
    const one = { ...step, kernel: 1, stride: 1, padding: 0, groups: 1 };
    return SUMS.conv(one, numbers, unit, index);
  },

  maxpool(step, input, { channel, y, x }, index) {
    const value = valueAfter(index, { channel, y, x });
    const window = table(windowOf(step, input, channel, y, x), each => each === value);
    const name = step.kind === "maxpool" ? "largest" : "mean";
    return `The ${name} of ${window} = <b>${shown(value)}</b>`;
  },

  affine({ scale, shift }, input, unit, index) {
    const product = `${shown(valueAfter(index - 1, unit))} × ${shown(scale[unit.channel])}`;
    return `Scale and shift (BatchNorm): ${product} ${signed(shift[unit.channel])}
      = <b>${shown(valueAfter(index, unit))}</b>`;
  },

  relu(step, input, unit, index) {
    return `ReLU: the larger of 0 and ${shown(valueAfter(index - 1, unit))}
      = <b>${shown(valueAfter(index, unit))}</b>`;
  },
};

SUMS.avgpool = SUMS.maxpool;
