"use strict";
// From a drawing to what the nets know: 28×28 pixels, made as MNIST's were (LeCun et al. 1998,
// http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf) and by the same rules as in predict.py. A
// picture here is { width, height, data } with numbers from 0 (paper) to 1 (ink), row by row.

// A canvas with one digit, dark on light or light on dark, to 784 numbers 0..255 (ink is high). An
// empty canvas gives zeros.
function prepare(canvas) {
  const ink = inkOf(canvas);
  const box = boundingBox(ink);
  if (!box) return new Array(784).fill(0);

  // 1. The digit alone, its longest side 100 pixels: five for each one of MNIST's box of 20. The
  //    40 around it leave room for thicker strokes.
  const scale = 100 / Math.max(box.right - box.left, box.bottom - box.top);
  const width = Math.max(1, Math.round((box.right - box.left) * scale));
  const height = Math.max(1, Math.round((box.bottom - box.top) * scale));
  const around = {
    left: box.left - 40 / scale, right: box.right + 40 / scale,
    top: box.top - 40 / scale, bottom: box.bottom + 40 / scale,
  };
  let digit = resample(ink, around, width + 80, height + 80);
  const most = digit.data.reduce((a, b) => Math.max(a, b));  // hair lines are pale by now
  digit.data = digit.data.map(value => value / most);

  // 2. Strokes as thick as MNIST's.
  const stroke = strokeWidth(digit);
  const wanted = Math.min(Math.max(stroke, 5 * THIN), 5 * THICK);
  digit = thicken(digit, Math.round((wanted - stroke) / 2));

  // 3. The longest side is 20 pixels, the centre of mass in the middle of 28.
  const now = boundingBox(digit);
  if (!now) return new Array(784).fill(0);
  const pixel = Math.max(now.right - now.left, now.bottom - now.top) / 20;
  const { x, y } = centreOfMass(digit);
  const field = {
    left: x - 14 * pixel, right: x + 14 * pixel,
    top: y - 14 * pixel, bottom: y + 14 * pixel,
  };
  const small = resample(digit, field, 28, 28).data;

  // 4. As dark as MNIST's: four fifths of the ink are below this, and it becomes 255.
  const dark = quantile(small.filter(value => value > 0.25), 0.8) || 1;
  return Array.from(small, value => Math.round(Math.min(1, value / dark) * 255));
}

const THIN = 2, THICK = 4.5;  // pixels of MNIST's box of 20, as in predict.py

// The paper is what most of the canvas's edge shows; ink is how far a pixel is from it, 1 at most.
function inkOf(canvas) {
  const { width, height } = canvas;
  const rgba = canvas.getContext("2d", { willReadFrequently: true })
    .getImageData(0, 0, width, height).data;
  const grey = new Float32Array(width * height);
  for (let i = 0, at = 0; i < grey.length; i++, at += 4) {
    const light = 0.299 * rgba[at] + 0.587 * rgba[at + 1] + 0.114 * rgba[at + 2];
    grey[i] = 255 + (light - 255) * rgba[at + 3] / 255;  // what is transparent is white
  }
  const edge = grey.filter((_, i) => {
    const x = i % width, y = (i - x) / width;
    return x === 0 || y === 0 || x === width - 1 || y === height - 1;
  });
  const paper = quantile(edge, 0.5);
  const distance = grey.map(value => Math.abs(value - paper));
  const most = distance.reduce((a, b) => Math.max(a, b));
  const visible = most > 20;  // of 255: less is an empty canvas
  return { width, height, data: distance.map(value => visible ? value / most : 0) };
}

// The smallest box around the ink, { left, top, right, bottom }, or null if there is none.
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

// The part of a picture inside a box, which may reach beyond it and need not lie on whole pixels, as
// width × height pixels. Each is the mean of the area that it covers, so nothing is jagged. Rows
// first, then columns.
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
