"use strict";
// What you read: the answer, why it is that one, samples; and update(), which computes everything
// behind the hand, at most once a frame.

const count = number => number.toLocaleString("en");
const percent = part => `${(100 * part).toFixed(1)} %`;
const likeliest = numbers => numbers.indexOf(Math.max(...numbers));
const COUNTS = "no one two three four five six seven eight nine".split(" ");
const NO_DIGIT = "no digit, I think";

// ---- the answer ---------------------------------------------------------------------------------

// What 784 numbers are: { digit, text }. The chosen net says the digit, null where there is none;
// all three decide whether to trust it, and what else it might be.
function judge(pixels) {
  const nets = Object.keys(NETS).map(model => classify(pixels, model));
  const own = nets[state.model - 1];
  const digit = likeliest(own);
  const sure = trust(pixels, digit, nets);
  if (sure < DOUBT.none) return { digit: null, text: NO_DIGIT };
  if (sure > DOUBT.perhaps) return { digit, text: `${digit} ${percent(own[digit])}` };
  const sums = own.map((_, each) => nets.reduce((sum, net) => sum + net[each], 0));
  sums[digit] = 0;
  return { digit, text: `${digit} or perhaps ${likeliest(sums)}` };
}

// The same for the whole drawing, which may hold several digits.
function read() {
  if (state.empty) return "";
  const sure = pixels => Math.max(...classify(pixels, state.model));
  const found = state.loaded ? [] : findDigits(inkOf(paper), sure);
  if (found.length < 2) return judge(state.pixels).text;
  if (found.length >= COUNTS.length) return NO_DIGIT;
  const digits = found.map(ink => judge(toMnist(ink)).digit);
  return digits.includes(null) ? NO_DIGIT : `${COUNTS[digits.length]} digits: ${digits.join("")}`;
}

function paintAnswer(text) {
  $("answer").textContent = text;
  $("answer").className = /^\d \d/.test(text) ? "" : "long";
  $("label").textContent = state.loaded ? `A test digit, labelled ${state.loaded.label}` : "";
}

function paintBars() {
  const probabilities = softmax(state.maps.at(-1).data);
  const best = likeliest(probabilities);
  [...$("bars").children].forEach((bar, digit) => {
    const part = state.empty ? 0 : probabilities[digit];
    bar.className = digit === best && !state.empty ? "first" : "";
    bar.children[1].style.width = `${100 * part}%`;
    bar.children[2].textContent = state.empty ? "" : (100 * part).toFixed(1);
  });
  return { probabilities, best };
}

// ---- why ----------------------------------------------------------------------------------------

// What decided between the answer and its runner-up, in hundredths that add up.
function paintWhy() {
  $("why").replaceChildren();
  $("why-title").textContent = "Why";
  $("why-help").textContent = "The six numbers that decide most will stand here.";
  if (state.empty) return;
  const logits = Array.from(state.maps.at(-1).data);
  const one = likeliest(logits);
  const other = likeliest(logits.map((value, digit) => digit === one ? -Infinity : value));
  const { channels, bias, size } = reasons(NETS[state.model], state.maps, one, other);
  channels.sort((a, b) => Math.abs(b.part) - Math.abs(a.part));
  const first = channels.slice(0, 6), rest = channels.slice(6);
  const others = rest.reduce((sum, { part }) => sum + part, 0);
  const [high, low] = [one, other].map(digit => Math.round(100 * logits[digit]));
  const exact = [...first.map(({ part }) => part), others, bias];
  const parts = addUp(exact.map(part => 100 * part), high - low);
  const most = Math.max(...first.flatMap(({ map }) => map.map(Math.abs)));

  const why = $("answer").textContent.endsWith("%") ? "Why" : "The net by itself: why";
  $("why-title").textContent = `${why} ${one} and not ${other}?`;
  $("why-help").innerHTML = `Logit of ${one}: ${hundredths(high)}, of ${other}: ${hundredths(low)}.
    Their difference is a sum of weight × number, a map each: what is
    <span class="positive">positive</span> speaks for ${one}, what is
    <span class="negative">negative</span> for ${other}. The maps, of
    ${size.height}×${size.width}, are stretched over the digit.`;
  const names = first.map(({ channel }) => `map ${channel + 1}`);
  names.push(`the other ${rest.length}`, "biases", "difference");
  parts.push(high - low);
  parts.forEach((part, i) => {
    const item = document.createElement("li");
    if (i < first.length) item.append(reasonImage(first[i].map, size, most));
    const sign = part > 0 ? "positive" : "negative";
    const isSum = i === parts.length - 1;
    const before = isSum ? "= " : part < 0 ? "" : "+";
    item.insertAdjacentHTML("beforeend",
      `<b class="${sign}">${before}${hundredths(part)}</b> <span>${names[i]}</span>`);
    $("why").append(item);
  });
}

const hundredths = whole => (whole / 100).toFixed(2).replace("-", "−");

// A map over the digit: where it speaks for the answer, and where against it.
function reasonImage(map, { height, width }, most) {
  const { sheet, ink, positive, negative } = colours.rgb;
  return image28(i => {
    const row = Math.floor(Math.floor(i / 28) * height / 28);
    const part = map[row * width + Math.floor(i % 28 * width / 28)] / most;
    const ground = mix(sheet, part > 0 ? positive : negative, 0.85 * Math.abs(part));
    return [...mix(ground, ink, 0.7 * state.seen[i] / 255), 255];
  });
}

// ---- samples and nets ---------------------------------------------------------------------------

const pixelsOf = digit => Array.from(decode(digit.pixels, Uint8Array));

// Say which digit of DIGITS is shown; null for the drawing.
function show(digit) {
  state.loaded = digit;
  document.querySelectorAll(".strip button").forEach(button =>
    button.setAttribute("aria-pressed", button.dataset.index === String(digit?.index)));
}

// One row of samples, and those that the chosen net misreads. A row is one tab stop; arrows go on.
function buildStrips() {
  const wrong = DIGITS.filter(({ misread }) => misread[state.model] !== undefined);
  const samples = DIGITS.slice(0, SAMPLES);
  $("strip").replaceChildren(...samples.map(digit => sampleButton(digit, digit.label)));
  $("misread").replaceChildren(...wrong.map(digit =>
    sampleButton(digit, `${digit.label} → ${digit.misread[state.model]}`)));
  for (const strip of document.querySelectorAll(".strip")) strip.firstChild.tabIndex = 0;
  show(state.loaded);
}

function sampleButton(digit, text) {
  const button = document.createElement("button");
  button.type = "button";
  button.tabIndex = -1;
  button.dataset.index = digit.index;
  button.append(onPaper(pixelsOf(digit)), text);
  button.title = `Test digit ${digit.index}, labelled ${digit.label}`;
  button.addEventListener("click", () => {
    remember();
    change({ strokes: [], loaded: digit });
  });
  button.addEventListener("keydown", event => {
    const next = { ArrowRight: button.nextSibling, ArrowLeft: button.previousSibling }[event.key];
    if (!next) return;
    event.preventDefault();
    button.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
  return button;
}

// The drawing as the end of this page's address: of each stroke the thickness and the points; of a
// test digit its number.
function addressOf() {
  if (state.loaded) return `#${state.loaded.index}`;
  const texts = state.strokes.map(({ thickness, points }) => [thickness, ...points.flat()]);
  return `#${texts.map(numbers => numbers.map(Math.round).join()).join(";")}`;
}

function showAddress() {
  const text = location.hash.slice(1), texts = text.split(";");
  const loaded = DIGITS.find(({ index }) => text === String(index)) ?? null;
  const isDrawing = texts.every(each => /^\d+(,-?\d+,-?\d+)+$/.test(each));
  if ((!loaded && !isDrawing) || location.hash === addressOf()) return;
  const strokes = loaded ? [] : texts.map(each => ({
    thickness: parseInt(each),
    points: [...each.matchAll(/,(-?\d+),(-?\d+)/g)].map(([, x, y]) => [Number(x), Number(y)]),
  }));
  remember();
  change({ strokes, loaded });
}

$("models").addEventListener("change", event => {
  Object.assign(state, { model: Number(event.target.value), unit: null, pinned: false, maps: [] });
  buildLayers();
  buildStrips();
  update(true);
});

// ---- everything anew ----------------------------------------------------------------------------

const REST = 150;  // milliseconds: a pen that did not move for so long rests
let isPlanned = false, isAtRest = false, timer = 0;

// Compute at the next frame. At rest, or where nothing moves, the answer is judged as well; while
// the pen moves, there is the chosen net alone.
function update(atRest) {
  isAtRest = atRest;
  clearTimeout(timer);
  if (isPlanned) return;
  isPlanned = true;
  requestAnimationFrame(() => {
    isPlanned = false;
    compute();
    if (isAtRest) rest();
    else timer = setTimeout(rest, REST);
  });
}

function compute() {
  const net = NETS[state.model];
  state.pixels = state.loaded ? pixelsOf(state.loaded) : prepare(paper);
  state.empty = state.pixels.every(value => value === 0);
  state.seen = netInput(net, state.pixels);
  const began = performance.now();
  state.maps = computeMaps(net, state.seen);
  state.milliseconds = performance.now() - began;
  onPaper(state.seen, $("seen"));
  const { probabilities, best } = paintBars();
  paintAnswer(state.empty ? "" : `${best} ${percent(probabilities[best])}`);
  layers.forEach(paintLayer);
  paintUnit();
}

function rest() {
  const text = read();
  paintAnswer(text);
  paintWhy();
  const { parameters } = NETS[state.model];
  $("link").href = addressOf();
  $("png").href = image28(i => [...Array(3).fill(state.pixels[i]), 255]).toDataURL();
  $("cost").textContent = `Model ${state.model}: ${count(parameters)} parameters, `
    + `${count(4 * parameters)} bytes; here ${state.milliseconds.toFixed(1)} ms a digit.`;
  if (!hand) $("announcement").textContent = text;
}

// At once, for a printer does not wait.
function changeColours() {
  readColours();
  buildStrips();
  repaint();
  compute();
  rest();
  arrange();
}

buildLayers();
changeColours();
showAddress();
for (const query of ["(prefers-color-scheme: dark)", "(forced-colors: active)", "print"]) {
  matchMedia(query).addEventListener("change", changeColours);
}
addEventListener("resize", arrange);
addEventListener("hashchange", showAddress);
