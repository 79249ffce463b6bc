"""Read the digits in your own pictures: python demo/predict.py photo.jpg scan.png

A net that knows MNIST reads a picture only if it looks like one of MNIST's. picture.py sees to
that: paper, lines and specks go, and each digit is placed and sized as MNIST's were. Several digits
in a row are read as one number, several rows as a number each."""

import argparse
import itertools
import json
import sys
import traceback
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageOps

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
from picture import as_mnist, find_rows, to_rgb  # noqa: E402

import train  # noqa: E402
import utils  # noqa: E402
from utils import UserError  # noqa: E402

SURE = 0.5  # below this probability, on average over the digits, a picture has no digit
POSSIBLE = 0.35  # below this a piece of ink in a row of digits is none


def open_picture(path):
    """The file as a Pillow image, upright as its EXIF tag says. Raises UserError."""
    try:
        image = ImageOps.exif_transpose(Image.open(path))
        image.load()
        return image
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:  # Pillow has a dozen kinds for damaged and foreign files
        raise UserError(f"{path}: not a readable picture: {utils.describe(error)}") from None


def read(image, net, recipe):
    """The digits of a Pillow image, row by row: dicts with digit, probability, likeliest (the three
    likeliest as (digit, probability)), row from 0, box [x, y, width, height] in pixels of the
    image, and pixels, the (28, 28) uint8 that the net gets. Empty if the net is in doubt."""
    pixels, boxes = as_mnist(image, lambda digit: utils.predict(
        net, torch.from_numpy(digit[None]), recipe).max().item())
    if not boxes:
        return []
    rows = find_rows([(x, y, x + width, y + height) for x, y, width, height in boxes])
    row_of = {i: row for row, members in enumerate(rows) for i in members}
    found = []
    for i, each in enumerate(utils.predict(net, torch.from_numpy(pixels), recipe)):
        best = each.topk(3)
        likeliest = list(zip(best.indices.tolist(), best.values.tolist()))
        digit, probability = likeliest[0]
        if probability >= POSSIBLE:
            found.append(dict(digit=digit, probability=probability, likeliest=likeliest,
                              row=row_of[i], box=boxes[i], pixels=pixels[i]))
    mean = sum(each["probability"] for each in found) / max(len(found), 1)
    return found if mean >= SURE else []


def draw(image, digits, height=480):
    """The image with a box around each digit; beside it, what the net got of them."""
    photo = to_rgb(image)
    zoom = min(height / image.height, 5 * height / image.width)  # a strip may be long
    photo = photo.resize([max(1, round(zoom * side)) for side in image.size])
    pen = ImageDraw.Draw(photo)
    for each in digits:
        left, top, box_width, box_height = (zoom * value for value in each["box"])
        pen.rectangle((left - 3, top - 3, left + box_width + 3, top + box_height + 3),
                      outline=(230, 90, 20), width=3)
    side = height // max(2, len(digits))
    sheet = Image.new("RGB", (photo.width + side + 90, height), "white")
    sheet.paste(photo, (0, 0))
    pen = ImageDraw.Draw(sheet)
    for row, each in enumerate(digits):
        seen = Image.fromarray(each["pixels"])
        seen = seen.resize((side - 4, side - 4), Image.Resampling.NEAREST)
        sheet.paste(seen, (photo.width + 4, row * side + 2))
        lines = [f"{digit}: {100 * part:.1f} %" for digit, part in each["likeliest"]]
        pen.multiline_text((photo.width + side + 8, row * side + 4), "\n".join(lines), "black")
    return sheet


# ---- command line ------------------------------------------------------------------------------
def load_net(model, weights=None):
    """(net in eval mode, recipe) of --model and --weights, else seed 0's published ones. Raises
    UserError."""
    path, net_class, recipe = train.load_model_file(model)
    if weights is None:
        group = "baselines" if path.resolve().parent.name == "baselines" else ""
        weights = utils.HERE / "results" / group / path.stem / "seed0" / "model.pt"
        if not weights.exists():
            raise UserError(f"{path} has no published weights; name a run's, as --weights "
                            f"runs/{path.stem}/seed0/model.pt", 2)
    net = net_class()
    try:
        net.load_state_dict(utils.load(weights))
    except (RuntimeError, TypeError, AttributeError):
        raise UserError(f"{weights} does not hold the weights of {path}'s net, as its model.pt "
                        "does", 2) from None
    return net.eval(), recipe


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(prog="predict.py", description=__doc__.partition(":")[0])
    arg = parser.add_argument
    arg("pictures", nargs="+", metavar="PICTURE", help="a photo or scan of one or several digits")
    arg("--model", default="3", metavar="{1,2,3,PATH}",
        help="model1.py, model2.py, model3.py, or the path of any model file (default: 3)")
    arg("--weights", metavar="FILE", help="its model.pt (default: the published one of seed 0)")
    arg("--json", action="store_true", help="print one JSON object a picture")
    arg("--out", metavar="FOLDER", help="leave there each picture beside what the net saw of it")
    return parser.parse_args(argv)


def text_of(digits):
    """What read() found as text, a line a row."""
    rows = itertools.groupby(digits, key=lambda each: each["row"])
    return "\n".join("".join(str(each["digit"]) for each in row) for _, row in rows)


def report(path, digits, as_json):
    """Print what was read in a picture: one JSON object, or a line a row and one a digit."""
    text = text_of(digits)
    if as_json:
        fields = ("digit", "probability", "box")
        values = [{field: each[field] for field in fields} for each in digits]
        print(json.dumps(dict(file=path, text=text, digits=values)))
        return
    if not digits:
        print(f"{path}: no digit")
        return
    print(f"{path}: " + text.replace("\n", "\n" + " " * len(f"{path}: ")))
    for each in digits:
        parts = [f"{digit}: {100 * part:5.1f} %" for digit, part in each["likeliest"]]
        print("    " + "  ".join(parts))


def leave(path, sheet, folder, written):
    """Write the sheet of a picture. written: the names that this call has given already. x.png
    leaves x-seen.png, never x.png, which may be the picture itself; x.png of another folder leaves
    x-seen-2.png. Raises OSError."""
    first = name = f"{Path(path).stem}-seen"
    number = 1
    while name in written:
        number += 1
        name = f"{first}-{number}"
    written.add(name)
    sheet.save(Path(folder, f"{name}.png"))


def main(argv=None):
    """Returns the exit status: 0, 1 (a picture without digit, a file), 2 (arguments, model)."""
    utils.print_anything()
    args = parse_arguments(argv)
    status, written = 0, set()
    try:
        net, recipe = load_net(args.model, args.weights)
        if args.out:
            Path(args.out).mkdir(parents=True, exist_ok=True)
        for path in args.pictures:
            try:
                image = open_picture(path)
            except UserError as error:  # the others are still read
                print(f"predict.py: error: {error}", file=sys.stderr)
                status = 1
                continue
            digits = read(image, net, recipe)
            report(path, digits, args.json)
            if args.out:
                leave(path, draw(image, digits), args.out, written)
            if not digits:
                status = 1
    except (UserError, OSError) as error:
        print(f"predict.py: error: {error}", file=sys.stderr)
        if error.__cause__:  # the net's own exception
            traceback.print_exception(error.__cause__)
        return getattr(error, "status", 1)
    return status


if __name__ == "__main__":
    sys.exit(main())
