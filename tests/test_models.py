"""Nets: what ours state about themselves, that any student's net trains, and what a net sees, held
against oracles that know nothing of layers."""

import ast
import functools
import importlib
import math
import re
from pathlib import Path

import pytest
import torch
from conftest import FILES, ROOT, table
from torch import nn

import train
import utils

MODELS = ("model1", "model2", "model3")
NETS = (*MODELS, *sorted(path.stem for path in (ROOT / "baselines").glob("[a-f]?.py")))
LOOKING = nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Linear


def net(model):
    torch.manual_seed(0)
    return importlib.import_module(model).Net()


@functools.cache
def sees(model):
    """What receptive_field() measures, which takes a second."""
    return utils.receptive_field(net(model))


def source(model):
    return Path(importlib.import_module(model).__file__).read_text(encoding="utf-8")


# ---- the model files ---------------------------------------------------------------------------
@pytest.mark.parametrize("model, scheduler, fits", [
    ("model1", "OneCycleLR", lambda n: n == 13808),
    ("model2", "ReduceLROnPlateau", lambda n: n < 6000),
    ("model3", "OneCycleLR", lambda n: n < 8000)])
def test_budget_schedule_and_epochs(model, scheduler, fits):
    _, net_class, recipe = train.load_model_file(model[-1])
    assert fits(train.count(net_class()))
    assert recipe["scheduler"]["name"] == scheduler and recipe["epochs"] <= 15


@pytest.mark.parametrize("model", NETS)
def test_a_net_gives_ten_logits_for_every_image_alone(model):
    images = torch.randn(5, 1, 28, 28)
    judged = net(model).eval()
    logits = judged(images)
    assert logits.shape == (5, 10) and logits.dtype == torch.float32
    torch.testing.assert_close(logits[2:3], judged(images[2:3]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", NETS)
def test_a_model_file_imports_torch_and_nothing_else(model):
    modules = set()
    for node in ast.walk(ast.parse(source(model))):
        if isinstance(node, ast.ImportFrom):
            modules.add(node.module.split(".")[0])
        if isinstance(node, ast.Import):
            modules |= {name.name.split(".")[0] for name in node.names}
    assert modules == {"torch"}


def layers_and_lines(model, module):
    """(layer, its line) for whatever the source of Net assigns to self, alone or in a row."""
    code = source(model)
    tree = ast.parse(code)
    lines = code.splitlines()
    init = next(node for each in tree.body if isinstance(each, ast.ClassDef) and each.name == "Net"
                for node in each.body if getattr(node, "name", "") == "__init__")
    for node in ast.walk(init):
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call):
            continue
        layer = getattr(module, node.targets[0].attr)
        in_a_row = getattr(node.value.func, "attr", "") == "Sequential"
        calls = node.value.args if in_a_row else [node.value]
        for call, each in zip(calls, layer if in_a_row else [layer], strict=True):
            yield each, lines[call.end_lineno - 1]


@pytest.mark.parametrize("model", MODELS)
def test_every_layers_line_states_its_numbers_output_and_receptive_field(model):
    module, shapes, rows, numbers = net(model).eval(), {}, sees(model), []
    claims = list(layers_and_lines(model, module))
    for layer, _ in claims:
        layer.register_forward_hook(
            lambda layer, inputs, output: shapes.update({layer: tuple(output.shape[1:])}))
    module(torch.zeros(1, 1, 28, 28))
    for layer, line in claims:
        claim = re.search(r"#\s+((?:\d+(?:, \d+)?\s\s+)?)(\d+(?:×\d+×\d+)?)\s+(\d+)\b", line)
        assert claim, f"no output and receptive field: {line!r}"
        numbers += map(int, re.findall(r"\d+", claim[1]))
        shape = tuple(map(int, claim[2].split("×")))
        assert shape == shapes[layer], line
        measured = [row["without_edges"] for row in rows
                    if math.prod(row["output"]) == math.prod(shape)]
        assert int(claim[3]) in measured or "" in measured and int(claim[3]) >= 28, line
    assert numbers == list(range(1, len(rows)))  # those of RF.md, whose last row is the logits'
    assert len(claims) >= 3


# ---- any student's net -------------------------------------------------------------------------
STUDENTS = {  # name: (layers, forward, what the logits see, parameters)
    "view": ("a = nn.Conv2d(1, 4, 3); b = nn.Conv2d(4, 8, 3); head = nn.Linear(200, 10)",
             "x = F.max_pool2d(a(x).relu(), 2); x = F.max_pool2d(b(x).relu(), 2); "
             "return head(x.view(-1, 200))", 26, 2346),
    "branches": ("a = nn.Conv2d(1, 6, 3, padding=1); b = nn.Conv2d(6, 6, 7, padding=3); "
                 "c = nn.Conv2d(6, 6, 5, padding=2); d = nn.Conv2d(6, 10, 1); "
                 "pool = nn.AdaptiveAvgPool2d(1)",
                 "x = a(x); x = b(x) + c(x); return pool(d(x)).flatten(1)", 28, 2806),
    "residuals": ("a = nn.Conv2d(1, 6, 3, padding=1); b = nn.Conv2d(6, 6, 3, padding=1); "
                  "head = nn.Linear(6, 10)",
                  "x = a(x); y = b(x); y += x; return head(y.relu()[..., 14, 14])", 5, 460),
    "dilation": ("a = nn.Conv2d(1, 8, 3); b = nn.Conv2d(8, 10, 3, dilation=2); "
                 "pool = nn.AdaptiveAvgPool2d(1); flat = nn.Flatten()",
                 "return flat(pool(b(a(x).relu())))", 28, 810),
    "functional pools": ("a = nn.Conv2d(1, 8, 3); b = nn.Conv2d(8, 8, 3); c = nn.Conv2d(8, 10, 3)",
                         "x = F.max_pool2d(a(x).relu(), 2); x = F.max_pool2d(b(x).relu(), 2); "
                         "return F.adaptive_avg_pool2d(c(x), 1).flatten(1)", 26, 1394),
    "an uneven pool": ("a = nn.Conv2d(1, 4, 3); pool = nn.AdaptiveAvgPool2d(5); "
                       "b = nn.Conv2d(4, 10, 5); flat = nn.Flatten()",
                       "return flat(b(pool(a(x))))", 28, 1050),
    "no convolution": ("a = nn.Flatten(); b = nn.Linear(784, 9); c = nn.BatchNorm1d(9); "
                       "d = nn.ReLU(); e = nn.Linear(9, 10)",
                       "return e(d(c(b(a(x)))))", 28, 7183),
    "shared layers": ("a = nn.Conv2d(1, 5, 3); b = nn.Conv2d(5, 5, 3); c = nn.Conv2d(5, 10, 3)",
                      "return c(b(b(b(a(x)))))[..., 9, 9]", 11, 740),
    "frozen layers": ("a = nn.Conv2d(1, 4, 3).requires_grad_(False); b = nn.MaxPool2d(4); "
                      "head = nn.Linear(144, 10)",
                      "return head(b(a(x)).flatten(1)).log_softmax(dim=1)", 26, 1490),
    "LayerNorm": ("a = nn.Conv2d(1, 4, 4, stride=4); b = nn.LayerNorm([4, 7, 7]); "
                  "c = nn.Conv2d(4, 10, 7)", "return c(b(a(x))).squeeze(3).squeeze(2)", 28, 2430),
    "bare parameters": ("a = nn.Conv2d(1, 10, 5, stride=2); scale = nn.Parameter(torch.ones(10))",
                        "return a(x).amax(dim=(2, 3)) * scale", 27, 270),
    "recurrence": ("a = nn.GRU(28, 8, batch_first=True); head = nn.Linear(8, 10)",
                   "return head(a(x.squeeze(1))[0][:, 13])", 28, 1002),
    "lazy layers": ("a = nn.LazyConv2d(6, 5, stride=3); b = nn.LazyBatchNorm2d(); "
                    "head = nn.LazyLinear(10)",
                    "return head(b(a(x)).relu().flatten(1))", 26, 4018),
    "compiled": ("a = torch.compile(nn.Conv2d(1, 4, 5, stride=3), backend='eager'); "
                 "head = nn.Linear(256, 10)", "return head(a(x).relu().flatten(1))", 26, 2674),
    "weight_norm": ("a = nn.utils.weight_norm(nn.Conv2d(1, 4, 5, stride=3)); "
                    "head = nn.Linear(256, 10)", "return head(a(x).relu().flatten(1))", 26, 2678),
}


def student_file(name):
    """The source of a model file; its layers become attributes, its forward knows their names."""
    layers, forward, _, _ = STUDENTS[name]
    recipe = dict(epochs=1, batch_size=256, optimizer=dict(name="SGD", momentum=0.9),
                  scheduler=dict(name="OneCycleLR", max_lr=0.01), average=0.9)
    layers = re.sub(r"\b([a-z]+)(\.weight)? = ", r"self.\1\2 = ", layers)
    layers = layers.replace("= a.", "= self.a.")
    names = re.findall(r"self\.([a-z]+) =", layers)
    forward = re.sub(rf"(?<![\w.])({'|'.join(names)})\b(?=\(|$|;)", r"self.\1", forward)
    return "\n".join([
        "import torch", "from torch import nn", "import torch.nn.functional as F",
        f"RECIPE = {recipe}", "class Net(nn.Module):", "    def __init__(self):",
        "        super().__init__()", *(f"        {line}" for line in layers.split("; ")),
        "    def forward(self, x):", *(f"        {line}" for line in forward.split("; ")), ""])


def perturbed(module):
    """What a net's table should say, as (layer, output, window): with random weights, each row and
    each column of an image is changed in turn, and what of an output changes with it is marked."""
    module = module.double().eval()
    outputs, found = [], []
    for each in module.modules():
        if isinstance(each, LOOKING):
            each.register_forward_hook(
                lambda layer, _, output: outputs.append((type(layer).__name__, output)))
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    images = torch.randn(1, 1, 28, 28, dtype=torch.double).repeat(57, 1, 1, 1)
    for line in range(28):
        images[line, 0, line] += 3 * torch.randn(28)
        images[28 + line, 0, :, line] += 3 * torch.randn(28)
    with torch.no_grad():
        logits = module(images)
    place = torch.arange(28)[:, None]
    for layer, output in [*outputs, ("logits", logits)]:
        changed = ((output[:56] - output[56:]).abs() > 1e-9).view(2, 28, -1)
        last = torch.where(changed, place, -1).amax(dim=1)
        first = torch.where(changed, place, 28).amin(dim=1)
        side = max(1, (last - first).max().item() + 1)
        found.append((layer, "×".join(map(str, output.shape[1:])), str(side)))
    return found


@pytest.mark.parametrize("name", STUDENTS)
def test_any_students_net_trains_and_sees_what_changed_lines_reach(tmp_path, main, name):
    path, (_, _, window, parameters) = tmp_path / "net.py", STUDENTS[name]
    path.write_text(student_file(name))
    status, out, err = main("--model", path, "--dry-run", "--epochs", "1")
    assert status == 0 and f"Parameters: {parameters:,} (budget" in out
    assert err == ""
    folder = tmp_path / "runs" / path.stem / "dry-run-seed0"
    assert {path.name for path in folder.iterdir()} == FILES

    _, net_class, _ = train.load_model_file(path)
    text = (folder / "rf.md").read_text()
    rows = [(row["layer"].split()[-1], row["output"], row["sees (pixels)"]) for row in table(text)]
    names = {each.__name__ for each in LOOKING} | {"logits"}
    assert [row for row in rows if row[0] in names] == perturbed(train.make_net(net_class))
    assert rows[-1] == ("logits", "10", str(window))
    assert text.endswith(f"\nParameters: {parameters:,}.\n") and parameters == train.count(
        train.make_net(net_class))
    assert sum(int(row["parameters"].replace(",", "")) for row in table(text)) == parameters


# ---- what a net sees ---------------------------------------------------------------------------
COURSE = """\
a = nn.Conv2d(1, 16, 3, padding=1); b = nn.Conv2d(16, 16, 3, padding=1); \
c = nn.Conv2d(16, 10, 3, padding=1); d = nn.Conv2d(10, 10, 3, padding=1); \
e = nn.Conv2d(10, 16, 3); f = nn.Conv2d(16, 16, 3); g = nn.Conv2d(16, 10, 3); \
p = nn.MaxPool2d(2); q = nn.MaxPool2d(2)"""


@pytest.mark.parametrize("layers, forward, sides, jumps", [
    # of a published course, with its author's numbers; ReLU, view and log_softmax are functions
    (COURSE, "x = p(F.relu(b(F.relu(a(x))))); x = q(F.relu(d(F.relu(c(x))))); "
     "x = g(F.relu(f(F.relu(e(x))))); return F.log_softmax(x.view(-1, 10), dim=-1)",
     [3, 5, 6, 10, 14, 16, 24, 32, 40], [1, 1, 2, 2, 2, 4, 4, 4, 4]),
    (*STUDENTS["dilation"][:2], [3, 7, "", ""], [1, 1, "", ""]),  # "": the pool, the logits
    (*STUDENTS["branches"][:2], [3, 9, 7, 9, "", ""], [1, 1, 1, 1, "", ""]),
    (*STUDENTS["functional pools"][:2], [3, 8, 18, ""], [1, 2, 4, ""]),
    (*STUDENTS["shared layers"][:2], [3, 5, 7, 9, 11, ""], [1, 1, 1, 1, 1, ""]),
    (*STUDENTS["view"][:2], [3, 8, "", ""], [1, 2, "", ""]),
    ("a = nn.Conv2d(1, 4, 3); b = nn.ConvTranspose2d(4, 10, 2, stride=2)",
     "return b(a(x)).mean(dim=(2, 3))", [3, 3, ""], [1, "", ""]),  # neighbours share a window
    ("a = nn.Conv2d(1, 4, 3); b = nn.AdaptiveAvgPool2d(5); c = nn.Conv2d(4, 10, 5)",
     "return c(b(a(x))).flatten(1)", [3, "", "", ""], [1, "", "", ""])])
def test_windows_without_edges_are_those_known_by_hand(tmp_path, layers, forward, sides, jumps):
    STUDENTS["one"] = layers, forward, 28, 0
    (tmp_path / "net.py").write_text(student_file("one"))
    del STUDENTS["one"]
    rows = utils.receptive_field(train.load_model_file(tmp_path / "net.py")[1]())
    assert [row["without_edges"] for row in rows][:len(sides)] == sides
    assert [row["jump"] for row in rows][:len(jumps)] == jumps
    assert len(rows) - len(sides) <= 1


def test_measuring_the_receptive_field_leaves_the_net_as_it_is():
    module = net("model3")
    before = {key: value.clone() for key, value in module.state_dict().items()}
    utils.receptive_field(module)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert not any(each._forward_hooks for each in module.modules())
