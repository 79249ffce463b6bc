"""Write weights.js, all that the page knows about the nets, and digit_weights.h, all that digit.c
knows about one of them:

    python demo/export.py              Model 3 for digit.c
    python demo/export.py --model 2    Model 2

A net becomes a flat list of operations. They are found by running it on one image and writing down
every function of torch that it calls, so it does not matter how the net is written. A BatchNorm
right behind a convolution is folded into it; a layer that is applied several times is listed each
time. What the page's engine (net.js) cannot compute is refused, and so is for digit.c what that
cannot."""

import argparse
import base64
import itertools
import json
import sys
import textwrap
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.nn import Parameter
from torch.overrides import TorchFunctionMode

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import picture  # noqa: E402
import predict  # noqa: E402

import utils  # noqa: E402
from utils import UserError  # noqa: E402

PER_CLASS = 2  # test digits of each class in the page's row, beside those that a net misreads


# ---- the operations ----------------------------------------------------------------------------
# Each function below has the name and the arguments of a function of torch. It returns what the
# page is to compute in its place, or None where eval mode leaves nothing to compute.
def conv2d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    require(side(dilation) == 1, "dilation")
    kernel = side(weight.shape[2:])
    if padding == "same" and kernel % 2:
        padding = kernel // 2
    return dict(kind="conv", kernel=kernel, stride=side(stride), padding=side(padding),
                groups=groups, weight=weight, bias=bias)


def batch_norm(x, mean, variance, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    require(not training, "a batch's own statistics")
    scale = (variance.double() + eps).rsqrt() * (1 if weight is None else weight.double())
    shift = (0 if bias is None else bias.double()) - mean.double() * scale
    return dict(kind="affine", scale=scale, shift=shift)


def max_pool2d(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False,
               return_indices=False):
    require(side(dilation) == 1 and not ceil_mode, "dilation or ceil_mode")
    return dict(kind="maxpool", kernel=side(kernel_size), stride=side(stride or kernel_size),
                padding=side(padding))


def avg_pool2d(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True,
               divisor_override=None):
    require(side(padding) == 0 and not ceil_mode, "padding or ceil_mode")
    require(divisor_override is None, "divisor_override")
    return dict(kind="avgpool", kernel=side(kernel_size), stride=side(stride or kernel_size),
                padding=0)


def adaptive_avg_pool2d(x, output_size):
    kernel, rest = divmod(side(x.shape[2:]), side(output_size))
    require(rest == 0, "windows of unequal size")
    return avg_pool2d(x, kernel)


def relu(x, inplace=False):
    return dict(kind="relu")


def linear(x, weight, bias=None):
    require(x.dim() == 2, "maps: flatten them first")
    return dict(kind="linear", weight=weight, bias=bias)


def nothing(x, *args, **kwargs):
    """The numbers stay, and their order: reshaping, dropout in eval mode. So do the probabilities
    behind a log-softmax, if it is the last step; else the check in operations() finds it."""


SUPPORTED = {each.__name__: each for each in (
    conv2d, batch_norm, max_pool2d, avg_pool2d, adaptive_avg_pool2d, relu, linear)}
SUPPORTED |= dict.fromkeys(("flatten", "view", "reshape", "dropout", "log_softmax"), nothing)


def side(size):
    """The side of a square: 3 for 3 and for (3, 3)."""
    first, *others = size if isinstance(size, (tuple, list)) else [size]
    require(isinstance(first, int) and all(each == first for each in others), f"the size {size}")
    return first


def require(condition, what):
    if not condition:
        raise UserError(what)


# ---- from a net to a list of them --------------------------------------------------------------
class Recorder(TorchFunctionMode):
    """While it is active, it writes down each function of torch that takes the image a step on."""

    def __init__(self, image):
        super().__init__()
        self.last = image  # what the step before returned
        self.operations = []
        self.counted = set()  # parameters, by their id

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        if not isinstance(result, torch.Tensor):  # a question: x.shape, x.size(0), x.dim()
            return result
        name = function.__name__
        require(name in SUPPORTED, f"{name}()")
        require(args[0] is self.last, f"{name}() on anything but the step before (a branch)")
        try:
            operation = SUPPORTED[name](*args, **kwargs)
        except UserError as error:
            raise UserError(f"{name}() with {error}") from None
        if operation:
            parameters = [each for each in (*args, *kwargs.values()) if isinstance(each, Parameter)]
            self.add(operation, parameters, shape=list(result.shape[1:]))
        self.last = result
        return result

    def add(self, operation, parameters, shape):
        new = {id(each): each.numel() for each in parameters if id(each) not in self.counted}
        self.counted |= new.keys()
        before = self.operations[-1] if self.operations else dict(kind="image")
        if (before["kind"], operation["kind"]) == ("conv", "affine"):  # the second into the first
            fold(before, operation)
            before["parameters"] += sum(new.values())
            before["batchnorm"] = True
        else:
            self.operations.append(dict(operation, shape=shape, parameters=sum(new.values())))


def fold(conv, affine):
    """Put the factors and summands of a BatchNorm into the convolution before it, in place."""
    scale, shift = affine["scale"], affine["shift"]
    conv["weight"] = conv["weight"].double() * scale[:, None, None, None]
    conv["bias"] = (0 if conv["bias"] is None else conv["bias"]) * scale + shift


def operations(net, name="the net"):
    """The list of what `net` does in eval mode with one normalised image (1, 1, 28, 28).

    Each operation is a dict of its kind, what compute() reads, and: shape, of its output without
    the batch; parameters, those of the net that come in here for the first time, a folded
    BatchNorm's with its convolution. Raises UserError if the net is more than such a list."""
    net.eval()
    images = torch.randn(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    image = images[:1]
    recorder = Recorder(image)
    try:
        with torch.no_grad(), recorder:
            net(image)
    except UserError as error:
        raise UserError(f"{name}: the page cannot compute {error}") from None
    with torch.no_grad():
        expected = net(images).softmax(dim=1)
        computed = compute(recorder.operations, images).softmax(dim=1)
    if expected.shape != computed.shape or not torch.allclose(expected, computed, atol=1e-5):
        raise UserError(f"{name}: its list of operations does not compute what the net computes")
    return recorder.operations


def compute(operations, x):
    """What the list makes of normalised images (N, 1, 28, 28): (N, numbers). As net.js does it."""
    for step in operations:
        # The arguments as torch has them: weights in 32 bits, as weights.js holds them.
        weight, bias, scale, shift = (
            step[key].float() if step.get(key) is not None else None
            for key in ("weight", "bias", "scale", "shift"))
        kind, kernel, stride, padding = (
            step.get(key) for key in ("kind", "kernel", "stride", "padding"))
        if kind == "conv":
            x = F.conv2d(x, weight, bias, stride, padding, groups=step["groups"])
        elif kind == "affine":
            x = x * scale[:, None, None] + shift[:, None, None]
        elif kind == "maxpool":
            x = F.max_pool2d(x, kernel, stride, padding)
        elif kind == "avgpool":
            x = F.avg_pool2d(x, kernel, stride)
        elif kind == "linear":
            x = F.linear(x.flatten(1), weight, bias)
        else:
            x = F.relu(x)
    return x.flatten(1)


# ---- weights.js --------------------------------------------------------------------------------
def text_of(numbers, dtype):
    """A tensor as base64 of its little-endian numbers; None for none."""
    if numbers is None:
        return None
    return base64.b64encode(numbers.detach().numpy().astype(dtype).tobytes()).decode()


def packed(net, name="the net"):
    """operations() of a net, ready for JSON."""
    steps = operations(net, name)
    for step in steps:
        for key in {"weight", "bias", "scale", "shift"} & step.keys():
            step[key] = text_of(step[key], "<f4")
    return steps


def published(model):
    """What the page gets of the published seed 0 of model "1", "2" or "3"."""
    net, recipe = predict.load_net(model)
    wanted = [name for name in ("upright", "deskew") if recipe.get(name)]  # as utils.prepare has it
    return dict(parameters=sum(p.numel() for p in net.parameters()),
                preparation=wanted[0] if wanted else "none",
                operations=packed(net, f"model{model}.py"))


def strip():
    """Test digits for the page: the first of each class, then all that some net misreads."""
    images, labels = utils.load_mnist(utils.find_mnist(), train=False)
    chosen = [i for digit in range(10)
              for i in (labels == digit).nonzero().flatten().tolist()[:PER_CLASS]]
    misread = {}
    for model in ("1", "2", "3"):
        table = utils.HERE / "results" / f"model{model}" / "seed0" / "mistakes.csv"
        for row in utils.read_csv(table):
            misread.setdefault(int(row["index"]), {})[model] = int(row["prediction"])
    return [dict(index=i, label=labels[i].item(), misread=misread.get(i, {}),
                 pixels=text_of(images[i], "u1")) for i in dict.fromkeys([*chosen, *misread])]


def weights_js():
    """The text of weights.js: plain data, an operation or a digit a line."""
    constants = {name: each for name, each in vars(picture).items() if type(each) in (int, float)}
    doubt = (utils.HERE / "results" / "doubt.json").read_text()
    lines = ["// Written by export.py from the published weights; do not edit.",
             f"const MEAN = {utils.MEAN}, STD = {utils.STD};",
             f"const FAINT = {utils.FAINT}, SPREAD = {utils.SPREAD};",
             f"const PICTURE = {json.dumps(constants)};",
             f"const DOUBT = {doubt.strip()};",
             f"const SAMPLES = {10 * PER_CLASS};  // of DIGITS; then those that a net misreads",
             "const NETS = {"]
    for model in ("1", "2", "3"):
        net = published(model)
        steps = net.pop("operations")
        lines.append(f'{model}: {json.dumps(net)[:-1]}, "operations": [')
        lines += [json.dumps(step) + "," for step in steps]
        lines.append("]},")
    lines += ["};", "const DIGITS = [", *(json.dumps(digit) + "," for digit in strip()), "];"]
    return "\n".join(lines) + "\n"


# ---- digit_weights.h ---------------------------------------------------------------------------
# digit.c computes with integers. Each counts in a unit, a real number. The unit of an 8-bit map is
# a 255th of the largest value that it has on training images. A sum's unit is that of its weights
# times that of its inputs. Weights have, for each output, a unit that makes the sum's unit times a
# power of two the unit of the map behind: digit.c then needs a shift and no multiplication.
IMAGES = 10000  # training images that show how large the maps' values are
LOGIT = 2.0 ** -16  # the unit of the logits
SIDES = 13, 11, 9, 7, 5, 3  # of the separable layers' inputs
LAYERS = ["conv 3 → 26", "maxpool 2 → 13", "affine → 13", "relu → 13"]  # what digit.c has
for _side in SIDES[1:]:
    LAYERS += [f"depthwise 3 → {_side}", f"conv 1 → {_side}", f"relu → {_side}"]
LAYERS += ["depthwise 3 → 1", "linear"]


def in_words(step):
    """An operation as in LAYERS: its kind, its kernel and the side of its output."""
    words = [step["kind"], *([str(step["kernel"])] if "kernel" in step else [])]
    if step["kind"] == "avgpool":  # a depthwise convolution with equal weights
        words[0] = "depthwise"
    if step.get("groups", 1) > 1:
        plain = step["groups"] == step["weight"].shape[0] and step["bias"] is None
        words[0] = "depthwise" if plain else "grouped"
    return " ".join(words + [f"→ {side}" for side in step["shape"][2:]])


def layers_for_c(net, name="the net"):
    """(first layer, separable layers) of a net, in floating point. A dict each: weight (outputs,
    inputs) and bias (outputs,); of separable ones depthwise (inputs, 9), too. Raises UserError if
    digit.c cannot compute them."""
    steps = operations(net, name)
    for ours, theirs in itertools.zip_longest(map(in_words, steps), LAYERS, fillvalue="nothing"):
        if ours != theirs:
            raise UserError(f"{name}: digit.c computes {theirs} where this net has {ours}")
    first, _, affine = steps[:3]
    if (affine["scale"] <= 0).any():  # the largest of four would become the smallest
        raise UserError(f"{name}: digit.c cannot compute a negative factor behind the max pool")
    fold(first, affine)
    weight = first["weight"].flatten(1) / (255 * utils.STD)  # for pixels as they are, from 0 to 255
    bias = first["bias"] - weight.sum(dim=1) * 255 * utils.MEAN

    separable = []
    convolutions = [step for step in steps[4:] if step["kind"] != "relu"]
    for depthwise, mix in zip(convolutions[::2], convolutions[1::2]):
        inputs = mix["weight"].shape[1]
        average = torch.full((inputs, 9), 1 / 9, dtype=torch.double)
        separable.append(dict(depthwise=depthwise.get("weight", average).double().view(-1, 9),
                              weight=mix["weight"].double().flatten(1), bias=mix["bias"].double()))
    return dict(weight=weight, bias=bias), separable


def largest_values(net, recipe):
    """The largest value behind each ReLU on the first training images."""
    images, _ = utils.load_mnist(utils.find_mnist(), train=True)
    images = utils.prepare(images[:IMAGES], recipe).unsqueeze(1)
    steps = operations(net)
    largest = []
    for batch in images.split(500):
        x, seen = utils.normalise(batch.float()), []
        for step in steps[:-2]:
            with torch.no_grad():
                x = compute([step], x).view(-1, *step["shape"])
            if step["kind"] == "relu":
                seen.append(x.max())
        largest.append(torch.stack(seen))
    largest = torch.stack(largest).amax(dim=0)
    return [float(f"{value:.4g}") for value in largest]


def eight_bits(weight, bias, unit_in, unit_out):
    """The integers of a layer: dict(weight, bias, shift) for inputs and outputs in these units. A
    weight's unit is the smallest that keeps it within ±127 and makes the shift a whole number. The
    bias has half a unit of the output more, so that the shift rounds."""
    largest = weight.abs().amax(dim=1) * unit_in / unit_out
    shift = (127 / largest).log2().floor()
    unit = unit_out / unit_in * 2.0 ** -shift
    return dict(weight=(weight / unit[:, None]).round(),
                bias=(bias / (unit * unit_in) + 2.0 ** (shift - 1)).round(), shift=shift)


def integers_for_c(net, largest, name="the net"):
    """What digit.c computes with: (first layer, separable layers), as layers_for_c() has them, each
    with shift (outputs,). largest: what largest_values() found."""
    first, separable = layers_for_c(net, name)
    units = [value / 255 for value in largest]
    integers = [eight_bits(**first, unit_in=1, unit_out=units[0])]
    most = [(integers[0]["weight"].abs() * 255).sum(dim=1)]
    for layer, unit_in, unit_out in zip(separable, units, [*units[1:], LOGIT]):
        unit = layer["depthwise"].abs().amax(dim=1) / 127
        depthwise = (layer["depthwise"] / unit[:, None]).round()
        # No step lies between the two convolutions: the units of the first go into the second.
        integers.append(eight_bits(layer["weight"] * unit, layer["bias"], unit_in, unit_out))
        integers[-1]["depthwise"] = depthwise
        most.append(integers[-1]["weight"].abs() @ (depthwise.abs().sum(dim=1) * 255))
    for layer, sums in zip(integers, most):
        if (sums + layer["bias"].abs()).max() >= 2 ** 31 or layer["shift"].min() < 1:
            raise UserError(f"{name}: a sum has too many bits for digit.c, or too few")
    return integers[0], integers[1:]


def places(shapes):
    """[(from, to) of each separable layer in digit.c's work], and the bytes of work. shapes: (side,
    inputs, outputs). An output begins at 0 if the input lies so far behind that no pixel of it is
    overwritten before its last use; else it begins behind the input."""
    def gap(side, inputs, outputs):
        windows = [y * side + x for y in range(side - 2) for x in range(side - 2)]
        return max(done * outputs - window * inputs for done, window in enumerate(windows))

    begin = max(28 * 28, gap(*shapes[0]))  # before it lies the image
    pairs, ends = [], []
    for side, inputs, outputs in shapes:
        end = begin + side * side * inputs
        to = 0 if begin >= gap(side, inputs, outputs) else end
        pairs.append((begin, to))
        ends.append(end)
        begin = to
    return pairs, max(ends)


def digit_weights_h(model, largest):
    """The text of digit_weights.h for a published model; largest: what largest_values() found."""
    net, _ = predict.load_net(model)
    first, separable = integers_for_c(net, largest, f"model {model}")
    shapes = [(side, len(layer["depthwise"]), len(layer["bias"]))
              for side, layer in zip(SIDES, separable)]
    pairs, work = places(shapes)

    size, arrays, rows = {}, [], []  # bytes of each array; its lines; lines of the table

    def add(kind, name, numbers):
        size[name] = numbers.numel() * (4 if kind == "int32_t" else 1)
        text = ", ".join(str(int(number)) for number in numbers.flatten())
        arrays.extend([f"static const {kind} {name}[{numbers.numel()}] = {{",
                       *textwrap.wrap(text, 96, initial_indent="    ", subsequent_indent="    "),
                       "};"])

    arrays += ["", "// 28×28 → convolution → 13×13×CONV_OUTPUTS. Weights: output, row, column."]
    add("int8_t", "conv_weight", first["weight"])
    add("int32_t", "conv_bias", first["bias"])
    add("uint8_t", "conv_shift", first["shift"])
    for i, layer in enumerate(separable):
        side, inputs, outputs = shapes[i]
        arrays += ["", f"// {side}×{side}×{inputs} → separable → {side - 2}×{side - 2}×{outputs}. "
                       "Weights: row, column, channel; output, input."]
        add("int8_t", f"depthwise_{i}", layer["depthwise"].T)
        add("int8_t", f"pointwise_{i}", layer["weight"])
        add("int32_t", f"bias_{i}", layer["bias"])
        add("uint8_t", f"shift_{i}", layer["shift"])
        numbers = ", ".join(map(str, (*shapes[i], *pairs[i])))
        rows.append(f"{{{numbers}, depthwise_{i}, pointwise_{i}, bias_{i}, shift_{i}}}")

    lines = [f"// Written by export.py from the published weights of model {model}; do not edit.",
             "//", "// SPDX-License-Identifier: MIT",
             '// Copyright (c) 2026 the authors of "MNIST under 8,000 parameters"', "//",
             f"// The largest values behind each ReLU on {IMAGES:,} training images:",
             f"//     {', '.join(map(str, largest))}", "//",
             f"// {sum(size.values()):,} bytes of constants:",
             *(f"//     {name:12}{bytes:5}" for name, bytes in size.items()),
             f"// The table of layers at the end has {24 * len(rows)} more on a CPU of 32 bits.",
             "", f"#define NET_WORK {work}  // bytes of work that this net needs",
             f"#define CONV_OUTPUTS {len(first['bias'])}",
             f"#define MOST_CHANNELS {max(inputs for _, inputs, _ in shapes)}",
             f"#define LAYERS {len(rows) - 1}  // separable ones before the last", *arrays, "",
             "static const struct layer layers[LAYERS] = {", *(f"    {row}," for row in rows[:-1]),
             "};", f"static const struct layer last = {rows[-1]};"]
    return "\n".join(lines) + "\n"


# ---- command line ------------------------------------------------------------------------------
def main(argv=None):
    """Returns the exit status: 0, or 1 or 2 after one line that says what is wrong."""
    parser = argparse.ArgumentParser(prog="export.py", description=__doc__.partition(":")[0])
    parser.add_argument("--model", default="3", metavar="{2,3,PATH}",
                        help="the published model in digit_weights.h (default: 3)")
    model = parser.parse_args(argv).model
    try:
        utils.write(HERE / "weights.js", weights_js())
        largest = largest_values(*predict.load_net(model))
        utils.write(HERE / "digit_weights.h", digit_weights_h(model, largest))
    except (UserError, OSError) as error:
        print(f"export.py: error: {error}", file=sys.stderr)
        return getattr(error, "status", 1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
