"""The model files, ours and the published nets: budgets, shapes, recipes, what comments claim."""

import ast
import importlib
import re
from pathlib import Path

import pytest
import report
import torch
from conftest import ROOT
from torch import nn

import train

MODELS = ("model1", "model2", "model3")
NETS = (*MODELS, *sorted(path.stem for path in (ROOT / "baselines").glob("[a-f]?.py")))
CHAINS = tuple(name for name in NETS if name != "c3")  # it has skips


def net(model):
    torch.manual_seed(0)
    return importlib.import_module(model).Net()


def source(model):
    return Path(importlib.import_module(model).__file__).read_text(encoding="utf-8")


@pytest.mark.parametrize("model, fits", [("model1", lambda n: n == 13808),
                                         ("model2", lambda n: n < 4000),
                                         ("model3", lambda n: n < 8000)])
def test_parameter_budget(model, fits):
    assert fits(sum(p.numel() for p in net(model).parameters()))


@pytest.mark.parametrize("model", NETS)
@pytest.mark.parametrize("batch", [2, 7])
def test_shapes(model, batch):
    logits = net(model)(torch.randn(batch, 1, 28, 28))
    assert logits.shape == (batch, 10)
    assert logits.dtype == torch.float32


@pytest.mark.parametrize("model", NETS)
def test_eval_mode_treats_every_image_alone(model):
    images = torch.randn(5, 1, 28, 28)
    judged = net(model).eval()
    torch.testing.assert_close(judged(images)[2:3], judged(images[2:3]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", NETS)
def test_a_model_file_imports_torch_and_nothing_else(model):
    tree = ast.parse(source(model))
    modules = {node.module if isinstance(node, ast.ImportFrom) else name.name
               for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))
               for name in node.names}
    assert {module.split(".")[0] for module in modules} == {"torch"}


@pytest.mark.parametrize("model", MODELS)
def test_docstring_has_target_result_analysis_in_this_order(model):
    headings = re.findall(r"^(Target|Result|Analysis)$", importlib.import_module(model).__doc__,
                          flags=re.MULTILINE)
    assert headings == ["Target", "Result", "Analysis"]


@pytest.mark.parametrize("model, scheduler", [("1", "OneCycleLR"), ("2", "ReduceLROnPlateau"),
                                              ("3", "OneCycleLR")])
def test_recipe(model, scheduler):
    _, _, recipe = train.load_model_file(model)
    assert recipe["scheduler"]["name"] == scheduler
    assert recipe["epochs"] <= 15


# ---- output shapes and receptive fields --------------------------------------------------------
@pytest.mark.parametrize("model", CHAINS)
def test_every_layers_line_states_its_output_and_receptive_field(model):
    code = source(model)
    body = code[code.index("nn.Sequential(", code.index("class Net")):].splitlines()[1:]
    claims = []
    for line in body[:next(i for i, line in enumerate(body) if line.strip() == ")")]:
        claim = re.search(r"# +(\d+(?:×\d+×\d+)?) +(\d+)$", line)
        assert claim, f"no output and receptive field: {line!r}"
        claims.append((tuple(map(int, claim[1].split("×"))), int(claim[2])))
    layers = net(model).layers.eval()
    images = torch.zeros(1, 1, 28, 28)
    for i, claim in enumerate(claims):
        images = layers[i](images)
        rf = report.receptive_field(layers[:i + 1])[-1]["rf_out"]
        assert claim == (tuple(images.shape[1:]), rf)
    assert len(claims) == len(layers)


def open_up(module):
    """The same geometry, but every input of a window reaches its output: average instead of max
    pooling, positive weights, no activation."""
    for name, child in module.named_children():
        if isinstance(child, nn.MaxPool2d):
            setattr(module, name, nn.AvgPool2d(child.kernel_size, child.stride))
        elif isinstance(child, nn.ReLU):
            setattr(module, name, nn.Identity())
        open_up(child)
    for parameter in module.parameters():
        nn.init.uniform_(parameter, 0.5, 1.5)
    return module.double().eval()


@pytest.mark.parametrize("size", [28, 64])
@pytest.mark.parametrize("model", CHAINS)
def test_receptive_field_is_the_window_that_gradients_reach(model, size):
    opened, outputs = open_up(net(model)), []
    for module in opened.modules():
        if isinstance(module, (nn.Conv2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Linear)):
            module.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    images = torch.ones(1, 1, size, size, dtype=torch.double, requires_grad=True)
    if size == 28:
        opened(images)
    else:  # up to the layer that takes the whole map, so that no window is cut off at an edge
        layers = net(model).layers.eval()
        whole = next(i for i in range(len(layers))
                     if layers[:i + 1](torch.zeros(1, 1, 28, 28)).shape[-1] == 1)
        opened.layers[:whole](images)
    rows, left = report.receptive_field(net(model)), 0  # left edge of the first output's window
    assert len(outputs) == sum(size == 28 or row["size_out"] > 1 for row in rows)
    for row, output in zip(rows, outputs):
        assert row["layer"] in ("Linear", "AdaptiveAvgPool2d", "MaxPool2d", "AvgPool2d", "Conv2d")
        before = row["jump"] // row["stride"]
        left -= row["padding"] * before
        unit = output.shape[-1] // 2 if output.dim() == 4 else 0
        value = output[0, 0, unit, unit] if output.dim() == 4 else output[0, 0]
        gradient, = torch.autograd.grad(value, images, retain_graph=True)
        reached = torch.zeros(size, size, dtype=torch.bool)
        first = left + unit * row["jump"]
        last = min(first + row["rf_out"], size)
        assert size == 28 or (first >= 0 and last < size)
        reached[max(first, 0):last, max(first, 0):last] = True
        assert torch.equal(gradient[0, 0] != 0, reached), row
