"use strict";
// From a drawing to 28×28 pixels, made as MNIST's were, by the rules and constants of picture.py. A
// picture is { width, height, data } with numbers from 0 (paper) to 1 (ink), row by row.

// A canvas with one digit to 784 numbers 0..255 (ink is high). Where the canvas is transparent, ink
// is alpha; else it is dark on light or light on dark. An empty canvas gives zeros.
function prepare(canvas) {
  return toMnist(inkOf(canvas));
}

// The same for the ink of one digit.
function toMnist(ink) {
  const box = boundingBox(ink);
  if (!box) return new Array(784).fill(0);

  // 1. The digit, its longest side five times MNIST's box, with room for thicker strokes.
  const long = PICTURE.FINE * PICTURE.SIDE, margin = 8 * PICTURE.FINE;
  const scale = long / Math.max(box.right - box.left, box.bottom - box.top);
  const width = Math.max(1, Math.round((box.right - box.left) * scale));
  const height = Math.max(1, Math.round((box.bottom - box.top) * scale));
  const larger = { left: box.left - margin / scale, right: box.right + margin / scale,
                   top: box.top - margin / scale, bottom: box.bottom + margin / scale };
  let digit = resample(ink, larger, width + 2 * margin, height + 2 * margin);
  const most = digit.data.reduce((a, b) => Math.max(a, b));  // hair lines are pale by now
  digit.data = digit.data.map(value => value / most);

  // 2. Strokes as thick as MNIST's.
  const stroke = strokeWidth(digit);
  const wanted = PICTURE.FINE
    * Math.min(Math.max(stroke / PICTURE.FINE, PICTURE.THIN), PICTURE.THICK);
  digit = thicken(digit, Math.round((wanted - stroke) / 2));

  // 3. The longest side is 20 pixels, the centre of mass in the middle of 28.
  const now = boundingBox(digit);
  if (!now) return new Array(784).fill(0);
  const pixel = Math.max(now.right - now.left, now.bottom - now.top) / PICTURE.SIDE;
  const { x, y } = centreOfMass(digit);
  const half = PICTURE.FIELD / 2 * pixel;
  const field = { left: x - half, right: x + half, top: y - half, bottom: y + half };
  const small = resample(digit, field, PICTURE.FIELD, PICTURE.FIELD).data;

  // 4. As dark as MNIST's: four fifths of the ink are below this, and it becomes 255.
  const dark = quantile(small.filter(value => value > PICTURE.FAINT_INK), PICTURE.DARK) || 1;
  return Array.from(small, value => Math.round(Math.min(1, value / dark) * 255));
}

// Ink of a canvas, 1 at most. If some of it is transparent, that is alpha, the mean of squares of
// pixels, so that the longer side has about 140. Else it is how far a pixel is from the paper, what
// most of the canvas's edge shows.
function inkOf(canvas) {
  const { width, height } = canvas;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const rgba = context.getImageData(0, 0, width, height).data;
  const isTransparent = rgba.some((value, i) => i % 4 === 3 && value < 255);
  const ink = isTransparent ? alphaOf(rgba, width, height) : distancesOf(rgba, width, height);
  const most = ink.data.reduce((a, b) => Math.max(a, b));
  const scale = most > 20 ? 1 / most : 0;  // of 255: less is an empty canvas
  ink.data = ink.data.map(value => value * scale);
  return ink;
}

function alphaOf(rgba, width, height) {
  const side = Math.max(1, Math.floor(Math.max(width, height) / 140));
  const ink = { width: Math.ceil(width / side), height: Math.ceil(height / side) };
  ink.data = new Float32Array(ink.width * ink.height);
  for (let y = 0, at = 3; y < height; y++) {
    const row = Math.floor(y / side) * ink.width;
    for (let x = 0; x < width; x++, at += 4) {
      if (rgba[at] > 0) ink.data[row + Math.floor(x / side)] += rgba[at] / side ** 2;
    }
  }
  return ink;
}

function distancesOf(rgba, width, height) {
  const grey = Float32Array.from({ length: width * height }, (_, i) =>
    0.299 * rgba[4 * i] + 0.587 * rgba[4 * i + 1] + 0.114 * rgba[4 * i + 2]);
  const isInside = (x, y) => x > 0 && y > 0 && x < width - 1 && y < height - 1;
  const edge = grey.filter((_, i) => !isInside(i % width, Math.floor(i / width)));
  const paper = quantile(edge, 0.5);
  return { width, height, data: grey.map(value => Math.abs(value - paper)) };
}

// ---- several digits -----------------------------------------------------------------------------

// The digits in a drawing's ink, as find_digits() of picture.py finds them: pictures of one digit
// each, row by row. `sure` says of 784 numbers how sure a net is that they are a digit.
function findDigits(ink, sure) {
  const speck = Math.max(2, PICTURE.SPECK * Math.max(ink.width, ink.height));
  let kept = findPieces(ink).filter(({ box }) => Math.max(wide(box), high(box)) >= speck);
  kept = kept.filter(({ box }) => !kept.some(other =>  // no frames: they have a large piece inside
    other.box.left > box.left && other.box.right < box.right && other.box.top > box.top
    && other.box.bottom < box.bottom && 3 * high(other.box) > high(box)));
  if (kept.length === 0) return [];
  const largest = kept.reduce((a, b) => a.size >= b.size ? a : b);
  kept = kept.filter(({ box }) =>  // no underlines
    wide(box) <= 5 * high(box) || wide(box) <= wide(largest.box));
  if (kept.length > 40) return [];  // no digits, and joining them would take long

  const height = high(largest.box);
  const sureOf = piece => sure(toMnist(piece));
  kept = join(kept, (a, b) => bond(a.box, b.box, height) === "parts");
  kept = join(kept, (a, b) => bond(a.box, b.box, height) === "halves"
    && sureOf(joined(a, b)) > Math.min(sureOf(a), sureOf(b)) - PICTURE.LESS_SURE);
  const tallest = Math.max(...kept.map(({ box }) => high(box)));
  kept = kept.filter(({ box }) => high(box) > PICTURE.LOW * tallest);
  return kept.sort(({ box: a }, { box: b }) =>  // row by row
    a.bottom < b.top ? -1 : b.bottom < a.top ? 1 : a.left - b.left);
}

const wide = box => box.right - box.left;
const high = box => box.bottom - box.top;

// The connected pieces of ink, each a picture of the same size, with the box around it and its size
// in pixels. Pixels that touch at a corner are connected.
function findPieces({ width, height, data }) {
  const left = data.map(value => value < 0.5 ? 0 : value);
  const pieces = [];
  for (let start = 0; start < left.length; start++) {
    if (left[start] === 0) continue;
    const piece = { width, height, data: new Float32Array(left.length) };
    const found = [start];
    for (const place of found) {  // it grows while it is read
      const x = place % width, y = (place - x) / width;
      for (let row = Math.max(0, y - 1); row <= Math.min(height - 1, y + 1); row++) {
        for (let column = Math.max(0, x - 1); column <= Math.min(width - 1, x + 1); column++) {
          const next = row * width + column;
          if (left[next] === 0) continue;
          piece.data[next] = left[next];
          left[next] = 0;
          found.push(next);
        }
      }
    }
    pieces.push({ ...piece, box: boundingBox(piece), size: found.length });
  }
  return pieces;
}

// Join pieces until no two belong together any more.
function join(pieces, belong) {
  for (const one of pieces) {
    const other = pieces.find(piece => piece !== one && belong(one, piece));
    if (!other) continue;
    const rest = pieces.filter(piece => piece !== one && piece !== other);
    return join([joined(one, other), ...rest], belong);
  }
  return pieces;
}

function joined(a, b) {
  const data = a.data.map((value, i) => value + b.data[i]);
  return { ...a, data, box: around(a.box, b.box), size: a.size + b.size };
}

function around(a, b) {
  return { left: Math.min(a.left, b.left), right: Math.max(a.right, b.right),
           top: Math.min(a.top, b.top), bottom: Math.max(a.bottom, b.bottom) };
}

// Whether two boxes hold "parts" of one digit, which a broken stroke has parted, or perhaps its
// "halves", as the two circles of an 8.
function bond(a, b, height) {
  const across = Math.max(a.left, b.left) - Math.min(a.right, b.right);  // below 0: they overlap
  const down = Math.max(a.top, b.top) - Math.min(a.bottom, b.bottom);
  const isAbove = -across > PICTURE.OVERLAP * Math.min(wide(a), wide(b));
  const isBeside = -down > PICTURE.OVERLAP * Math.min(high(a), high(b));
  const both = around(a, b);
  const isLow = high(both) < PICTURE.TALL * height;
  const isNear = (isAbove && down < PICTURE.ABOVE * height)
    || (isBeside && across < PICTURE.BESIDE * height);
  if (isNear && isLow && Math.min(high(a), high(b)) < PICTURE.PART * height) return "parts";
  const isCompact = isLow || high(both) < PICTURE.SLIM * wide(both);
  return isAbove && down < PICTURE.GAP * height && isCompact ? "halves" : "";
}

// The smallest box around the ink, or null if there is none.
function boundingBox({ width, height, data }) {
  let left = width, top = height, right = 0, bottom = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (data[y * width + x] < 0.5) continue;
      left = Math.min(left, x);
      right = Math.max(right, x + 1);
      top = Math.min(top, y);
      bottom = Math.max(bottom, y + 1);
    }
  }
  return right > left ? { left, top, right, bottom } : null;
}

// The part of a picture inside a box, which may reach beyond it, as width × height pixels, each the
// mean of the area that it covers. Rows first, then columns.
function resample(picture, box, width, height) {
  const rows = averages(box.left, box.right, picture.width, width);
  const columns = averages(box.top, box.bottom, picture.height, height);
  const narrow = new Float32Array(width * picture.height);
  for (let y = 0; y < picture.height; y++) {
    rows.forEach((shares, x) => {
      for (const [from, share] of shares) {
        narrow[y * width + x] += share * picture.data[y * picture.width + from];
      }
    });
  }
  const data = new Float32Array(width * height);
  columns.forEach((shares, y) => {
    for (const [from, share] of shares) {
      for (let x = 0; x < width; x++) data[y * width + x] += share * narrow[from * width + x];
    }
  });
  return { width, height, data };
}

// For each of `count` equal pieces of a stretch of a line: which pixels it covers, and what share
// of it each of them is.
function averages(start, end, size, count) {
  const step = (end - start) / count;
  return Array.from({ length: count }, (_, i) => {
    const low = start + i * step, high = low + step;
    const shares = [];
    for (let from = Math.max(0, Math.floor(low)); from < Math.min(size, high); from++) {
      shares.push([from, (Math.min(high, from + 1) - Math.max(low, from)) / step]);
    }
    return shares;
  });
}

// The strokes' mean width in pixels: twice the area for the length of the outline. The outline of a
// curve on a grid of pixels is longer than the curve by 4/π on average.
function strokeWidth({ width, height, data }) {
  let area = 0, outline = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const inside = data[y * width + x] > 0.5;
      area += inside;
      outline += x > 0 && inside !== data[y * width + x - 1] > 0.5;
      outline += y > 0 && inside !== data[(y - 1) * width + x] > 0.5;
    }
  }
  return 2 * area / Math.max(1, outline * Math.PI / 4);
}

// Each pixel becomes the darkest within `reach` of it, in a square; the lightest, if reach is
// negative. Rows first, then columns.
function thicken({ width, height, data }, reach) {
  const pick = reach > 0 ? Math.max : Math.min;
  const far = Math.abs(reach);
  const along = (from, step, size) => {
    const result = new Float32Array(from.length);
    for (let i = 0; i < from.length; i++) {
      const place = Math.floor(i / step) % size;
      const low = Math.max(-far, -place), high = Math.min(far, size - 1 - place);
      let value = from[i];
      for (let d = low; d <= high; d++) value = pick(value, from[i + d * step]);
      result[i] = value;
    }
    return result;
  };
  return { width, height, data: along(along(data, 1, width), width, height) };
}

function centreOfMass({ width, data }) {
  let ink = 0, sumX = 0, sumY = 0;
  data.forEach((value, i) => {
    ink += value;
    sumX += value * (i % width + 0.5);
    sumY += value * (Math.floor(i / width) + 0.5);
  });
  return { x: sumX / ink, y: sumY / ink };
}

// The number that a part of the values lies below; undefined if there are none.
function quantile(values, part) {
  const sorted = Float32Array.from(values).sort();
  return sorted[Math.floor(part * (sorted.length - 1))];
}
