"""The published nets: their layers, recipes and receptive fields, and that they train. The classic
trainer, against which train.py is timed: its data are MNIST's, its steps learn."""

import copy
import re
import runpy

import classic_train
import pytest
import torch
from conftest import ROOT
from torch import nn

import train
import utils

# Layers: v a 3×3 convolution without padding, c with it, p a 1×1, w a 5×5 convolution, l a linear
# layer, each with its width, and ' for a bias; B BatchNorm, R ReLU, G GELU, D dropout, M 2×2 max
# pool, A average pool over the whole map. The recipe: batch size, optimizer, scheduler, augment.
ADAMW = "AdamW lr=0.001 weight_decay=0.0001", "StepLR step_size=1 gamma=1"
CYCLE = ("SGD momentum=0.9 nesterov=True",
         "OneCycleLR max_lr=0.3 pct_start=0.2 div_factor=10 final_div_factor=100")
STEADY = "SGD lr=0.01 momentum=0.9", "StepLR step_size=1 gamma=1"
LINE, SHIFTED = "rotate=7 nearest=True", "rotate=8 shift=2.8 nearest=True"
TWICE = "rotate=7 nearest=True; rotate=15 nearest=True"
PUBLISHED = dict(
    a1=(9412, "v8BRD v8BRD M v16BRD v16BRD M v32BRD p10BR A l10R l10", 0.05, 32, *ADAMW, LINE),
    a2=(6992, "v12BRD v12BRD M v12BRD v12BRD M v24BRD p10BR A", 0.05, 32, *ADAMW, LINE),
    a3=(6972, "v12BR v12BR M v12BR v12BR M v24BR A p10", None, 32,
        "AdamW weight_decay=0.0001", f"ByEpoch rates={10 * [0.001] + 5 * [0.0005]}", LINE),
    b1=(13808, "v16RBD v32RBD p10 M v16RBD v16RBD v16RBD c16RBD A p10", 0.1, 128, *CYCLE, LINE),
    b2=(9382, "c16'BR c16'BR M p12'D c20'BR c20'BR M p24'D A p10'", 0.05, 128, *CYCLE, LINE),
    b3=(7784, "v7BR v7BR v10BR M v10BR v12BR M c16BR c18BR A l10'", None, 128, *CYCLE, LINE),
    c1=(13808, "v16RBD v32RBD p10 M v16RBD v16RBD v16RBD c16RBD A p10", 0.03, 64, *STEADY, SHIFTED),
    c2=(5048, "v8RBD v16RBD p8 M v12RBD v12RBD c12RBD A p10", 0.1, 64, *STEADY, SHIFTED),
    c3=(7902, "v10GBD v14GBD p10 M v14GBD v14GBD v12GBD c12GBD p14 p12 A p10",  # skips: p14, p12
        0.03, 64, "SGD momentum=0.9", f"ByEpoch rates={10 * [0.01] + 5 * [0.005]}", SHIFTED),
    d1=(8620, "v8R v16R v16R p8 M v8R v8R v16R p10R w10", None, 128, *STEADY, ""),
    d2=(7416, "v8RBD v16RBD p8 M v16RBD v16RBD v16RBD A p10", 0.05, 128,
        "SGD lr=0.075 momentum=0.9 nesterov=True", "StepLR step_size=2 gamma=0.65", TWICE),
    d3=(6560, "v8RBD v16RBD p8RB M v12RBD v16RBD v16RBD A p10", 0.01, 128,
        "SGD lr=0.05 momentum=0.9", "StepLR step_size=4 gamma=0.35", TWICE),
    e1=(7918, "c10BRD c14BRD c16BRD M p12BR v16BRD v16BRD A p10", 0.05, 128,
        "SGD lr=0.05 momentum=0.9 weight_decay=0.0001", "StepLR step_size=8 gamma=0.1",
        "rotate=7 shift=1 scale=0.05"),
    f1=(3762, "c4'BR c4'BR c4'BR MD c8'BR c8'BR c8'BR MD c8'BR c8'BR c8'BR A p10'", 0.01, 32,
        "SGD momentum=0.9", "ByEpoch rates=[0.05, 0.075, 0.1, 0.085, 0.07, 0.055, 0.04, 0.025, "
        "0.01, 0.00875, 0.0075, 0.00625, 0.005, 0.00333, 0.00167]",
        "rotate=7 shift=2.52 scale=0.09 p=0.5; brightness=0.2 contrast=0.2 p=0.5"),
    f2=(6188, "v8BR v10BR MD v12BR v16BR MD v16BR AD l10", 0.008, 128, "Adam weight_decay=5e-05",
        "OneCycleLR max_lr=0.003 pct_start=0.2 div_factor=25 final_div_factor=1000",
        "rotate=5 shift=1.4 scale=0.02 nearest=True"),
    f3=(6128, "c8RBD v16RBD M p8 v8RBD v8RBD v16RBD v10RB v10 A", 0.1, 64, "Adam lr=0.01",
        "StepLR step_size=6 gamma=0.1", LINE),
    f4=(6750, "c10BRD c10BRD M v10BRD v10BRD v10BRD v10BRD v20BRD A p10", 0.05, 128,
        "SGD momentum=0.9", "OneCycleLR max_lr=0.1 pct_start=0.3", "rotate=15 nearest=True"),
    f5=(8172, "c12BRD c12BRD M v12BRD v12BRD v12BRD v12BRD v12BRD A p10", 0.05, 64,
        "SGD momentum=0.9", "OneCycleLR max_lr=0.1 pct_start=0.3", "rotate=15 nearest=True"))


def load(name):
    """(path, Net, RECIPE) of a published net."""
    return train.load_model_file(ROOT / "baselines" / f"{name}.py")


def sees(name):
    """[(shape, receptive field)] of a net's layers. A pool over the whole map sees what all units
    of the map see, `jump` apart; receptive_field() has no figures for it and what follows."""
    seen, whole_map = [], 0
    for row in utils.receptive_field(load(name)[1]()):
        side = row["without_edges"]
        if side:
            whole_map = side + row["jump"] * (row["output"][-1] - 1)
        elif name == "c3":  # its skips run at 28×28 alone; only the last pool sees beyond the image
            side = row["window"] if row["window"] < 28 else 22 + 2 * 5
        seen.append(("×".join(map(str, row["output"])).removesuffix("×1×1"), side or whole_map))
    return seen


# ---- the published nets ------------------------------------------------------------------------
def layers_of(net):
    """The layers of a net as PUBLISHED has them."""
    signs = dict(BatchNorm2d="B", ReLU="R", GELU="G", Dropout="D", MaxPool2d=" M", AvgPool2d=" A",
                 AdaptiveAvgPool2d=" A", Flatten="")
    text = ""
    for layer in net.modules():
        bias = "'" if getattr(layer, "bias", None) is not None else ""
        if isinstance(layer, nn.Conv2d):
            kind = {1: "p", 3: "c" if layer.padding[0] else "v", 5: "w"}[layer.kernel_size[0]]
            text += f" {kind}{layer.out_channels}{bias}"
        elif isinstance(layer, nn.Linear):
            text += f" l{layer.out_features}{bias}"
        elif not list(layer.children()) and getattr(layer, "p", 1):  # dropout of 0 is none
            text += signs[type(layer).__name__]
    return text.strip()


def words(entry):
    """An entry of a recipe as PUBLISHED has it."""
    return " ".join(value if key == "name" else f"{key}={value}" for key, value in entry.items())


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_net_and_its_recipe_are_the_published_ones(name):
    parameters, layers, dropout, *facts = PUBLISHED[name]
    _, net_class, recipe = load(name)
    net = net_class()
    strengths = {layer.p for layer in net.modules() if isinstance(layer, nn.Dropout)}
    assert train.count(net) == parameters and layers_of(net) == layers
    assert strengths - {0} == {dropout} - {None}
    assert facts == [recipe["batch_size"], words(recipe["optimizer"]), words(recipe["scheduler"]),
                     "; ".join(map(words, utils.steps_of(recipe["augment"])))]
    others = dict(label_smoothing=0.02 if name[0] == "b" else 0.0, epochs=15, average=0.0,
                  plain_epochs=0, deskew=False, upright=False)
    assert others == {key: recipe[key] for key in others}


def test_there_is_a_file_for_each_published_net():
    rows = utils.read_csv(ROOT / "results" / "published.csv")
    counts = {row["net"].lower(): int(row["parameters"]) for row in rows}
    assert counts == {name: parameters for name, (parameters, *_) in PUBLISHED.items()}
    assert counts.keys() == {path.stem for path in (ROOT / "baselines").glob("[a-z]?.py")}


def test_f1_starts_with_xavier_weights_and_without_biases():
    for layer in load("f1")[1]().modules():
        if isinstance(layer, nn.Conv2d):
            outputs, inputs, height, width = layer.weight.shape
            bound = (6 / ((inputs + outputs) * height * width)) ** 0.5
            assert bound * 0.8 < layer.weight.abs().max() <= bound
            assert not layer.bias.any()


@pytest.mark.parametrize("name", sorted(PUBLISHED.keys() - {"c1"}))  # which has the layers of b1
def test_what_a_layer_sees_stands_beside_it_and_is_what_was_published(name):
    text, seen = load(name)[0].read_text(encoding="utf-8"), sees(name)
    beside = re.findall(r"# +([\d×]+) +(\d+)$", text, re.MULTILINE)
    assert {(shape.removesuffix("×1×1"), int(side)) for shape, side in beside} == set(seen)
    published = dict(b1=32, b2=40, b3=42, e1=16)
    side = seen[-4 if name == "e1" else -1][1]  # E1's is that before the pool
    assert side == published.get(name, side)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_step_of_a_published_net_changes_every_parameter(name):
    _, net_class, recipe = load(name)
    one_step = recipe | dict(epochs=1, batch_size=64)
    state = train.start(net_class, one_step, 0, 10)  # the first of ten steps
    noise = torch.randint(256, (64, 28, 28), dtype=torch.uint8), torch.arange(64) % 10
    before = copy.deepcopy(state.net.state_dict())
    row, = train.train(state, one_step, noise, noise)
    assert 0 < row["train_loss"] < 10
    unchanged = {name for name, value in state.net.named_parameters() if value.equal(before[name])}
    layers = [each for each in state.net.named_modules() if not list(each[1].children())]
    assert unchanged <= {  # biases that BatchNorm, coming next, takes out again
        f"{name}.bias" for (name, layer), (_, following) in zip(layers, layers[1:])
        if isinstance(layer, nn.Conv2d) and isinstance(following, nn.BatchNorm2d)}


# ---- the classic trainer -----------------------------------------------------------------------
def test_without_augmentation_its_images_are_ours(mnist):
    ours, labels = utils.load_mnist(mnist, train=False)
    batches = list(classic_train.make_loader(mnist, False, {}, part=40))  # 250 images
    theirs, their_labels = map(torch.cat, zip(*batches))
    assert [len(batch) for batch, _ in batches] == [64, 64, 64, 58]
    torch.testing.assert_close(theirs, utils.normalise(ours[:250].unsqueeze(1).float()))
    assert torch.equal(their_labels, labels[:250])


def test_damaged_files_are_named(mnist, monkeypatch):
    monkeypatch.setitem(utils.RAW_FILES, "t10k-labels-idx1-ubyte", "another MD5")
    with pytest.raises(utils.UserError, match="t10k-labels-idx1-ubyte is damaged"):
        classic_train.make_loader(mnist, False, {})


def test_it_shuffles_training_images_and_augments_as_the_recipe_says(mnist):
    loader = classic_train.make_loader(mnist, True, [
        dict(rotate=10, shift=2, scale=0.1, shear=5), dict(rotate=7, nearest=True),
        dict(shift=1, p=0.5)], part=300)  # 200 images
    affine, turn, maybe, *_ = loader.dataset.dataset.transform.transforms
    move, = maybe.transforms
    assert affine.degrees == [-10, 10] and affine.scale == (0.9, 1.1)
    assert affine.shear == [-5, 5] and affine.translate == (2 / 28, 2 / 28)
    assert turn.degrees == [-7, 7] and maybe.p == 0.5 and move.translate == (1 / 28, 1 / 28)
    modes = [each.interpolation.value for each in (affine, turn, move)]
    assert modes == ["bilinear", "nearest", "bilinear"]
    _, labels = utils.load_mnist(mnist, train=True)
    seen = [torch.cat([batch for _, batch in loader]) for _ in range(2)]
    assert not torch.equal(*seen)
    assert all(torch.equal(order.sort().values, labels[:200].sort().values) for order in seen)


def test_the_rate_is_scaled_to_batches_of_64(one_cycle, plateau, by_epoch):  # from 100
    for path, part, key, rate in ((one_cycle, "scheduler", "max_lr", 0.064),
                                  (plateau, "optimizer", "lr", 0.064),
                                  (by_epoch, "scheduler", "rates", [0.64, 0.0128, 0.032, 0.0064])):
        _, _, recipe = train.load_model_file(path)
        scaled = classic_train.scaled(recipe)
        assert scaled[part].pop(key) == pytest.approx(rate)
        del recipe[part][key]
        assert scaled == recipe


def test_an_epoch_on_some_images_learns(mnist, one_cycle):
    _, net_class, recipe = train.load_model_file(one_cycle)
    torch.manual_seed(0)
    net, loader = net_class(), classic_train.make_loader(mnist, True, recipe["augment"], part=40)
    optimizer = train.make_optimizer(net, recipe)
    scheduler = train.make_scheduler(optimizer, recipe | dict(epochs=1), len(loader))
    untrained = classic_train.test(net, loader, "cpu")
    loss, accuracy = classic_train.train_epoch(net, loader, optimizer, scheduler, recipe, "cpu")
    trained = classic_train.test(net, loader, "cpu")
    assert untrained < 30 < accuracy < trained and trained > 70 and 0 < loss < 2.3
    assert scheduler.last_epoch == len(loader) == 24  # one step a batch


def test_a_wrong_model_file_ends_in_one_message(plateau, monkeypatch, capsys):
    plateau.write_text(f"{plateau.read_text()}\nRECIPE['scheduler'] = dict(name='StepLR')\n")
    monkeypatch.setattr("sys.argv", ["classic_train.py", "--model", str(plateau)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(classic_train.__file__, run_name="__main__")
    message = capsys.readouterr().err
    assert stop.value.code == 2 and "step_size" in message and "Traceback" not in message
    assert message.startswith(f"classic_train.py: error: {plateau}")
