"use strict";
// The hand: strokes by mouse, finger, pen or keyboard, and what takes them back. The pointer's own
// handler paints them; update() in page.js computes behind it.

const $ = id => document.getElementById(id);

const state = {
  model: 3,
  strokes: [],     // of the drawing: { thickness, points: [[x, y], ...] } in pixels of #drawing
  loaded: null,    // a digit of DIGITS that is shown in place of the drawing
  pixels: null,    // the 784 numbers, not prepared for any net
  seen: null,      // the same as the chosen net gets them
  empty: true,     // nothing is drawn
  maps: [],        // what the net makes of them: computeMaps()
  unit: null,      // the unit pointed at: { layer, channel, y, x }
  pinned: false,   // whether it stays
  term: null,      // the channel whose part of the pinned unit's sum is shown in full
};

const drawing = $("drawing");
const SIDE = drawing.width, BEYOND = 0.1;  // of the side: so far outside a stroke still counts

// The same strokes a second time, small, alone, and with what lies beyond the edges: what is read.
const SMALL = 140;
const paper = document.createElement("canvas");
paper.width = paper.height = Math.round(SMALL * (1 + 2 * BEYOND));
const brushes = [drawing, paper].map(canvas =>
  canvas.getContext("2d", { willReadFrequently: true }));
brushes[1].setTransform(SMALL / SIDE, 0, 0, SMALL / SIDE, SMALL * BEYOND, SMALL * BEYOND);

let hand = null;       // the stroke being drawn: { pointer: its id or "keyboard", stroke }
const past = [];       // what undo() returns to: { strokes, loaded }
let keyboardPen = [SIDE / 2, SIDE / 2];

// ---- strokes ------------------------------------------------------------------------------------

// Paint a stroke on both canvases, from point `from` on. A dot begins it: not in every browser does
// a line to where it starts leave one.
function paint({ thickness, points }, from = 0) {
  for (const brush of brushes) {
    brush.lineCap = brush.lineJoin = "round";
    brush.beginPath();
    if (from === 0) {
      brush.arc(...points[0], thickness / 2, 0, 2 * Math.PI);
      brush.fill();
      brush.beginPath();
    }
    brush.lineWidth = thickness;
    brush.moveTo(...points[Math.max(0, from - 1)]);
    points.slice(from).forEach(point => brush.lineTo(...point));
    brush.stroke();
  }
}

function repaint() {
  brushes[0].fillStyle = colours.css.ink;
  brushes[0].strokeStyle = colours.css.ink;
  brushes[0].clearRect(0, 0, SIDE, SIDE);
  brushes[1].clearRect(-SIDE, -SIDE, 3 * SIDE, 3 * SIDE);
  if (state.loaded) {
    brushes[0].imageSmoothingEnabled = false;
    const pixels = pixelsOf(state.loaded);
    const image = image28(i => [...colours.rgb.ink, pixels[i]]);
    brushes[0].drawImage(image, 0, 0, SIDE, SIDE);
  }
  state.strokes.forEach(stroke => paint(stroke));
  $("invitation").hidden = state.strokes.length > 0 || state.loaded !== null;
}

// Where a pointer is, in pixels of the canvas, at most BEYOND outside.
function placeOf(event) {
  const box = drawing.getBoundingClientRect();
  const within = place => Math.min(1 + BEYOND, Math.max(-BEYOND, place)) * SIDE;
  return [within((event.clientX - box.left) / box.width),
          within((event.clientY - box.top) / box.height)];
}

function beginStroke(pointer, point) {
  remember();
  if (state.loaded) {
    show(null);
    repaint();
  }
  hand = { pointer, stroke: { thickness: Number($("thickness").value), points: [point] } };
  state.strokes.push(hand.stroke);
  $("invitation").hidden = true;
  paint(hand.stroke);
  update(false);
}

function continueStroke(points) {
  const from = hand.stroke.points.length;
  hand.stroke.points.push(...points);
  paint(hand.stroke, from);
  update(false);
}

function endStroke() {
  hand = null;
  update(true);
}

// ---- mouse, finger, pen: the first one that touches the canvas, until it is lifted --------------

drawing.addEventListener("pointerdown", event => {
  if (hand || event.button !== 0) return;
  beginStroke(event.pointerId, placeOf(event));
  drawing.setPointerCapture(event.pointerId);
});

drawing.addEventListener("pointermove", event => {
  if (hand?.pointer !== event.pointerId) return;
  // A fast hand makes several moves between two frames.
  const moves = event.getCoalescedEvents?.() ?? [];
  continueStroke((moves.length > 0 ? moves : [event]).map(placeOf));
});

for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
  drawing.addEventListener(end, event => {
    if (hand?.pointer === event.pointerId) endStroke();
  });
}

// ---- keyboard -----------------------------------------------------------------------------------

drawing.addEventListener("keydown", event => {
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const down = hand?.pointer === "keyboard";
  if (moves[event.key]) {
    keyboardPen = keyboardPen.map((place, axis) =>
      Math.min(SIDE - 20, Math.max(20, place + 20 * moves[event.key][axis])));
    if (down) continueStroke([keyboardPen]);
  } else if (event.key === " " && down) {
    endStroke();
  } else if (event.key === " " && !hand) {
    beginStroke("keyboard", keyboardPen);
  } else if (event.key === "Delete" || event.key === "Backspace") {
    clear();
  } else {
    return;
  }
  event.preventDefault();
  showPen();
});

// The keyboard's pen is a ring, full when it is down.
function showPen() {
  $("pen").hidden = !drawing.matches(":focus-visible");
  $("pen").className = hand?.pointer === "keyboard" ? "down" : "";
  $("pen").style.left = `${100 * keyboardPen[0] / SIDE}%`;
  $("pen").style.top = `${100 * keyboardPen[1] / SIDE}%`;
}

drawing.addEventListener("focus", showPen);
drawing.addEventListener("blur", () => {
  $("pen").hidden = true;
  if (hand?.pointer === "keyboard") endStroke();
});

// ---- taking back --------------------------------------------------------------------------------

function remember() {
  past.push({ strokes: [...state.strokes], loaded: state.loaded });
}

function clear() {
  if (state.strokes.length > 0 || state.loaded) remember();
  change({ strokes: [], loaded: null });
}

function undo() {
  if (past.length > 0) change(past.pop());
}

// Other strokes, or a digit of DIGITS, in place of what is there. A stroke being drawn ends.
function change({ strokes, loaded }) {
  hand = null;
  state.strokes = strokes;
  show(loaded);
  repaint();
  update(true);
}

$("clear").addEventListener("click", clear);
$("undo").addEventListener("click", undo);
document.addEventListener("keydown", event => {
  if (!(event.ctrlKey || event.metaKey) || event.key !== "z") return;
  event.preventDefault();
  undo();
});
