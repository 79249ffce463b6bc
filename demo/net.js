"use strict";
// The engine: what the nets compute, in plain JavaScript. weights.js holds each net as a flat list
// of operations; a value is a map { channels, height, width, data } with data row by row.

// ---- the operations -----------------------------------------------------------------------------

// Numbers from the base64 text in weights.js, the low byte first.
function decode(text, Kind) {
  return new Kind(Uint8Array.from(atob(text), letter => letter.charCodeAt(0)).buffer);
}

// Convolution: every output is a bias and the sum of weight × input over a window. Weight by weight
// it is added to all outputs: several times as fast as output by output. With groups, the channels
// fall into that many parts that do not see each other.
function conv(step, input, output) {
  const { kernel, stride, padding, groups, weight, bias } = step;
  const inputs = input.channels / groups;  // channels that one output channel sees
  const mapSize = output.height * output.width;
  let next = 0;  // of the weights
  for (let channel = 0; channel < output.channels; channel++) {
    const map = output.data.subarray(channel * mapSize, (channel + 1) * mapSize);
    map.fill(bias ? bias[channel] : 0);
    const first = Math.floor(channel * groups / output.channels) * inputs;
    for (let from = first; from < first + inputs; from++) {
      for (let dy = 0; dy < kernel; dy++) {
        for (let dx = 0; dx < kernel; dx++) {
          const w = weight[next++];
          const [top, bottom] = inside(dy - padding, stride, input.height, output.height);
          const [left, right] = inside(dx - padding, stride, input.width, output.width);
          for (let y = top; y < bottom; y++) {
            let at = (from * input.height + y * stride + dy - padding) * input.width
              + left * stride + dx - padding;
            for (let x = left; x < right; x++, at += stride) {
              map[y * output.width + x] += w * input.data[at];
            }
          }
        }
      }
    }
  }
}

// The outputs [first, end) whose place i × stride + offset is on an input of that size.
function inside(offset, stride, inputSize, outputSize) {
  const first = Math.max(0, Math.ceil(-offset / stride));
  const end = Math.min(outputSize, Math.floor((inputSize - 1 - offset) / stride) + 1);
  return [first, end];
}

// Max and average pool: one number for each window of each channel. Only a max pool is padded.
function pool(step, input, output) {
  const { kind, kernel, stride, padding } = step;
  let at = 0;
  for (let channel = 0; channel < output.channels; channel++) {
    for (let y = 0; y < output.height; y++) {
      for (let x = 0; x < output.width; x++) {
        const top = y * stride - padding, left = x * stride - padding;
        let sum = 0, most = -Infinity;
        for (let row = Math.max(0, top); row < Math.min(input.height, top + kernel); row++) {
          for (let col = Math.max(0, left); col < Math.min(input.width, left + kernel); col++) {
            const value = input.data[(channel * input.height + row) * input.width + col];
            sum += value;
            most = Math.max(most, value);
          }
        }
        output.data[at++] = kind === "maxpool" ? most : sum / kernel ** 2;
      }
    }
  }
}

// A BatchNorm that does not follow a convolution: a factor and a summand for each channel.
function affine(step, input, output) {
  const size = input.height * input.width;
  for (let i = 0; i < input.data.length; i++) {
    const channel = Math.floor(i / size);
    output.data[i] = input.data[i] * step.scale[channel] + step.shift[channel];
  }
}

function relu(step, input, output) {
  input.data.forEach((x, i) => { output.data[i] = Math.max(0, x); });
}

// Every output is a weighted sum of all inputs, and a bias.
function linear(step, input, output) {
  const n = input.data.length;
  for (let i = 0; i < output.data.length; i++) {
    let sum = step.bias ? step.bias[i] : 0;
    for (let j = 0; j < n; j++) sum += step.weight[i * n + j] * input.data[j];
    output.data[i] = sum;
  }
}

const COMPUTE = { conv, affine, maxpool: pool, avgpool: pool, relu, linear };

// ---- the net ------------------------------------------------------------------------------------

function unpack(net) {
  for (const step of net.operations) {
    for (const key of ["weight", "bias", "scale", "shift"]) {
      if (step[key]) step[key] = decode(step[key], Float32Array);
    }
  }
}

Object.values(NETS).forEach(unpack);

// All maps that a net computes of 784 numbers 0..255: first the normalised image, then each
// operation's output. The last one holds the ten logits.
function computeMaps(net, pixels) {
  const image = Float32Array.from(pixels, value => (value / 255 - MEAN) / STD);
  return run(net.operations, { channels: 1, height: 28, width: 28, data: image });
}

// A map, and each operation's output of the one before it.
function run(operations, map) {
  const maps = [map];
  for (const step of operations) {
    const [channels, height = 1, width = 1] = step.shape;
    const output = { channels, height, width, data: new Float32Array(channels * height * width) };
    COMPUTE[step.kind](step, maps.at(-1), output);
    maps.push(output);
  }
  return maps;
}

// Logits to probabilities. The largest is subtracted first, or the exponentials might overflow.
function softmax(logits) {
  const most = Math.max(...logits);
  const parts = Array.from(logits, logit => Math.exp(logit - most));
  const sum = parts.reduce((a, b) => a + b);
  return parts.map(part => part / sum);
}

// What the net sees of 784 numbers, prepared as its recipe asks for it.
function netInput(net, pixels) {
  const preparations = { upright, deskew, none: numbers => Array.from(numbers) };
  return preparations[net.preparation](pixels);
}

// 784 numbers 0..255 (ink is high, as MNIST stores it, not prepared for any net) and 1, 2 or 3, to
// ten probabilities.
function classify(pixels, model) {
  const net = NETS[model];
  return softmax(computeMaps(net, netInput(net, pixels)).at(-1).data);
}

// ---- preparation: utils.upright, utils.deskew and utils.warp, step by step ----------------------
// Coordinates are those of the pixels' centres on a grid that runs from -1 to 1.

const centre = i => (i + 0.5) / 14 - 1;

// 784 numbers, brought to one contrast, slant, place and size: the brightest becomes 255; sheared
// until x and y of the ink are uncorrelated; the ink's centre in the middle, its root mean square
// distance from there SPREAD. Only what is brighter than FAINT counts as ink.
function upright(pixels) {
  const most = Math.max(...pixels, 1);
  const bright = Array.from(pixels, value => value * 255 / most);
  const ink = bright.map(value => Math.max(0, value - 255 * FAINT));
  const { x, y, varianceX, varianceY, covariance } = moments(ink);
  const slope = covariance / Math.max(varianceY, 1e-4);
  const spread = Math.sqrt(Math.max(0, varianceY + varianceX - slope * covariance));
  const zoom = Math.min(Math.max(spread / SPREAD, 0.7), 1.4);
  return warp(bright, [zoom, slope * zoom, x], [0, zoom, y]);
}

// 784 numbers, sheared along their rows about the ink's centre until x and y of the ink are
// uncorrelated.
function deskew(pixels) {
  const { y, varianceY, covariance } = moments(pixels);
  const slope = varianceY > 0 ? covariance / varianceY : 0;
  return warp(pixels, [1, slope, -slope * y], [0, 1, 0]);
}

// The centre of the ink, its variances about it, and the covariance of x and y; 0 without ink.
function moments(ink) {
  const mean = quantity => {
    let sum = 0, total = 0;
    for (let i = 0; i < 784; i++) {
      sum += ink[i] * quantity(centre(i % 28), centre(Math.floor(i / 28)));
      total += ink[i];
    }
    return sum / Math.max(total, 1);
  };
  const x = mean(x => x), y = mean((_, y) => y);
  const varianceX = mean(at => (at - x) ** 2), varianceY = mean((_, at) => (at - y) ** 2);
  return { x, y, varianceX, varianceY, covariance: mean((atX, atY) => atX * (atY - y)) };
}

// Each pixel (x, y) of the result comes from (a x + b y + c, d x + e y + f): a mixture of the four
// pixels between which that place lies. Beyond the edge is no ink.
function warp(pixels, [a, b, c], [d, e, f]) {
  const at = (row, column) =>
    row >= 0 && row < 28 && column >= 0 && column < 28 ? pixels[row * 28 + column] : 0;
  return Array.from({ length: 784 }, (_, i) => {
    const x = centre(i % 28), y = centre(Math.floor(i / 28));
    const column = (a * x + b * y + c + 1) * 14 - 0.5;
    const row = (d * x + e * y + f + 1) * 14 - 0.5;
    const left = Math.floor(column), right = column - left;  // the part that the right one gets
    const top = Math.floor(row), below = row - top;
    const upper = at(top, left) * (1 - right) + at(top, left + 1) * right;
    const lower = at(top + 1, left) * (1 - right) + at(top + 1, left + 1) * right;
    return Math.round(upper * (1 - below) + lower * below);
  });
}

// ---- receptive fields, layers -------------------------------------------------------------------

// The window of input pixels that unit (y, x) of operation `index` sees, the last row and column
// within it. Backwards through the list, a window grows; what hangs over a map's edge is cut off.
function receptiveField(net, index, y, x) {
  let window = { top: y, bottom: y, left: x, right: x };
  for (let i = index; i >= 0; i--) {
    const { kind, kernel, stride, padding } = net.operations[i];
    const [, height = 1, width = 1] = i > 0 ? net.operations[i - 1].shape : [1, 28, 28];
    if (kind === "linear") {
      window = { top: 0, bottom: height - 1, left: 0, right: width - 1 };
    } else if (kernel) {
      const first = at => Math.max(0, at * stride - padding);
      const last = (at, size) => Math.min(size - 1, at * stride - padding + kernel - 1);
      window = { top: first(window.top), bottom: last(window.bottom, height),
                 left: first(window.left), right: last(window.right, width) };
    }
  }
  return window;
}

// The layers as RF.md numbers them: [{ from, to, step, shape, parameters }]. Operations [from, to)
// are a convolution, pool or linear layer, and the BatchNorm and ReLU that follow it.
function layersOf(net) {
  const layers = [];
  net.operations.forEach((step, index) => {
    if (layers.length === 0 || step.kernel || step.kind === "linear") {
      layers.push({ from: index, step, parameters: 0 });
    }
    const layer = layers.at(-1);
    layer.to = index + 1;
    layer.shape = step.shape;
    layer.parameters += step.parameters;
  });
  return layers;
}

// ---- why, and whether ---------------------------------------------------------------------------

// What decided between two digits. The last layer of all three nets is linear in a number for each
// channel: the difference of two logits is the sum of (weight for the one − weight for the other) ×
// number, and of the biases' difference. Each number is the mean, or a weighted sum, of a map: a
// part of it comes from each place. Returns { channels: [{ channel, part, map }], bias, size }.
function reasons(net, maps, one, other) {
  const [{ kind, weight }, last] = net.operations.slice(-2);
  const [before, { data: numbers }] = maps.slice(-3);
  const size = before.height * before.width;
  const pull = channel =>
    last.weight[one * numbers.length + channel] - last.weight[other * numbers.length + channel];
  const channels = Array.from(numbers, (number, channel) => {
    const map = Array.from(before.data.subarray(channel * size, (channel + 1) * size), (value, i) =>
      pull(channel) * value * (kind === "conv" ? weight[channel * size + i] : 1 / size));
    return { channel, part: pull(channel) * number, map };
  });
  const bias = last.bias ? last.bias[one] - last.bias[other] : 0;
  return { channels, bias, size: before };
}

// Whole numbers close to `parts` whose sum is `total`: each part is rounded; what is then missing
// goes to those that lost most by it, one each; what is too much comes from those that won most.
function addUp(parts, total) {
  const whole = parts.map(Math.round);
  const missing = total - whole.reduce((a, b) => a + b, 0);
  const step = Math.sign(missing);
  parts.map((part, i) => [step * (part - whole[i]), i])
    .sort((a, b) => b[0] - a[0])
    .slice(0, Math.abs(missing))
    .forEach(([, i]) => { whole[i] += step; });
  return whole;
}

// How sure one can be that 784 numbers are a digit, of which the nets say these probabilities: the
// logit of a small net that results/doubt.py explains, and taught.
function trust(pixels, answer, probabilities) {
  const operations = NETS[1].operations.slice(0, DOUBT.maps);
  const { channels, data } = computeMaps({ operations }, netInput(NETS[1], pixels)).at(-1);
  const size = data.length / channels;
  const maps = Array.from({ length: channels }, (_, i) => data.subarray(i * size, (i + 1) * size));
  const means = maps.map(map => map.reduce((a, b) => a + b) / size);
  const looks = run([DOUBT.looks], { data: [...means, ...maps.map(map => Math.max(...map))] })[1];
  const distance = Math.hypot(...DOUBT.centres[answer].map((each, i) => each - looks.data[i]));
  const logarithms = probabilities.flat().map(each => Math.max(DOUBT.least, Math.log(each)));
  return run(DOUBT.operations, { data: [...logarithms, distance] }).at(-1).data[0];
}
