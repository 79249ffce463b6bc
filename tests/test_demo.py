"""The demo: made photos through predict.py, nets as lists of operations, the page, the net in C."""

import base64
import functools
import io
import json
import math
import re
import runpy
import shutil
import subprocess
import sys
import time
from pathlib import Path

import doubt
import numpy as np
import pytest
import torch
from conftest import DIGITS, ROOT, environment, table
from PIL import Image, ImageDraw, ImageFilter
from torch import nn

import utils

sys.path.insert(0, str(ROOT / "demo"))
import export  # noqa: E402
import picture  # noqa: E402
import predict  # noqa: E402

MODELS = ("1", "2", "3")
PAGE = (ROOT / "demo" / "index.html").as_uri()
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
PUBLISHED = functools.cache(predict.load_net)  # (net, recipe) of a model's published seed 0
STROKES = [  # the ten digits as a pen draws them: points (x, y) in a unit square
    [(int(x) / 10, int(y) / 10) for x, y in points.split()] for points in (
        "51 32 25 38 59 78 85 72 51", "43 51 59", "32 42 51 72 74 29 79",
        "32 61 72 64 45 65 77 69 38", "69 61 26 86", "71 41 34 64 76 68 39",
        "71 43 36 38 69 77 65 46", "21 71 49", "55 33 51 73 55 37 59 77 55", "73 51 33 55 73 79")]


@pytest.fixture(scope="module")
def test_set(mnist):
    return utils.load_mnist(mnist, train=False)


# ---- made pictures -----------------------------------------------------------------------------
def pen_strokes(digit, height, boldness):
    """A test digit as a pen's mask (mode L), `height` pixels high, with a boldness of -1 to 1."""
    rows, columns = np.nonzero(digit > 60)
    digit = np.pad(digit[rows.min():rows.max() + 1, columns.min():columns.max() + 1], 2)
    zoom = height / (np.ptp(rows) + 1)
    size = [max(1, round(side * zoom)) for side in digit.shape[::-1]]
    mask = Image.fromarray(digit).resize(size, Image.Resampling.BICUBIC)
    mask = mask.filter(ImageFilter.GaussianBlur(float(0.5 * zoom)))
    return mask.point(lambda value: max(0, min(255, 8 * (value - 90 + 60 * boldness) + 128)))


def made_photo(digits, rng):
    """A photo of digits, uint8 (28, 28) each, in a row: the paper plain, ruled or squared, the
    light uneven, the pen of any colour, dark or light; turned, blurred, noisy, JPEG."""
    width, height = ((320, 240), (240, 320), (360, 360))[rng.integers(3)]
    light_ink = rng.random() < 0.25
    paper = rng.integers(0, 70, 3) if light_ink else rng.integers(185, 256, 3)
    ink = rng.integers(160, 256, 3) if light_ink else rng.integers(0, 110, 3)
    size = min(rng.uniform(0.2, 0.6) * height, 0.85 * width / len(digits))
    masks = [pen_strokes(digit, size, rng.uniform(-0.8, 0.9)) for digit in digits]
    gap, x = round(0.2 * size), 0
    row = Image.new("L", (sum(mask.width + gap for mask in masks), round(1.3 * size)))
    for mask in masks:
        row.paste(mask, (x, 0))
        x += mask.width + gap
    row.thumbnail((round(0.8 * width), height))
    written = Image.new("L", (width, height))
    written.paste(row, (round(rng.uniform(0.1 * width, 0.9 * width - row.width)),
                        round(rng.uniform(0.2 * height, 0.8 * height - size))))
    # Lines longer than the picture, turned with it or not.
    lines, step = Image.new("L", (2 * width, 2 * height)), int(rng.uniform(18, 40))
    ruled, squared = rng.random() < 0.7, rng.random() < 0.5
    for at in range(0, 2 * max(width, height) * ruled, step):
        ImageDraw.Draw(lines).line((0, at, 2 * width, at), 255)
        ImageDraw.Draw(lines).line((at, 0, at, 2 * height * squared), 255)
    angle = rng.uniform(-15, 15)
    lines = lines.rotate(angle * rng.integers(2), Image.Resampling.BICUBIC)
    lines = lines.crop((width // 2, height // 2, width // 2 + width, height // 2 + height))
    written = written.rotate(angle, Image.Resampling.BICUBIC)
    image = paper.astype(float)
    for mask, colour in ((lines, paper + 50 if light_ink else (150, 170, 210)), (written, ink)):
        share = np.asarray(mask)[..., None] / 255
        image = image * (1 - share) + np.array(colour) * share
    # Light from one side, now and then the edge of a shadow.
    across, down = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    turn = rng.uniform(0, 2 * np.pi)
    side = across * np.cos(turn) + down * np.sin(turn)
    light = 1 - rng.uniform(0, 0.3) * (1 + side)
    if rng.random() < 0.3:
        light *= 1 - rng.uniform(0.1, 0.45) / (1 + np.exp((side + 0.4) * rng.uniform(10, 80)))
    image = image * light[..., None] + rng.normal(0, rng.uniform(0, 10), image.shape)
    photo = Image.fromarray(image.clip(0, 255).astype(np.uint8))
    photo = photo.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 1.2))))
    photo.save(file := io.BytesIO(), "JPEG", quality=int(rng.integers(40, 101)))
    return Image.open(file)


def read(image):
    """The number that predict.py reads in an image."""
    return "".join(str(each["digit"]) for each in predict.read(image, *PUBLISHED("3")))


def drawn(text, size=100, pen=9, ink=(20, 30, 120), paper="white", margin=60):
    """Digits as strokes of a round pen, in a row: an RGB image."""
    image = Image.new("RGB", (2 * margin + size * len(text), 2 * margin + size), paper)
    draw = ImageDraw.Draw(image)
    for place, digit in enumerate(text):
        points = [(margin + size * (place + x), margin + size * y) for x, y in STROKES[int(digit)]]
        draw.line(points, ink, pen, joint="curve")
        for x, y in points:
            draw.ellipse((x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2), ink)
    return image


# ---- predict.py --------------------------------------------------------------------------------
@pytest.mark.parametrize("photos, least, most, wrong", [(30, 1, 1, 1), (10, 2, 6, 2)])
def test_made_photos_are_read_from_left_to_right(test_set, photos, least, most, wrong):
    """Of so many photos with `least` to `most` digits, so many may be read wrong."""
    images, labels = (part.numpy() for part in test_set)
    rng, right = np.random.default_rng(1), 0
    for _ in range(photos):
        chosen = rng.choice(len(images), rng.integers(least, most + 1))
        right += read(made_photo(images[chosen], rng)) == "".join(map(str, labels[chosen]))
    assert right >= photos - wrong


@pytest.mark.parametrize("pen", [2, 9, 22])
def test_strokes_of_any_pen_are_read(pen):
    assert read(drawn("0123456789", pen=pen)) == "0123456789"
    assert read(drawn("7", 300, pen, ink="white", paper=(30, 60, 40))) == "7"


@pytest.mark.parametrize("form", ["boxes", "comb", "underlines", "ruled"])
def test_a_number_on_a_form_is_read(form):
    image = drawn("314270", size=110, pen=7)
    for place in range(6):
        left, right = 62 + 110 * place, 166 + 110 * place
        box = {"boxes": (left, 50, right, 175), "comb": (60, 50, right + 4, 175),
               "underlines": (left, 172, right, 173), "ruled": (-9, left // 3, 999, 999)}[form]
        ImageDraw.Draw(image).rectangle(box, outline="black", width=2)
    assert read(image) == "314270"


def read_rows(image):
    return predict.text_of(predict.read(image, *PUBLISHED("3")))


@pytest.mark.parametrize("gap", [2, 6])
@pytest.mark.parametrize("digit, upper, lower", [  # arcs: box, first and last angle
    ("8", (150, 100, 230, 180, 0, 360), (148, 180, 232, 264, 0, 360)),
    ("3", (140, 100, 240, 170, 200, 90), (135, 170, 240, 250, -90, 140)),
    ("5", (160, 100, 400, 240, 180, 270), (120, 170, 245, 270, -90, 110))])
def test_a_digit_in_two_halves_is_one(digit, upper, lower, gap):
    image = Image.new("L", (400, 400), "white")
    for box, down in ((upper, 0), (lower, gap)):
        left, top, right, bottom, *angles = box
        ImageDraw.Draw(image).arc((left, top + down, right, bottom + down), *angles, 0, 14)
    assert read_rows(image) == digit


@pytest.mark.parametrize("rows, space, slope, dance", [
    (["123", "456"], 40, 0, 0), (["739"], 0, 0, 40), (["7", "3", "9"], 30, 0, 0),
    (["20", "461", "73"], 50, 0, 10), (["314", "592"], 60, 8, 0), (["04172"], 0, 14, 10),
    (["6", "25"], 60, 0, 0), (["71", "30"], 25, 0, 0)])
def test_rows_are_read_row_by_row(rows, space, slope, dance):
    """Rows of digits 100 pixels high, so far apart, rising by so many degrees, dancing up and down;
    among them what was right before there were rows."""
    sheet = Image.new("L", (820, 120 + (100 + space) * len(rows) + dance), "white")
    for row, text in enumerate(rows):
        for place, digit in enumerate(text):
            each = drawn(digit, margin=0).convert("L")
            each = each.crop(each.point(lambda value: 255 - value).getbbox()).resize((60, 100))
            sheet.paste(each, (60 + 110 * place, 60 + row * (100 + space) + dance * (place % 2)))
    turned = sheet.rotate(slope, Image.Resampling.BICUBIC, expand=True, fillcolor="white")
    assert read_rows(turned) == "\n".join(rows)


def test_prepared_digits_look_as_mnist_stored_them(test_set):
    rng = np.random.default_rng(2)
    for digit in test_set[0][:12].numpy():
        side = rng.integers(50, 170)
        left, top = rng.integers(0, 240 - side), rng.integers(0, 200 - side)
        small = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
        paper = Image.new("RGB", (240, 200), (250, 250, 240))
        paper.paste(tuple(rng.integers(0, 90, 3).tolist()), (left, top), small)
        (pixels,), (box,) = picture.as_mnist(paper)
        rows, columns = np.nonzero(digit > 60)
        expected = [left + columns.min() * side / 28, top + rows.min() * side / 28,
                    (np.ptp(columns) + 1) * side / 28, (np.ptp(rows) + 1) * side / 28]
        assert box == pytest.approx(expected, abs=0.06 * side)
        alike = max(np.corrcoef(digit.ravel(), np.roll(pixels, shift, (0, 1)).ravel())[0, 1]
                    for shift in [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)])
        assert alike > 0.85


def transparent(image, colour):
    layer = Image.new("RGBA", image.size, colour)
    layer.putalpha(image.convert("L").point(lambda value: 255 - value))
    return layer


KINDS = {
    "grey": lambda image: image.convert("L"),
    "black and white": lambda image: image.convert("1"),
    "palette": lambda image: image.convert("P"),
    "16 bit": lambda image: Image.fromarray(np.asarray(image.convert("L"), dtype=np.uint16) * 200),
    "transparent paper": lambda image: transparent(image, "black"),
    "light ink on transparent paper": lambda image: transparent(image, "white"),
    "thumbnail": lambda image: image.resize((28, 28), Image.Resampling.BOX)}


@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_of_picture_is_read(kind, tmp_path):
    for digit in "27":
        KINDS[kind](drawn(digit, 200, 20)).save(tmp_path / "it.png")
        assert read(predict.open_picture(tmp_path / "it.png")) == digit


def test_a_photo_of_a_phone_is_read_in_less_than_two_seconds(tmp_path):
    """Twelve megapixels; and EXIF says that the camera was turned by a quarter."""
    photo = Image.new("RGB", (4000, 3000), (235, 230, 215))
    photo.paste(drawn("2057", 700, 60, paper=(235, 230, 215)), (500, 1000))
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.rotate(90, expand=True).save(tmp_path / "it.jpg", exif=exif)
    began = time.process_time()
    assert read(predict.open_picture(tmp_path / "it.jpg")) == "2057"
    assert time.process_time() - began < 2


@pytest.mark.parametrize("image", [
    np.full((200, 300), 255), np.full((1, 4000), 200), np.add.outer(range(150), range(100)),
    np.random.default_rng(0).integers(0, 256, (300, 400, 3)),
    np.where((np.arange(300)[:, None] - np.arange(400) / 33) % 20 < 2, 160, 255)],
    ids=["blank", "a strip", "gradient", "noise", "ruled paper"])
def test_where_is_no_digit_none_is_read(image):
    assert read(Image.fromarray(image.astype(np.uint8))) == ""


def command(capsys, *args):
    """(exit status, lines of stdout, lines of stderr) of predict.py."""
    status = predict.main([str(arg) for arg in args])
    out, err = capsys.readouterr()
    return status, out.splitlines(), err.splitlines()


def test_the_command_line(capsys, tmp_path):
    names = [tmp_path / name for name in ("missing.png", "text.jpg", "blank.png", "number.png")]
    names[1].write_text("no picture")
    Image.new("L", (300, 200), "white").save(names[2])
    drawn("42").save(names[3])
    before = names[3].read_bytes()

    status, out, err = command(capsys, *names, names[3], "--json", "--out", tmp_path)
    assert status == 1 and len(err) == 2 and "missing.png" in err[0] and "text.jpg" in err[1]
    blank, number, again = map(json.loads, out)
    assert blank == dict(file=str(names[2]), text="", digits=[]) and again == number
    assert number["file"] == str(names[3]) and number["text"] == "42"
    assert [each["digit"] for each in number["digits"]] == [4, 2]
    for place, each in enumerate(number["digits"]):
        assert each.keys() == {"digit", "probability", "box"} and each["probability"] > predict.SURE
        x, y, width, height = each["box"]
        assert 60 + 100 * place < x < x + width < 160 + 100 * place and 60 < y < y + height < 160
    assert names[3].read_bytes() == before  # two pictures of one name get a sheet each
    for sheet in ("number-seen.png", "number-seen-2.png"):
        assert Image.open(tmp_path / sheet).width > 480

    status, out, err = command(capsys, names[3], "--model", ROOT / "baselines" / "b3.py")
    assert status == 0 and not err
    assert out[0].endswith(": 42") and len(out) == 3 and len(re.findall(r"\d: ", out[1])) == 3


@pytest.mark.parametrize("args, status, word", [
    ([], 1, "x.png: no such file"),
    (["--model", "4"], 2, "no such model"),
    (["--out", ROOT / "README.md"], 1, "README.md"),
    (["--weights", "nothing.pt"], 1, "nothing.pt"),
    (["--model", "2", "--weights", ROOT / "results/model3/seed0/model.pt"], 2, "does not hold"),
    (["--model", "mine.py"], 2, "--weights runs/mine/seed0/model.pt"),
    (["--model", "broken.py"], 2, "raise ValueError('mine')")])
def test_wrong_arguments_get_one_clear_line(capsys, tmp_path, monkeypatch, args, status, word):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "model3.py", "mine.py")
    Path("broken.py").write_text("raise ValueError('mine')\n")
    got, out, err = command(capsys, "x.png", *args)
    assert got == status and not out and word in "\n".join(err)
    assert len(err) == 1 or "broken.py" in args  # whose traceback is shown


def test_the_script_finds_its_modules_from_any_folder(capsys, tmp_path, monkeypatch):
    drawn("4").save(tmp_path / "it.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["predict.py", "it.png"])
    path = [each for each in sys.path if each not in (str(ROOT), str(ROOT / "demo"))]
    monkeypatch.setattr(sys, "path", path)
    for name in ("picture", "train", "utils"):
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(ROOT / "demo" / "predict.py"), run_name="__main__")
    assert capsys.readouterr().out.startswith("it.png: 4\n")


# ---- export.py ---------------------------------------------------------------------------------
def odd_nets():
    """Nets with random weights and BatchNorm statistics: what the three models may come to hold.
    "shared" has one convolution three times, each with its own BatchNorm."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(1, 4, 4, stride=3, padding=1), nn.AvgPool2d(3, 2), nn.Dropout(),
                          nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 10),
                          nn.LogSoftmax(dim=1))
    depthwise = nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 8, 3, padding=2), nn.BatchNorm2d(8),
                              nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 16, 1)),
                              nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    layer = nn.Conv2d(6, 6, 3, padding="same", groups=3, bias=False)
    thrice = [each for _ in range(3) for each in (layer, nn.BatchNorm2d(6), nn.ReLU())]
    shared = nn.Sequential(nn.Conv2d(1, 6, 5, 2, 2), nn.MaxPool2d(3, 2, 1), nn.BatchNorm2d(6),
                           nn.ReLU(inplace=True), *thrice, nn.Conv2d(6, 10, 7, groups=2),
                           nn.Flatten())
    for name, tensor in nn.ModuleList([plain, depthwise, shared]).state_dict().items():
        if tensor.dim() == 1:
            tensor.uniform_(0.5 if name.endswith("running_var") else -1, 2)
    return dict(plain=plain, depthwise=depthwise, shared=shared)


def net_named(name):
    return (PUBLISHED(name)[0] if name in MODELS else odd_nets()[name]).eval()


@pytest.mark.parametrize("name", [*MODELS, "plain", "depthwise", "shared"])
def test_the_list_of_operations_computes_what_the_net_does(name):
    net = net_named(name)
    steps = export.operations(net)
    images = torch.randn(5, 1, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(export.compute(steps, images).softmax(1),
                                   net(images).softmax(1), rtol=0, atol=1e-5)
    assert sum(step["parameters"] for step in steps) == sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("step, word", [
    (lambda x: x + x.relu(), "add()"),
    (lambda x: (x.relu(), x.relu())[1], "a branch"),
    (nn.functional.gelu, "gelu()"),
    (lambda x: nn.functional.max_pool2d(x, (2, 1)), "size (2, 1)"),
    (nn.Conv2d(1, 1, 3, dilation=2).forward, "dilation")])
def test_what_the_page_cannot_compute_is_refused(step, word):
    net = nn.Identity()
    net.forward = step
    with pytest.raises(utils.UserError) as error:
        export.operations(net, "my.py")
    assert word in str(error.value) and "my.py: the page cannot compute" in str(error.value)


def test_weights_js_is_current(mnist):
    written = (ROOT / "demo" / "weights.js").read_text(encoding="utf-8")
    assert written == export.weights_js(), "out of date: run python demo/export.py"


# ---- the page, in a browser --------------------------------------------------------------------
WIDE = dict(width=1280, height=900)


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


def open_page(browser, address="", **options):
    page = browser.new_page(**dict(viewport=WIDE) | options)
    page.complaints = []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("request", lambda request: request.url.startswith(("file:", "data:"))
            or page.complaints.append(request.url))
    page.goto(PAGE + address)
    return page


@pytest.fixture(scope="module", params=["chromium", "firefox"])
def page(request, tmp_path_factory):
    """The page in either browser, shared by tests that leave any model and drawing behind."""
    if request.param == "chromium":
        page = open_page(request.getfixturevalue("browser"))
    else:
        firefox = pytest.importorskip("firefox", reason="websocket-client is not installed")
        path = next(filter(None, map(shutil.which, ("firefox-esr", "firefox"))), None)
        if path is None:
            pytest.skip("no Firefox is on the PATH")
        folder = tmp_path_factory.mktemp("profile")
        page = firefox.Firefox(path, folder, environment() | dict(HOME=str(folder)), PAGE, **WIDE)
    yield page
    page.close()
    assert page.complaints == []  # neither errors nor requests in all that the tests did


@pytest.mark.parametrize("name", [*MODELS, "plain", "depthwise", "shared"])
def test_the_page_computes_what_torch_does(page, test_set, name):
    """Each preparation, too, and other nets than those of weights.js."""
    net, recipe = PUBLISHED(name) if name in MODELS else (net_named(name), dict(deskew=False))
    steps = None if name in MODELS else dict(operations=export.packed(net), preparation="none")
    images = test_set[0][:100].clone()
    images[0], images[1] = 0, images[1] // 4  # nothing; pale ink
    got = page.evaluate("""([digits, name, net]) => {
        if (net) unpack(net);
        Object.defineProperty(NETS, "it", { value: net ?? NETS[name], configurable: true });
        return digits.map(digit => classify(digit, "it"));
    }""", [images.view(-1, 784).tolist(), name, steps])
    torch.testing.assert_close(torch.tensor(got), utils.predict(net, images, recipe),
                               rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", [*MODELS, "shared"])
def test_receptive_fields_are_what_really_reaches_a_unit(page, name):
    """The oracle: image i of 784 is NaN at pixel i, and NaN spreads to what that pixel reaches."""
    net = net_named(name)
    got = page.evaluate("""net => net.operations.map((step, index) => {
        const [, height = 1, width = 1] = step.shape;
        return Array.from({ length: height * width }, (_, i) =>
            receptiveField(net, index, Math.floor(i / width), i % width));
    })""", dict(operations=export.packed(net)))
    maps = torch.zeros(784, 1, 28, 28)
    maps.view(784, 784).fill_diagonal_(math.nan)
    for index, step in enumerate(export.operations(net)):
        height, width = [*step["shape"], 1, 1][1:3]
        maps = export.compute([step], maps).view(784, -1, height, width)
        seen = maps.isnan().view(28, 28, -1, height * width).any(dim=2)
        for unit, window in enumerate(got[index]):
            rows, columns = seen[..., unit].nonzero(as_tuple=True)
            assert window == dict(top=rows.min().item(), bottom=rows.max().item(),
                                  left=columns.min().item(), right=columns.max().item())


# ---- the hand ----------------------------------------------------------------------------------
def texts_of(page, selector):
    return page.evaluate("selector => [...document.querySelectorAll(selector)]"
                         ".map(each => each.innerText)", selector)


def text_of(page, selector):
    return texts_of(page, selector)[0]


def box_of(page, selector, index=0):
    """Left, top, width and height of an element, after scrolling to it where it is not in sight."""
    return page.evaluate("""([selector, index]) => {
        const element = document.querySelectorAll(selector)[index];
        const top = element.getBoundingClientRect().top;
        if (top < 150 || top > innerHeight - 300) element.scrollIntoView({ block: "center" });
        const box = element.getBoundingClientRect();
        return [box.left, box.top, box.width, box.height];
    }""", [selector, index])


def tap(page, x, y, button="left"):
    page.mouse.move(x, y)
    page.mouse.down(button=button)
    page.mouse.up(button=button)
    settle(page)


def click(page, selector, index=0, at=None):
    """Click the middle of an element, or a place that many pixels from its corner."""
    left, top, width, height = box_of(page, selector, index)
    x, y = at or (width / 2, height / 2)
    tap(page, left + x, top + y)


def touch(page, *steps):
    """Fingers on the screen: a step has the place (x, y) of each one that touches."""
    if hasattr(page, "touch"):
        page.touch(*steps)
        return
    session = page.context.new_cdp_session(page)
    for before, now in zip([(), *steps], steps):
        kind = "Start" if len(now) > len(before) else "Move" if now else "End"
        points = [dict(x=x, y=y, id=i) for i, (x, y) in enumerate(now)]
        session.send("Input.dispatchTouchEvent", dict(type=f"touch{kind}", touchPoints=points))


def draw(page, strokes, by="mouse", model=3):
    """Strokes, lists of points in a unit square, on an empty canvas; or digits of STROKES side by
    side. Returns where the canvas is."""
    if isinstance(strokes, str):
        share = 1 / max(1, len(strokes))
        strokes = [[(share * (i + x), 0.5 + (y - 0.5) * min(1, 2 * share)) for x, y in
                    STROKES[int(digit)]] for i, digit in enumerate(strokes)]
    click(page, "#models label", model - 1)
    click(page, "#clear")
    left, top, side, _ = box_of(page, "#drawing")
    for stroke in strokes:
        places = [(left + x * side, top + y * side) for x, y in stroke]
        if by == "finger":
            touch(page, *([place] for place in places), [])
        else:
            page.mouse.move(*places[0])
            page.mouse.down()
            for place in places[1:]:
                page.mouse.move(*place, steps=2)
            page.mouse.up()
    settle(page)
    return left, top


def settle(page):
    """Wait until what was done is drawn."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def answer(page):
    return text_of(page, "#answer")


def ink_of(page):
    """How much of #drawing is ink, in pixels."""
    return page.evaluate("""drawing.getContext("2d").getImageData(0, 0, 560, 560).data
        .reduce((sum, value, i) => sum + (i % 4 === 3) * value / 255, 0)""")


@pytest.mark.parametrize("by", ["mouse", "finger"])
def test_strokes_are_read_and_prepared_as_by_predict(page, by):
    for digit in "259":
        draw(page, digit, by)
        assert re.fullmatch(rf"{digit} \d\d\.\d %", answer(page))
        png = page.evaluate("drawing.toDataURL().split(',')[1]")
        pixels, _ = picture.as_mnist(Image.open(io.BytesIO(base64.b64decode(png))))
        opaque = """["none", "invert()"].map(filter => {  // dark on light, light on dark
            const canvas = Object.assign(document.createElement("canvas"), { width: 560 });
            canvas.height = 560;
            const context = Object.assign(canvas.getContext("2d"), { fillStyle: "white", filter });
            context.fillRect(0, 0, 560, 560);
            context.drawImage(drawing, 0, 0);
            return prepare(canvas);
        })"""
        for got in page.evaluate(f"[prepare(drawing), state.pixels, ...{opaque}]"):
            assert np.abs(np.subtract(got, pixels.reshape(784))).mean() < 4, digit


TIMES = """() => {
    window.times = { ink: [], update: [], inked: [] };
    let began = 0;
    addEventListener("pointermove", () => { began = performance.now(); }, true);
    addEventListener("pointermove", event => {
        times.ink.push(performance.now() - began);
        const [x, y] = placeOf(event);
        times.inked.push(drawing.getContext("2d").getImageData(x, y, 1, 1).data[3]);
    });
    const frame = window.requestAnimationFrame;
    window.requestAnimationFrame = work => frame(time => {
        const start = performance.now();
        work(time);
        times.update.push(performance.now() - start);
    });
}"""


@pytest.mark.parametrize("slower, goal", [(1, 16), (4, 60)])
def test_ink_at_once(browser, slower, goal):
    """Medians of 50 moves of the pen. Listeners stand before and behind the page's own."""
    page = open_page(browser)
    page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", dict(rate=slower))
    page.evaluate(TIMES)
    x, y = draw(page, "")
    page.mouse.move(x + 60, y + 60)
    page.mouse.down()
    for i in range(1, 56):
        page.mouse.move(x + 135 + 80 * math.cos(i / 6), y + 135 + i * math.sin(i / 6))
        page.wait_for_timeout(20)
    times = page.evaluate("times")
    assert min(times["inked"][-50:]) == 255
    ink, update = (float(np.median(times[name][-50:])) for name in ("ink", "update"))
    print(f"\n{slower} times slower: ink {ink:.1f} ms, update {update:.1f} ms")
    assert len(times["update"]) >= 50 and ink < 3 * 4 and update < 3 * goal
    page.close()


def test_one_pointer_draws_and_undo_brings_back(page):
    x, y = draw(page, "")
    tap(page, x + 50, y + 50, "right")
    assert ink_of(page) == 0
    dot = pytest.approx(math.pi * 20 ** 2, rel=0.05)
    touch(page, [(x + 50, y + 50)], [])
    assert ink_of(page) == dot
    click(page, "#undo")
    tap(page, x + 50, y + 50)
    assert ink_of(page) == dot

    touch(page, [(x + 100, y + 100)], [(x + 100, y + 100), (x + 200, y + 60)],
          [(x + 100, y + 150), (x + 200, y + 200)], [])
    (_, stroke) = page.evaluate("state.strokes")
    assert max(at[0] for at in stroke["points"]) < 300  # of the first finger alone
    click(page, "#undo")
    assert ink_of(page) == dot

    for take_back in ("Control+z", "Delete"):  # during a stroke
        page.evaluate("drawing.focus()")
        page.mouse.move(x + 150, y + 150)
        page.mouse.down()
        page.keyboard.press(take_back)
        page.mouse.move(x + 200, y + 200)
        page.mouse.up()
    assert ink_of(page) == 0
    click(page, "#undo")  # what Delete took
    click(page, "#undo")  # the stroke before it
    click(page, "#strip button")
    click(page, "#undo")
    assert ink_of(page) == dot

    # Beyond the edge: a 7 whose roof is not on the canvas.
    seven = [(0.3, -0.06), (0.7, -0.06), (0.5, 0.6)]
    draw(page, [[(x, y + 0.1) for x, y in seven]])
    whole = page.evaluate("state.pixels")
    draw(page, [seven[::-1]])
    assert answer(page).startswith("7 ")
    assert np.abs(np.subtract(whole, page.evaluate("state.pixels"))).mean() < 3


def test_a_finger_draws_on_the_canvas_and_scrolls_beside_it(browser):
    page = open_page(browser, viewport=dict(width=390, height=844), has_touch=True)
    left, top, side, _ = box_of(page, "#drawing")
    for x in (left + 9, left + side + 30):
        assert page.evaluate("scrollY") == 0
        touch(page, *([(x, y)] for y in range(round(top) + 250, round(top), -10)), [])
        assert len(page.evaluate("state.strokes")) == 1
    page.wait_for_function("scrollY > 100")
    page.close()


# ---- the answer --------------------------------------------------------------------------------
def answers_of(page, drawings):
    """What #answer reads at rest, of drawings that are lists of strokes."""
    strokes = [[dict(thickness=40, points=[(560 * x, 560 * y) for x, y in stroke])
                for stroke in drawing] for drawing in drawings]
    return page.evaluate("""async drawings => {
        const answers = [];
        for (const strokes of drawings) {
            change({ strokes, loaded: null });
            await new Promise(done => requestAnimationFrame(done));
            answers.push($("answer").textContent);
        }
        return answers;
    }""", strokes)


def test_the_answer_is_honest(browser, test_set):
    """Traced test digits and other shapes that chose nothing."""
    images, labels = (part.numpy()[doubt.TEST] for part in test_set)
    def is_doubt(text):
        return re.fullmatch(r"\d or perhaps \d|no digit, I think", text) is not None
    page = open_page(browser)
    answers = answers_of(page, map(doubt.trace, images[:300]))
    sure = r"\d \d+\.\d %|(two|three) digits: \d+"
    assert all(is_doubt(text) or re.fullmatch(sure, text) for text in answers)
    right = sum(text[0] == str(label) for text, label in zip(answers, labels))
    doubted = sum(map(is_doubt, answers))
    shapes = doubt.shapes("report")
    for digit in doubt.MIRRORED:
        for i in np.nonzero(labels == digit)[0][:2]:
            shapes[f"mirrored {digit}, {i}"] = doubt.mirror(doubt.trace(images[i]))
    believed = [f"{name} ({text})" for name, text in
                zip(shapes, answers_of(page, shapes.values())) if not is_doubt(text)]
    print(f"\n{right} of 300 right, {doubted} doubted; of {len(shapes)} other shapes believed: "
          + ", ".join(believed))
    assert len(believed) <= len(shapes) / 4 and doubted <= 6 and right >= 290
    page.close()


@pytest.mark.parametrize("drawing, expected", [
    ("13", "two digits: 13"), ("10", "two digits: 10"), ("407", "three digits: 407"),
    ("eight", "8 .*"), ("smiley", "no digit, I think"), ("scribble2", "no digit, I think")])
def test_several_digits_halves_and_none(page, drawing, expected):
    circle = [(math.cos(i / 4), math.sin(i / 4)) for i in range(27)]
    eight = [[(0.5 + 0.13 * x, 0.3 + 0.13 * y) for x, y in circle],
             [(0.5 + 0.15 * x, 0.68 + 0.15 * y) for x, y in circle]]
    draw(page, dict(doubt.shapes("choose"), eight=eight).get(drawing, drawing))
    assert re.fullmatch(expected, answer(page))
    title = text_of(page, "#why-title")  # of the net's own digit, whatever the answer is
    assert title.startswith("Why" if "%" in answer(page) else "The net by itself: why")


def test_a_pen_that_rests_is_answered_and_a_stroke_announced_once(page):
    x, y = draw(page, "")
    page.evaluate("""() => {
        window.said = [];
        new MutationObserver(() => said.push($("announcement").textContent))
            .observe($("announcement"), { childList: true });
    }""")
    page.mouse.move(x + 60, y + 40)
    page.mouse.down()
    page.mouse.move(x + 220, y + 45, steps=9)
    page.mouse.move(x + 120, y + 230, steps=9)
    settle(page)
    assert text_of(page, "#why") == ""  # while it moves, only the net's own digit
    time.sleep(0.4)
    assert answer(page).startswith("7") and text_of(page, "#why") and not page.evaluate("said")
    page.mouse.up()
    settle(page)
    assert page.evaluate("said") == [answer(page)]


# ---- why, and the arithmetic of a unit ---------------------------------------------------------
def printed(text):
    """The signed numbers of a text, as exact thousandths."""
    text = re.sub("[−-] ?", "-", text).replace("+ ", "")
    return [round(1000 * float(each)) for each in re.findall(r"-?\d+\.\d+", text)]


@pytest.mark.parametrize("model", MODELS)
def test_why_adds_up_to_the_difference_of_the_logits(page, test_set, model):
    draw(page, "", model=int(model))
    net, recipe = PUBLISHED(model)
    for index in range(1, 17, 2):
        click(page, "#strip button", index)
        pixels = torch.tensor(page.evaluate("state.pixels"), dtype=torch.uint8).view(1, 28, 28)
        images = utils.normalise(utils.prepare(pixels, recipe).float())
        best = net(images.unsqueeze(1))[0].detach().topk(2)
        one, other = re.findall(r"\d", text_of(page, "#why-title"))
        assert [int(one), int(other)] == best.indices.tolist()
        high, low = printed(text_of(page, "#why-help"))
        assert [high, low] == pytest.approx((1000 * best.values).tolist(), abs=6)
        *parts, difference = (printed(text)[0] for text in texts_of(page, "#why li b"))
        assert len(parts) == 8 and sum(parts) == difference == high - low
        colours = page.evaluate("""[...document.querySelectorAll("#why canvas")].map(canvas =>
            new Set(new Uint32Array(canvas.getContext("2d").getImageData(0, 0, 28, 28).data.buffer))
                .size)""")
        assert len(colours) == 6 and min(colours) > 20  # a digit and a map over it


@pytest.mark.parametrize("model, layer", [(3, 0), (3, 1), (3, 2), (3, 3), (3, 11), (3, 12), (3, 13),
                                          (2, 12), (1, 1), (1, 3)])
def test_a_pinned_unit_stays_and_its_sum_is_right(page, model, layer):
    draw(page, "7", model=model)
    click(page, "#layers canvas", layer, at=(4, 4))
    unit = page.evaluate("state.unit")
    for digit in "34":  # it lives while one draws
        draw(page, digit, model=model)
        assert page.evaluate("state.unit") == unit
        value = page.evaluate("valueAfter(layers[state.unit.layer].to - 1, state.unit)")
        lines = texts_of(page, "#sum > div")
        assert printed(lines[-1])[-1] == round(1000 * value)
        if "all maps" in lines[0]:
            *parts, total = printed(text_of(page, "#sum .terms"))
            assert len(parts) > 2 and sum(parts) == total
        elif "largest" in lines[0]:
            *window, most = printed(lines[0])
            assert len(window) == 4 and most == max(window)
    if "all maps" in lines[0]:
        click(page, "#sum .terms button", 2)
        assert "map 3:" in text_of(page, "#sum")
    page.keyboard.press("Escape")
    assert page.evaluate("sumPanel.hidden")


@pytest.mark.parametrize("width, height", [(1280, 800), (768, 1024), (390, 844), (844, 390)])
def test_field_and_answer_stay_in_sight(browser, width, height):
    page = open_page(browser, viewport=dict(width=width, height=height), color_scheme="dark")
    draw(page, "3")
    assert answer(page).startswith("3 ")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for enlarged in (False, True):
        if enlarged:
            click(page, "#layers h3 button", 3)
        for layer in (3, 13):
            page.locator("#layers canvas").nth(layer).click(position=dict(x=4, y=4))
            for name in ("#seen", "#window", "#answer"):
                box = page.locator(name).bounding_box()
                assert -9 <= box["y"] and box["y"] + box["height"] <= height + 9, (name, layer)
    tones = page.evaluate("(style => style.boxShadow + style.outlineColor)"
                          "(getComputedStyle($('window')))")
    assert "rgb(0, 0, 0)" in tones and "rgb(255, 255, 255)" in tones
    assert page.complaints == []
    page.close()


# ---- the screen --------------------------------------------------------------------------------
@pytest.mark.parametrize("model", MODELS)
def test_layers_are_those_of_rf_md(page, model):
    draw(page, "", model=int(model))
    page_text = (ROOT / "RF.md").read_text(encoding="utf-8")
    rows = table(page_text.split(f"field of model{model} -->")[1].split("<!")[0])[1:]  # no input
    shown = texts_of(page, ".layer:has(canvas)")
    assert len(shown) == len(rows) - 1
    for text, row in zip(shown, rows):
        title, facts = [line for line in text.split("\n") if line][:2]
        number, kind = row["layer"].split()
        word = "conv" if kind == "Conv2d" else "linear" if kind == "Linear" else "pool"
        assert title.startswith(f"{number} ") and word in title
        assert facts == f"{row['output']} · sees {row['sees (pixels)']}"
    assert texts_of(page, ".names span") == list("0123456789")


COLOURS = """layers.map(({ canvas }) => new Set(new Uint32Array(canvas.getContext("2d")
    .getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size)"""


def test_one_screen_explains_itself(browser):
    page = open_page(browser, viewport=dict(width=1280, height=800))
    assert page.locator("#invitation").is_visible() and page.locator("#strip button").count() == 20
    assert max(page.evaluate(COLOURS)) <= 2  # maps that show nothing: paper, and what is between
    draw(page, "8")
    assert not page.locator("#invitation").is_visible() and min(page.evaluate(COLOURS)) > 5
    box = page.locator("#layers").bounding_box()
    assert page.evaluate("scrollY") == 0 and box["y"] + box["height"] <= 800
    page.locator("#layers h3 button").nth(4).click()
    large = page.locator("#layers canvas").nth(4).bounding_box()
    assert large["width"] > 0.75 * 1280 and 0 <= large["y"] < 400
    page.locator("summary").click()
    wrong = page.locator("#misread button")
    assert wrong.count() == len(utils.read_csv(ROOT / "results/model3/seed0/mistakes.csv"))
    wrong.last.click()
    settle(page)
    label, guess = wrong.last.inner_text().split(" → ")
    assert f"labelled {label}" in page.inner_text("#label")
    assert page.evaluate("likeliest(classify(state.pixels, 3))") == int(guess)
    page.close()


def test_a_link_and_a_picture_reproduce_the_drawing(browser):
    page = open_page(browser)
    for digit in ("5", None):  # drawn; a test digit
        if digit:
            draw(page, digit)
        else:
            click(page, "#strip button", 7)
        with page.expect_download() as download:
            page.locator("#png").click()
        pixels = page.evaluate("state.pixels")
        assert np.asarray(Image.open(download.value.path()).convert("L")).ravel().tolist() == pixels
        again = open_page(browser, page.locator("#link").get_attribute("href"))
        assert np.abs(np.subtract(again.evaluate("state.pixels"), pixels)).mean() < 1
        assert answer(again)[:3] == answer(page)[:3]
        again.close()
    for wrong in ("#layers-title", "#40,1", "#40,1,2;x", "#999999"):
        page.goto(PAGE + wrong)
        assert page.evaluate("state.loaded.index") == page.evaluate("DIGITS[7].index")
    assert page.complaints == []
    page.close()


def test_on_paper_are_the_drawing_the_answer_and_all_layers(browser):
    page = open_page(browser, viewport=dict(width=390, height=844), color_scheme="dark")
    draw(page, "4")
    page.emulate_media(media="print")
    assert page.locator(":is(#drawing, #seen, #answer, #why, .layer):visible").count() == 4 + 15
    assert page.locator(":is(button, a, input, #strip):visible").count() == 15  # layers' titles
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("$('seen').getContext('2d').getImageData(0, 0, 1, 1).data[0]") == 255
    assert min(page.evaluate(COLOURS)) > 5
    page.close()


@pytest.mark.parametrize("forced", ["none", "active"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_for_everybody(browser, scheme, forced):
    page = open_page(browser, viewport=dict(width=1280, height=800), color_scheme=scheme,
                     forced_colors=forced)
    light = {}
    for name in ("page", "sheet", "ink", "quiet", "edge", "positive", "negative"):
        rgb = page.evaluate("""name => {
            document.body.style = `forced-color-adjust: none; color: var(--${name})`;
            return getComputedStyle(document.body).color.match(/\\d+/g);
        }""", name)
        rgb = np.array(rgb, dtype=float) / 255
        linear = np.where(rgb < 0.04, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        light[name] = linear @ (0.2126, 0.7152, 0.0722) + 0.05
    for name in ("ink", "quiet", "edge", "positive", "negative"):
        for ground in (light["page"], light["sheet"]):
            contrast = max(light[name] / ground, ground / light[name])
            assert contrast >= (3 if name == "edge" else 4.5), name
    one, two, chosen = (np.mean(Image.open(io.BytesIO(each.screenshot())).convert("L"))
                        for each in page.locator("#models span").all())
    assert abs(one - two) < 20 and abs(one - chosen) > 100  # as painted
    system = page.evaluate("""(document.body.style.color = "Canvas",
        getComputedStyle(document.body).color.match(/\\d+/g).map(Number))""")
    assert (page.evaluate("colours.rgb.page") == system) == (forced == "active")

    stops = []
    for _ in range(12):
        page.keyboard.press("Tab")
        stops.append(page.evaluate("document.activeElement.closest('#layers') !== null"))
    assert stops.index(True) <= 10
    page.locator("#drawing").focus()
    page.keyboard.press("ArrowUp")
    assert page.locator("#pen").is_visible()
    assert page.evaluate("""[...document.querySelectorAll("button, summary, a, #models span")]
        .filter(each => each.checkVisibility() && each.getBoundingClientRect().height < 40)
        .map(each => each.textContent)""") == []
    assert page.locator("canvas[tabindex][role=img]").count() == 0
    page.close()


def test_without_weights_or_scripts_the_page_says_so(browser):
    for scripts, text in ((True, "weights.js is missing"), (False, "needs JavaScript")):
        page = browser.new_page(java_script_enabled=scripts)
        page.route("**/weights.js", lambda route: route.abort())
        page.goto(PAGE)
        assert text in page.inner_text("body")
        page.close()


def test_keyboard_alone(page):
    draw(page, "")
    page.evaluate("drawing.focus()")
    for key in ["ArrowUp"] * 8 + [" "] + ["ArrowDown"] * 16 + [" "]:
        page.keyboard.press(key)
    settle(page)
    assert answer(page).startswith("1 ")
    page.evaluate("layers[0].canvas.focus()")
    page.keyboard.press("ArrowRight")
    assert "Layer 1, map 1, row 1, column 2" in text_of(page, "#unit")
    page.keyboard.press("Enter")
    assert not page.evaluate("sumPanel.hidden || $('window').hidden")
    page.keyboard.press("Escape")
    page.evaluate("document.querySelector('#models input:checked').focus()")
    page.keyboard.press("ArrowLeft")
    settle(page)
    assert f"{sum(p.numel() for p in PUBLISHED('2')[0].parameters()):,}" in text_of(page, "#cost")


# ---- the net in C ------------------------------------------------------------------------------
DIGIT_C = ROOT / "demo" / "digit.c"
WEIGHTS_H = DIGIT_C.with_name("digit_weights.h").read_text(encoding="utf-8")
IN_C = re.search("of model (.+);", WEIGHTS_H)[1]  # 3, unless export.py has put another there
MEASURED = {row["measured"]: row for row in utils.read_csv(ROOT / "results/microcontrollers.csv")
            if row["net"] == f"Model {IN_C}"}
MAIN = r"""
#include <stdio.h>
#include "digit.h"
static uint8_t pixels[784], work[DIGIT_WORK];
static int32_t result[11];
int main(void) {
    while (fread(pixels, 784, 1, stdin)) {
        result[10] = digit(pixels, work, result);
        fwrite(result, sizeof result, 1, stdout);
    }
}"""


def run(folder, *program, **options):
    """What a program prints in a folder, or a skip if it is not installed."""
    if shutil.which(program[0]) is None:
        pytest.skip(f"{program[0]} is not installed")
    return subprocess.run(program, cwd=folder, check=True, stdout=subprocess.PIPE, **options).stdout


def in_c(folder, images, *flags):
    """Logits and answers (N, 11) of digit.c on this machine."""
    (folder / "main.c").write_text(MAIN)
    run(folder, "cc", "-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", *flags,
        f"-I{DIGIT_C.parent}", DIGIT_C, "main.c", "-o", "digit")
    printed = run(folder, str(folder / "digit"), input=images.numpy().tobytes())
    return torch.frombuffer(bytearray(printed), dtype=torch.int32).view(-1, 11)


def test_the_net_in_c_reads_all_test_digits_as_torch_does(test_set, tmp_path):
    (images, labels), (net, recipe) = test_set, PUBLISHED(IN_C)
    answers, expected = in_c(tmp_path, images)[:, 10], utils.predict(net, images, recipe).argmax(1)
    right, should = ((each == labels).sum().item() for each in (answers, expected))
    assert (answers != expected).sum() <= 10 and right >= should - 3  # of 10,000
    assert MEASURED["Cortex-M3, emulated"]["accuracy"] == f"{right / 100:.2f}"


def test_the_net_in_c_stays_in_its_arrays_and_overflows_nowhere(tmp_path):
    images = DIGITS(304, seed=0)[0].clone()
    images[0], images[1], images[2] = 0, 255, 0  # the last one gets a dot
    images[2, 27, 0] = 1
    images[3] = torch.randint(256, (28, 28), generator=torch.Generator().manual_seed(0))
    got = in_c(tmp_path, images, "-fsanitize=address,undefined", "-fno-sanitize-recover")
    net, recipe = PUBLISHED(IN_C)
    expected = utils.forward(net, utils.prepare(images, recipe))
    torch.testing.assert_close(got[:, :10] * export.LOGIT, expected, rtol=0, atol=0.6)


@pytest.mark.parametrize("cpu, board, mhz, memory", [
    ("Cortex-M3", "stm32vldiscovery", 24, "FLASH=0x08000000,--defsym=RAM=8K"),
    ("Cortex-M0", "microbit", 16, "FLASH=0,--defsym=RAM=16K")])
def test_a_microcontroller_gives_the_same_answers(tmp_path, cpu, board, mhz, memory):
    images, _ = DIGITS(200, seed=0)
    (tmp_path / "pixels").write_bytes(images.numpy().tobytes())
    gcc = functools.partial(
        run, tmp_path, "arm-none-eabi-gcc", f"-mcpu={cpu.lower()}", "-mthumb", "-Os",
        "-ffreestanding", "-nostdlib", "-Wl,--gc-sections", f"-I{DIGIT_C.parent}", DIGIT_C, "-lgcc")
    gcc("-Wl,-e,digit", "-o", "alone")
    gcc(ROOT / "tests" / "board.c", "-T", ROOT / "tests" / "board.ld", f"-Wl,--defsym={memory}",
        "-o", "all")
    run(tmp_path, "qemu-system-arm", "-M", board, "-kernel", "all", "-semihosting", "-icount",
        "shift=0", *"-display none -monitor none -serial none".split(), timeout=100)
    got = torch.frombuffer(bytearray((tmp_path / "answers").read_bytes()), dtype=torch.int32)
    got, used = got.view(-1, 14).split([11, 3], dim=1)
    assert torch.equal(got, in_c(tmp_path, images))
    text, data, bss = run(tmp_path, "arm-none-eabi-size", "alone").split()[6:9]
    stack, work, ticks = used.double().T  # an instruction takes a nanosecond here
    found = dict(flash=int(text), ram=(stack + work).max(), takes=ticks.mean() * 1000 / mhz)
    assert data == bss == b"0" and found["flash"] <= 14000 and found["ram"] <= 5000
    row = MEASURED[f"{cpu}, emulated"]
    assert found == {key: pytest.approx(int(row[key].split()[0]), rel=0.05) for key in found}


def test_digit_weights_h_is_current_and_small():
    largest = re.search(r"training images:\n//(.*)", WEIGHTS_H)[1]
    current = export.digit_weights_h(IN_C, [float(each) for each in largest.split(",")])
    assert WEIGHTS_H == current, "out of date: run python demo/export.py"
    assert int(re.search(r"([\d,]+) bytes of constants", current)[1].replace(",", "")) <= 9216


def test_a_net_that_digit_c_cannot_compute_is_refused():
    net, _ = predict.load_net("3")
    for largest in [0.004] * 6, [8.0 ** -i for i in range(6)]:
        with pytest.raises(utils.UserError, match="too many bits"):
            export.integers_for_c(net, largest)
    net.layers[0][2].weight.data[5] *= -1
    with pytest.raises(utils.UserError, match="a negative factor behind the max pool"):
        export.layers_for_c(net)
    net.layers[3][0] = nn.Conv2d(32, 32, 3, groups=16, bias=False)
    with pytest.raises(utils.UserError, match="depthwise 3 → 7 where this net has grouped 3 → 7"):
        export.layers_for_c(net)
