"""The demo: made photos through predict.py, nets as lists of operations, the page in a browser."""

import base64
import functools
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys  # noqa: E402, I001
import time

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image, ImageDraw, ImageFilter
from torch import nn

import train
import utils

sys.path.insert(0, str(ROOT / "demo"))
import export  # noqa: E402
import picture  # noqa: E402
import predict  # noqa: E402

MODELS = ("1", "2", "3")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
STROKES = {  # digits as a pen draws them, in a unit square
    "0": [(.5, .1), (.3, .2), (.22, .5), (.3, .8), (.5, .9), (.7, .8), (.78, .5), (.7, .2),
          (.5, .1)],
    "1": [(.4, .25), (.55, .1), (.55, .9)],
    "2": [(.25, .3), (.35, .15), (.55, .1), (.7, .2), (.7, .4), (.25, .9), (.75, .9)],
    "3": [(.3, .15), (.6, .1), (.7, .25), (.6, .45), (.4, .48), (.65, .52), (.75, .7), (.6, .88),
          (.3, .85)],
    "4": [(.6, .9), (.6, .1), (.2, .6), (.8, .6)],
    "5": [(.7, .1), (.35, .1), (.3, .45), (.6, .42), (.75, .6), (.65, .85), (.3, .88)],
    "6": [(.65, .1), (.4, .3), (.28, .6), (.35, .85), (.6, .88), (.7, .7), (.6, .55), (.35, .6)],
    "7": [(.25, .12), (.75, .12), (.45, .9)],
    "8": [(.5, .48), (.3, .3), (.5, .1), (.7, .3), (.5, .48), (.28, .7), (.5, .9), (.72, .7),
          (.5, .48)],
    "9": [(.7, .3), (.5, .1), (.3, .3), (.5, .5), (.7, .3), (.65, .9)],
}


@functools.cache
def published(model):
    """(net, recipe) of a model's published seed 0."""
    return predict.load_net(model)


@pytest.fixture(scope="module")
def test_set(mnist):
    return utils.load_mnist(mnist, train=False)


# ---- made pictures -----------------------------------------------------------------------------
def pen_strokes(digit, height, boldness):
    """A test digit as a pen's mask (mode L), `height` pixels high, thinner or thicker than it is by
    boldness -1 to 1."""
    rows, columns = np.nonzero(digit > 60)
    digit = np.pad(digit[rows.min():rows.max() + 1, columns.min():columns.max() + 1], 2)
    zoom = height / (np.ptp(rows) + 1)
    size = [max(1, round(side * zoom)) for side in digit.shape[::-1]]
    mask = Image.fromarray(digit).resize(size, Image.Resampling.BICUBIC)
    mask = mask.filter(ImageFilter.GaussianBlur(float(0.35 * zoom)))
    level = 90 - 60 * min(0, boldness)
    mask = mask.point(lambda value: max(0, min(255, 8 * (value - level) + 128)))
    thicker = round(0.9 * zoom * max(0, boldness))
    return mask.filter(ImageFilter.MaxFilter(2 * thicker + 1)) if thicker else mask


def made_photo(digits, rng):
    """A photo of digits, uint8 (28, 28) each, in a row: the paper plain, ruled or squared, the
    light uneven, the pen of any colour, dark or light; turned, blurred, noisy, JPEG."""
    width, height = ((320, 240), (240, 320), (360, 360))[rng.integers(3)]
    light_ink = rng.random() < 0.25
    paper = rng.integers(0, 70, 3) if light_ink else rng.integers(185, 256, 3)
    ink = rng.integers(160, 256, 3) if light_ink else rng.integers(0, 110, 3)
    size = min(rng.uniform(0.2, 0.6) * height, 0.85 * width / len(digits))
    masks = [pen_strokes(digit, size, rng.uniform(-0.8, 0.9)) for digit in digits]
    gap = 0.2 * size
    total = sum(mask.width for mask in masks) + gap * (len(masks) - 1)
    shrink = min(1, 0.8 * width / total)
    masks = [mask.resize([max(1, round(side * shrink)) for side in mask.size]) for mask in masks]
    x = rng.uniform(0.1 * width, max(0.1 * width + 1, 0.9 * width - total * shrink))
    y = rng.uniform(0.2 * height, 0.8 * height - size * shrink)
    written = Image.new("L", (width, height))
    for mask in masks:
        written.paste(mask, (round(x), round(y)), mask)
        x += mask.width + gap * shrink
    # Lines longer than the picture, turned with it or not.
    lines = Image.new("L", (2 * width, 2 * height))
    step, pen = int(rng.uniform(18, 40)), ImageDraw.Draw(lines)
    kind = rng.choice(["plain", "ruled", "squared"])
    for at in range(0, 2 * max(width, height), step):
        if kind != "plain":
            pen.line((0, at, 2 * width, at), 255)
        if kind == "squared":
            pen.line((at, 0, at, 2 * height), 255)
    angle = rng.uniform(-15, 15)
    lines = lines.rotate(angle * rng.integers(2), Image.Resampling.BICUBIC)
    lines = lines.crop((width // 2, height // 2, width // 2 + width, height // 2 + height))
    written = written.rotate(angle, Image.Resampling.BICUBIC)
    line_colour = paper + 50 if light_ink else np.array([150, 170, 210])
    image = paper.astype(float)
    for mask, colour in ((lines, line_colour), (written, ink)):
        share = np.asarray(mask)[..., None] / 255
        image = image * (1 - share) + colour * share
    # Light from one side, darker corners, now and then the edge of a shadow.
    across, down = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    turn = rng.uniform(0, 2 * np.pi)
    side = across * np.cos(turn) + down * np.sin(turn)
    light = 1 - rng.uniform(0, 0.25) * (1 + side) - rng.uniform(0, 0.15) * (across**2 + down**2)
    if rng.random() < 0.3:
        light *= 1 - rng.uniform(0.1, 0.45) / (1 + np.exp((side + 0.4) * rng.uniform(10, 80)))
    image = image * light[..., None] + rng.normal(0, rng.uniform(0, 10), image.shape)
    photo = Image.fromarray(image.clip(0, 255).astype(np.uint8))
    photo = photo.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 1.2))))
    if rng.random() < 0.6:
        photo.save(file := io.BytesIO(), "JPEG", quality=int(rng.integers(40, 95)))
        photo = Image.open(file)
    return photo


def read(image, model="3"):
    """The number that predict.py reads in an image."""
    return "".join(str(each["digit"]) for each in predict.read(image, *published(model)))


def drawn(text, size=100, pen=9, ink=(20, 30, 120), paper="white", margin=60):
    """Digits as strokes of a round pen, in a row: an RGB image."""
    image = Image.new("RGB", (2 * margin + size * len(text), 2 * margin + size), paper)
    draw = ImageDraw.Draw(image)
    for place, digit in enumerate(text):
        points = [(margin + size * (place + x), margin + size * y) for x, y in STROKES[digit]]
        draw.line(points, ink, pen, joint="curve")
        for x, y in points:
            draw.ellipse((x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2), ink)
    return image


# ---- predict.py --------------------------------------------------------------------------------
def test_made_photos_are_read(test_set):
    images, labels = (part.numpy() for part in test_set)
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(images), 40, replace=False)
    wrong = [int(i) for i in chosen if read(made_photo([images[i]], rng)) != str(labels[i])]
    assert len(wrong) <= 1, f"misread test digits: {wrong}"


def test_numbers_are_read_from_left_to_right(test_set):
    images, labels = (part.numpy() for part in test_set)
    rng = np.random.default_rng(1)
    right = 0
    for _ in range(10):
        chosen = rng.choice(len(images), rng.integers(2, 7))
        right += read(made_photo(images[chosen], rng)) == "".join(map(str, labels[chosen]))
    assert right >= 8


@pytest.mark.parametrize("pen", [2, 9, 22])
def test_strokes_of_any_pen_are_read(pen):
    assert read(drawn("0123456789", pen=pen)) == "0123456789"
    assert read(drawn("7", 300, pen, ink="white", paper=(30, 60, 40))) == "7"


@pytest.mark.parametrize("form", ["boxes", "comb", "underlines"])
def test_a_number_on_a_form_is_read(form):
    image = drawn("314270", size=110, pen=7)
    draw = ImageDraw.Draw(image)
    for place in range(6):
        left, right = 62 + 110 * place, 166 + 110 * place
        if form == "boxes":
            draw.rectangle((left, 50, right, 175), outline="black", width=2)
        elif form == "comb":
            draw.rectangle((60, 50, 60 + 110 * (place + 1), 175), outline="black", width=2)
        else:
            draw.line((left, 172, right, 172), "black", 2)
    assert read(image) == "314270"


def test_prepared_digits_look_as_mnist_stored_them(test_set):
    rng = np.random.default_rng(2)
    for digit in test_set[0][:12].numpy():
        side = rng.integers(80, 400)
        small = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
        slope = Image.linear_gradient("L").resize((600, 500)).point(lambda value: value // 6)
        paper = Image.composite(Image.new("RGB", (600, 500), (190, 190, 180)),
                                Image.new("RGB", (600, 500), (250, 250, 240)),
                                slope)
        left, top = rng.integers(0, 600 - side), rng.integers(0, 500 - side)
        ink = Image.new("RGB", small.size, tuple(rng.integers(0, 90, 3).tolist()))
        paper.paste(ink, (left, top), small)
        pixels, boxes = picture.prepare(paper)
        assert pixels.shape == (1, 28, 28) and pixels.dtype == np.uint8
        rows, columns = np.nonzero(digit > 60)
        expected = [left + columns.min() * side / 28, top + rows.min() * side / 28,
                    (np.ptp(columns) + 1) * side / 28, (np.ptp(rows) + 1) * side / 28]
        assert boxes[0] == pytest.approx(expected, abs=0.04 * side)
        alike = max(np.corrcoef(digit.ravel(), np.roll(pixels[0], shift, (0, 1)).ravel())[0, 1]
                    for shift in [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)])
        assert alike > 0.85


KINDS = {
    "grey": lambda ink: ink.convert("L"),
    "black and white": lambda ink: ink.convert("L").point(lambda value: 255 * (value > 128), "1"),
    "palette": lambda ink: ink.convert("P"),
    "cmyk": lambda ink: ink.convert("CMYK"),
    "16 bit": lambda ink: Image.fromarray(np.asarray(ink.convert("L"), dtype=np.uint16) * 200),
    "transparent paper": lambda ink: transparent(ink, "black"),
    "light ink on transparent paper": lambda ink: transparent(ink, "white"),
    "thumbnail": lambda ink: ink.resize((28, 28), Image.Resampling.BOX),
}


def transparent(image, colour):
    layer = Image.new("RGBA", image.size, colour)
    layer.putalpha(image.convert("L").point(lambda value: 255 - value))
    return layer


@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_of_picture_is_read(kind, tmp_path):
    suffix = "tif" if kind == "cmyk" else "png"
    for digit in "2", "7":
        KINDS[kind](drawn(digit, 200, 20)).save(tmp_path / f"it.{suffix}")
        assert read(predict.open_picture(tmp_path / f"it.{suffix}")) == digit


def test_a_photo_lies_as_its_exif_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    drawn("7", 200, 20).rotate(90, expand=True).save(tmp_path / "it.jpg", exif=exif)
    assert read(predict.open_picture(tmp_path / "it.jpg")) == "7"


def test_twelve_megapixels_take_less_than_two_seconds(tmp_path):
    photo = Image.new("RGB", (4000, 3000), (235, 230, 215))
    photo.paste(drawn("2057", 700, 60, paper=(235, 230, 215)), (500, 1000))
    photo.save(tmp_path / "it.jpg")
    began = time.process_time()
    assert read(predict.open_picture(tmp_path / "it.jpg")) == "2057"
    assert time.process_time() - began < 2


def nothing(kind):
    """A picture without a digit."""
    rng = np.random.default_rng(0)
    if kind == "blank":
        return Image.new("RGB", (300, 200), "white")
    if kind == "one pixel":
        return Image.new("L", (1, 1))
    if kind == "a strip":
        return Image.new("L", (4000, 1), 200)
    if kind == "gradient":
        return Image.linear_gradient("L").resize((400, 300))
    if kind == "noise":
        return Image.fromarray(rng.integers(0, 256, (300, 400, 3), dtype=np.uint8))
    if kind == "ruled paper":
        image = Image.new("RGB", (400, 300), "white")
        for at in range(10, 300, 20):
            ImageDraw.Draw(image).line((0, at, 400, at + 12), (140, 170, 220), 2)
        return image
    ripples = np.sin(np.arange(400) / 9) + np.sin(np.arange(300) / 7)[:, None]
    return Image.fromarray((127 + 50 * ripples).astype(np.uint8))


@pytest.mark.parametrize("kind", ["blank", "one pixel", "a strip", "gradient", "noise",
                                  "ruled paper", "ripples"])
def test_where_is_no_digit_none_is_read(kind):
    assert read(nothing(kind)) == ""


def command(capsys, *args):
    """(exit status, lines of stdout, lines of stderr) of predict.py."""
    status = predict.main([str(arg) for arg in args])
    out, err = capsys.readouterr()
    return status, out.splitlines(), err.splitlines()


def test_the_command_line(capsys, tmp_path):
    drawn("42").save(tmp_path / "number.png")
    nothing("blank").save(tmp_path / "blank.png")
    (tmp_path / "text.jpg").write_text("no picture")
    names = [tmp_path / name for name in ("missing.png", "text.jpg", "blank.png", "number.png")]

    status, out, err = command(capsys, *names, "--json", "--out", tmp_path / "seen")
    assert status == 1
    assert len(err) == 2 and "missing.png" in err[0] and "text.jpg" in err[1]
    blank, number = map(json.loads, out)
    assert blank == dict(file=str(names[2]), text="", digits=[])
    assert number["file"] == str(names[3]) and number["text"] == "42"
    assert [each["digit"] for each in number["digits"]] == [4, 2]
    for place, each in enumerate(number["digits"]):
        assert each.keys() == {"digit", "probability", "box"} and each["probability"] > predict.SURE
        x, y, width, height = each["box"]
        assert 60 + 100 * place < x < x + width < 160 + 100 * place and 60 < y < y + height < 160
    assert Image.open(tmp_path / "seen" / "number-seen.png").width > 480

    status, out, err = command(capsys, names[3], "--model", ROOT / "baselines" / "b3.py")
    assert status == 0 and not err
    assert out[0].endswith(": 42") and len(out) == 3 and len(re.findall(r"\d: ", out[1])) == 3


def test_pictures_of_one_name_get_a_sheet_each(capsys, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        drawn("4").save(tmp_path / folder / "it.png")
    names = [tmp_path / folder / "it.png" for folder in ("a", "b")]
    command(capsys, *names, "--out", tmp_path / "seen")
    assert {path.name for path in (tmp_path / "seen").iterdir()} == {
        "it-seen.png", "it-seen-2.png"}
    before = names[0].read_bytes()
    command(capsys, names[0], "--out", tmp_path / "a")  # beside the picture itself
    assert names[0].read_bytes() == before


@pytest.mark.parametrize("args, status, word", [
    (["--model", "4"], 2, "no such model"),
    (["--out", ROOT / "README.md"], 1, "--out"),
    (["--weights", "nothing.pt"], 1, "nothing.pt"),
    (["--model", "2", "--weights", ROOT / "results/model3/seed0/model.pt"], 2, "does not hold")])
def test_wrong_arguments_get_one_clear_line(capsys, args, status, word):
    got, out, err = command(capsys, "x.png", *args)
    assert got == status and not out and len(err) == 1 and word in err[0]


def test_a_long_strip_takes_little_memory(capsys, tmp_path):
    Image.new("L", (20000, 1), "white").save(tmp_path / "strip.png")
    status, out, err = command(capsys, tmp_path / "strip.png", "--out", tmp_path / "seen")
    assert status == 1 and not err and out == [f"{tmp_path / 'strip.png'}: no digit"]
    assert Image.open(tmp_path / "seen" / "strip-seen.png").width < 3000


def test_names_that_an_encoding_lacks_are_read(tmp_path):
    drawn("4").save(tmp_path / "größe.png")
    done = subprocess.run([sys.executable, ROOT / "demo" / "predict.py", "größe.png", "größe.png"],
                          cwd=tmp_path, env=os.environ | dict(PYTHONIOENCODING="ascii"),
                          capture_output=True, text=True, encoding="ascii")
    assert done.returncode == 0 and done.stdout.count("gr??e.png: 4\n") == 2


def test_an_exception_of_the_net_keeps_its_traceback(capsys, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("raise ValueError('mine')\n")
    status, _, err = command(capsys, "x.png", "--model", path)
    assert status == 2 and "raise ValueError('mine')" in "\n".join(err)


def test_a_net_without_weights_is_told_how_to_name_them(capsys, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text((ROOT / "model3.py").read_text(encoding="utf-8"), encoding="utf-8")
    status, _, err = command(capsys, "x.png", "--model", path)
    assert status == 2 and len(err) == 1 and "--weights runs/mine/seed0/model.pt" in err[0]


# ---- export.py ---------------------------------------------------------------------------------
class Shared(nn.Module):
    """What future models may hold: one convolution three times, each with its own BatchNorm."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 6, 5, 2, 2), nn.MaxPool2d(3, 2, 1),
                                  nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.layer = nn.Conv2d(6, 6, 3, padding="same", groups=3, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(6) for _ in range(3))
        self.head = nn.Conv2d(6, 10, 7, groups=2)

    def forward(self, images):
        x = self.stem(images)
        for norm in self.norms:
            x = nn.functional.gelu(norm(self.layer(x)))
        return self.head(x).view(len(x), -1)


def odd_nets():
    """Nets with random weights and BatchNorm statistics: what the three models may come to hold."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(1, 4, 4, stride=3, padding=1), nn.AvgPool2d(3, 2), nn.Dropout(),
                          nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 10),
                          nn.LogSoftmax(dim=1))
    depthwise = nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 8, 3, padding=2), nn.BatchNorm2d(8),
                              nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 16, 1)),
                              nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    nets = dict(plain=plain, depthwise=depthwise, shared=Shared())
    for module in (each for net in nets.values() for each in net.modules()):
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean):
                nn.init.normal_(tensor)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return nets


def nets_by_name():
    deep = train.load_model_file(ROOT / "results" / "deep.py")[1]()
    return {model: published(model)[0] for model in MODELS} | odd_nets() | dict(deep=deep)


@pytest.mark.parametrize("name", [*MODELS, "plain", "depthwise", "shared", "deep"])
def test_the_list_of_operations_computes_what_the_net_does(name):
    net = nets_by_name()[name].eval()
    steps = export.operations(net)
    images = torch.randn(5, 1, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(export.compute(steps, images).softmax(1),
                                   net(images).softmax(1), rtol=0, atol=1e-5)
    assert sum(step["parameters"] for step in steps) == sum(p.numel() for p in net.parameters())


class Branch(nn.Module):
    def __init__(self, step):
        super().__init__()
        self.step = step

    def forward(self, images):
        return self.step(images)


@pytest.mark.parametrize("step, word", [
    (lambda x: x + x.relu(), "add()"),
    (lambda x: x.transpose(2, 3), "transpose()"),
    (lambda x: nn.functional.max_pool2d(x, (2, 1)), "size (2, 1)"),
    (lambda x: nn.functional.conv2d(x, torch.ones(1, 1, 3, 3), dilation=2), "ones()")])
def test_what_the_page_cannot_compute_is_refused(step, word):
    with pytest.raises(utils.UserError) as error:
        export.operations(Branch(step), "my.py")
    assert word in str(error.value) and "my.py: the page cannot compute" in str(error.value)


def test_a_dilated_convolution_is_refused():
    with pytest.raises(utils.UserError, match="dilation"):
        export.operations(nn.Conv2d(1, 1, 3, dilation=2))


def test_weights_js_is_current(mnist):
    written = (ROOT / "demo" / "weights.js").read_text(encoding="utf-8")
    assert written == export.weights_js(), "out of date: run python demo/export.py"


# ---- the page, in a browser --------------------------------------------------------------------
@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on the PATH")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def open_page(browser, **options):
    page = browser.new_page(**options)
    page.complaints = []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("request", lambda request: request.url.startswith(("file:", "data:"))
            or page.complaints.append(request.url))
    page.goto((ROOT / "demo" / "index.html").as_uri())
    page.wait_for_function("state.maps.length > 0")
    return page


@pytest.fixture(scope="module")
def page(browser):
    page = open_page(browser, viewport=dict(width=1280, height=900))
    yield page
    assert page.complaints == []  # neither errors nor requests in all that the tests did


@pytest.mark.parametrize("model", MODELS)
def test_the_page_computes_what_torch_does(page, test_set, model):
    images = test_set[0][:100]
    net, recipe = published(model)
    got, milliseconds = page.evaluate(
        """([digits, model]) => {
            const times = [];
            const answers = digits.map(digit => {
                const began = performance.now();
                const answer = classify(digit, model);
                times.push(performance.now() - began);
                return answer;
            });
            return [answers, Math.min(...times)];
        }""", [images.view(-1, 784).tolist(), int(model)])
    torch.testing.assert_close(torch.tensor(got), utils.predict(net, images, recipe),
                               rtol=0, atol=1e-4)
    assert milliseconds < 16


@pytest.mark.parametrize("preparation", ["upright", "deskew"])
def test_the_page_sets_digits_upright_as_utils_does(page, test_set, preparation):
    images = test_set[0][:100].clone()
    images[0], images[1] = 0, images[1] // 4  # nothing; pale ink
    got = page.evaluate("([name, digits]) => digits.map({ upright, deskew }[name])",
                        [preparation, images.view(-1, 784).tolist()])
    expected = utils.prepare(images, {preparation: True}).view(-1, 784).int()
    apart = (torch.tensor(got) - expected).abs()
    assert apart.max() <= 1  # torch computes in 32 bits, so now and then another way to round
    assert (apart > 0).sum() < 10


@pytest.mark.parametrize("name", ["plain", "depthwise", "shared"])
def test_the_engine_computes_other_nets_too(page, name):
    net = odd_nets()[name].eval()
    images = torch.randint(256, (5, 28, 28), dtype=torch.uint8)
    steps = dict(operations=export.packed(net), preparation="none")
    got = page.evaluate("""([net, digits]) => {
        unpack(net);
        return digits.map(digit => softmax(computeMaps(net, digit).at(-1).data));
    }""", [steps, images.view(-1, 784).tolist()])
    torch.testing.assert_close(torch.tensor(got), utils.predict(net, images, dict(deskew=False)),
                               rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", [*MODELS, "shared"])
def test_receptive_fields_are_what_really_reaches_a_unit(page, name):
    """The oracle: image i of 784 is NaN at pixel i, and NaN spreads to what that pixel reaches."""
    steps = export.operations(nets_by_name()[name].eval())
    got = page.evaluate("""net => net.operations.map((step, index) => {
        const [, height = 1, width = 1] = step.shape;
        return Array.from({ length: height * width }, (_, i) =>
            receptiveField(net, index, Math.floor(i / width), i % width));
    })""", dict(operations=export.packed(nets_by_name()[name])))
    maps = torch.zeros(784, 1, 28, 28)
    maps.view(784, 784).fill_diagonal_(math.nan)
    for index, step in enumerate(steps):
        height, width = [*step["shape"], 1, 1][1:3]
        maps = export.compute([step], maps).view(784, -1, height, width)
        seen = maps.isnan().view(28, 28, -1, height * width).any(dim=2)
        for unit, window in enumerate(got[index]):
            rows, columns = seen[..., unit].nonzero(as_tuple=True)
            assert window == dict(top=rows.min().item(), bottom=rows.max().item(),
                                  left=columns.min().item(), right=columns.max().item())


def draw_by_mouse(page, digit):
    page.get_by_role("button", name="Clear").click()
    page.evaluate("scrollTo(0, 0)")
    box = page.locator("#drawing").bounding_box()
    left, top, side = box["x"], box["y"], box["width"]
    places = [(left + x * side, top + y * side) for x, y in STROKES[digit]]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=2)
    page.mouse.up()
    settle(page)


def settle(page):
    """Wait until what was done is drawn."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def answer(page):
    return page.locator("#answer").inner_text().split("\n")[0]


def test_strokes_of_the_mouse_are_read_and_prepared_as_by_predict(page):
    for digit in "259":
        draw_by_mouse(page, digit)
        assert answer(page) == digit
        got = np.array(page.evaluate("prepare(document.querySelector('#drawing'))"))
        png = page.evaluate("document.querySelector('#drawing').toDataURL().split(',')[1]")
        pixels, _ = picture.prepare(Image.open(io.BytesIO(base64.b64decode(png))))
        assert np.abs(got - pixels.reshape(784)).mean() < 4, digit
    page.get_by_role("button", name="Undo").click()
    settle(page)
    assert "Draw a digit" in page.locator("#answer").inner_text()


def test_keyboard_alone(page):
    page.get_by_role("button", name="Clear").click()
    page.locator("#drawing").focus()
    for key in ["ArrowUp"] * 8 + [" "] + ["ArrowDown"] * 16 + [" "]:
        page.keyboard.press(key)
    settle(page)
    assert answer(page) == "1"
    page.locator("#layers canvas").first.focus()
    page.keyboard.press("ArrowRight")
    assert "Layer 1, map 1, row 1, column 2" in page.locator("#unit").inner_text()
    assert page.locator("#window").is_visible()
    page.locator("#models input").first.focus()
    page.keyboard.press("ArrowRight")
    settle(page)
    assert f"{sum(p.numel() for p in published('2')[0].parameters()):,}" in page.inner_text("#cost")
    page.keyboard.press("ArrowRight")


def test_digits_of_the_strip(page, test_set):
    images, labels = test_set
    wrong = page.locator("#misread button").first
    wrong.click()
    settle(page)
    index = int(wrong.get_attribute("data-index"))
    assert page.evaluate("state.pixels") == images[index].flatten().tolist()
    label, guess = wrong.inner_text().split(" → ")
    assert (int(label), guess) == (labels[index], answer(page))
    assert {int(text) for text in page.locator("#strip button").all_inner_texts()} == set(range(10))


def test_pointing_at_a_unit_shows_its_value(page):
    maps = page.locator("#layers canvas").nth(1)
    maps.scroll_into_view_if_needed()
    maps.hover(position=dict(x=5, y=5))
    value = page.evaluate("state.maps[2].data[(state.unit.channel * state.maps[2].height"
                          " + state.unit.y) * state.maps[2].width + state.unit.x]")
    assert f"{value:.3f}" in page.locator("#unit").inner_text()


def test_a_phone_in_the_dark(browser):
    page = open_page(browser, viewport=dict(width=390, height=844), color_scheme="dark")
    draw_by_mouse(page, "3")
    assert answer(page) == "3"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.complaints == []
    page.close()
