"""Write weights.js, all that the page knows about the nets: python demo/export.py

A net becomes a flat list of operations. They are found by running it on one image and writing down
every function of torch that it calls, so it does not matter how the net is written. A BatchNorm
right behind a convolution is folded into it; a layer that is applied several times is listed each
time. What the page's engine (net.js) cannot compute is refused."""

import base64
import json
import sys
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
            scale, shift = operation["scale"], operation["shift"]
            before["weight"] = before["weight"].double() * scale[:, None, None, None]
            before["bias"] = (0 if before["bias"] is None else before["bias"]) * scale + shift
            before["parameters"] += sum(new.values())
            before["batchnorm"] = True
        else:
            self.operations.append(dict(operation, shape=shape, parameters=sum(new.values())))


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


# ---- the file ----------------------------------------------------------------------------------
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


def main():
    """Returns the exit status: 0, or 1 or 2 after one line that says what is wrong."""
    try:
        utils.write(HERE / "weights.js", weights_js())
    except (UserError, OSError) as error:
        print(f"export.py: error: {error}", file=sys.stderr)
        return getattr(error, "status", 1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
