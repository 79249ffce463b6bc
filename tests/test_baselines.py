"""The published nets: their layers, recipes and receptive fields, and that they train. The classic
trainer, against which train.py is timed: its data are MNIST's, its steps learn."""

import copy
import functools
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
CONSTANT = "SGD lr=0.01 momentum=0.9", "StepLR step_size=1 gamma=1"
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
    c1=(13808, "v16RBD v32RBD p10 M v16RBD v16RBD v16RBD c16RBD A p10", 0.03, 64, *CONSTANT,
        SHIFTED),
    c2=(5048, "v8RBD v16RBD p8 M v12RBD v12RBD c12RBD A p10", 0.1, 64, *CONSTANT, SHIFTED),
    c3=(7902, "v10GBD v14GBD p10 M v14GBD v14GBD v12GBD c12GBD p14 p12 A p10",  # skips: p14, p12
        0.03, 64, "SGD momentum=0.9", f"ByEpoch rates={10 * [0.01] + 5 * [0.005]}", SHIFTED),
    d1=(8620, "v8R v16R v16R p8 M v8R v8R v16R p10R w10", None, 128, *CONSTANT, ""),
    d2=(7416, "v8RBD v16RBD p8 M v16RBD v16RBD v16RBD A p10", 0.05, 128,
        "SGD lr=0.075 momentum=0.9 nesterov=True", "StepLR step_size=2 gamma=0.65", TWICE),
    d3=(6560, "v8RBD v16RBD p8RB M v12RBD v16RBD v16RBD A p10", 0.01, 128,
        "SGD lr=0.05 momentum=0.9", "StepLR step_size=4 gamma=0.35", TWICE),
    e1=(7918, "c10BRD c14BRD c16BRD M p12BR v16BRD v16BRD A p10", 0.05, 128,
        "SGD lr=0.05 momentum=0.9 weight_decay=0.0001", "StepLR step_size=8 gamma=0.1",
        "rotate=7 shift=1 scale=0.05"),
    f1=(3762, "c4'BR c4'BR c4'BR MD c8'BR c8'BR c8'BR MD c8'BR c8'BR c8'BR A p10'", 0.01, 32,
        "SGD momentum=0.9",
        "ByEpoch rates=[0.05, 0.075, 0.1, 0.085, 0.07, 0.055, 0.04, 0.025, 0.01, 0.00875, 0.0075, "
        "0.00625, 0.005, 0.00333, 0.00167]",
        "rotate=7 shift=2.52 scale=0.09 p=0.5; brightness=0.2 contrast=0.2 p=0.5"),
    f2=(6188, "v8BR v10BR MD v12BR v16BR MD v16BR AD l10", 0.008, 128, "Adam weight_decay=5e-05",
        "OneCycleLR max_lr=0.003 pct_start=0.2 div_factor=25 final_div_factor=1000",
        "rotate=5 shift=1.4 scale=0.02 nearest=True"),
    f3=(6128, "c8RBD v16RBD M p8 v8RBD v8RBD v16RBD v10RB v10 A", 0.1, 64, "Adam lr=0.01",
        "StepLR step_size=6 gamma=0.1", LINE),
    f4=(6750, "c10BRD c10BRD M v10BRD v10BRD v10BRD v10BRD v20BRD A p10", 0.05, 128,
        "SGD momentum=0.9", "OneCycleLR max_lr=0.1 pct_start=0.3", "rotate=15 nearest=True"),
    f5=(8172, "c12BRD c12BRD M v12BRD v12BRD v12BRD v12BRD v12BRD A p10", 0.05, 64,
        "SGD momentum=0.9", "OneCycleLR max_lr=0.1 pct_start=0.3", "rotate=15 nearest=True"),
)


def load(name):
    """(path, Net, RECIPE) of a published net."""
    return train.load_model_file(ROOT / "baselines" / f"{name}.py")


@functools.cache
def sees(name):
    """What receptive_field() measures, which takes a second."""
    return utils.receptive_field(load(name)[1]())


# ---- the published nets ------------------------------------------------------------------------
def layers_of(net):
    """The layers of a net as PUBLISHED has them, and the strengths of its dropout."""
    signs = dict(BatchNorm2d="B", ReLU="R", GELU="G", Dropout="D", MaxPool2d=" M", AvgPool2d=" A",
                 AdaptiveAvgPool2d=" A", Flatten="")
    text, strengths = "", set()
    for layer in net.modules():
        bias = "'" if getattr(layer, "bias", None) is not None else ""
        if isinstance(layer, nn.Conv2d):
            size, _ = layer.kernel_size
            kind = "p" if size == 1 else "w" if size == 5 else "c" if layer.padding[0] else "v"
            text += f" {kind}{layer.out_channels}{bias}"
        elif isinstance(layer, nn.Linear):
            text += f" l{layer.out_features}{bias}"
        elif isinstance(layer, nn.Dropout) and not layer.p:
            continue
        elif not list(layer.children()):
            text += signs[type(layer).__name__]
            strengths |= {layer.p} if isinstance(layer, nn.Dropout) else set()
    return text.strip(), strengths


def words(entry):
    """An entry of a recipe as PUBLISHED has it."""
    return " ".join(value if key == "name" else f"{key}={value}" for key, value in entry.items())


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_net_and_its_recipe_are_the_published_ones(name):
    parameters, layers, dropout, *facts = PUBLISHED[name]
    _, net_class, recipe = load(name)
    net = net_class()
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert layers_of(net) == (layers, {dropout} - {None})
    assert facts == [recipe["batch_size"], words(recipe["optimizer"]), words(recipe["scheduler"]),
                     "; ".join(map(words, utils.steps_of(recipe["augment"])))]
    others = dict(label_smoothing=0.02 if name[0] == "b" else 0.0, epochs=15, average=0.0,
                  plain_epochs=0, deskew=False, upright=False)
    assert others == {key: recipe[key] for key in others}


def test_there_is_a_file_for_each_published_net():
    files = {path.stem for path in (ROOT / "baselines").glob("[a-z]?.py")}
    rows = utils.read_csv(ROOT / "results" / "published.csv")
    counts = {row["net"].lower(): int(row["parameters"]) for row in rows}
    assert files == set(PUBLISHED)
    assert counts == {name: parameters for name, (parameters, *_) in PUBLISHED.items()}


def test_f1_starts_with_xavier_weights_and_without_biases():
    net = load("f1")[1]()
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            count, inputs = layer.weight.shape[0], layer.weight[0].numel()
            window = layer.kernel_size[0] ** 2
            bound = (6 / (inputs + count * window)) ** 0.5
            assert bound * 0.8 < layer.weight.abs().max() <= bound
            assert not layer.bias.any()


@pytest.mark.parametrize("name, published, before_pool", [
    ("b1", 32, False), ("b2", 40, False), ("b3", 42, False), ("e1", 16, True)])
def test_the_receptive_field_is_the_published_one(name, published, before_pool):
    rows = sees(name)
    pool = [i for i, row in enumerate(rows) if "AvgPool" in row["layer"]][-1]
    assert rows[pool - 1 if before_pool else -1]["theory"] == published


@pytest.mark.parametrize("name", PUBLISHED)
def test_shapes_and_receptive_fields_beside_the_layers_are_right(name):
    path, rows = load(name)[0], sees(name)
    beside = re.findall(r"# +([\d×]+) +(\d+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    if name == "c3":  # no chain: the windows stay within the image until the last pool
        rows = [row | dict(theory=32 if row["window"] == 28 else row["window"]) for row in rows]
    measured = {("×".join(map(str, row["output"])), str(row["theory"])) for row in rows}
    assert without_ones(beside) == without_ones(measured)


def without_ones(pairs):
    """(shape, receptive field) with a map of one pixel as what Flatten makes of it."""
    return {(shape.removesuffix("×1×1"), size) for shape, size in pairs}


def without_effect(net):
    """The names of biases that BatchNorm, coming next, takes out again: they have no gradient."""
    layers = [(name, each) for name, each in net.named_modules() if not list(each.children())]
    return {f"{name}.bias" for (name, layer), (_, following) in zip(layers, layers[1:])
            if isinstance(layer, nn.Conv2d) and isinstance(following, nn.BatchNorm2d)}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_step_of_a_published_net_changes_every_parameter(name):
    path, net_class, recipe = load(name)
    assert recipe["epochs"] <= 15
    torch.manual_seed(0)
    net = net_class()
    before = copy.deepcopy(net.state_dict())
    noise = torch.randint(256, (64, 28, 28), dtype=torch.uint8), torch.arange(64) % 10
    one_step = recipe | dict(epochs=1, batch_size=64)
    state = train.start(net, one_step, 0, 10)  # the first of ten steps
    row, = train.train(state, one_step, noise, noise)
    assert 0 < row["train_loss"] < 10
    unchanged = {key for key, value in net.named_parameters() if torch.equal(before[key], value)}
    assert unchanged <= without_effect(net)


# ---- the classic trainer -----------------------------------------------------------------------
def test_without_augmentation_its_images_are_ours(mnist):
    ours, labels = utils.load_mnist(mnist, train=False)
    theirs = list(classic_train.make_loader(mnist, False, {}, part=40))  # 250 images
    assert [len(batch) for _, batch in theirs] == [64, 64, 64, 58]
    torch.testing.assert_close(torch.cat([images for images, _ in theirs]),
                               utils.normalise(ours[:250].unsqueeze(1).float()))
    assert torch.equal(torch.cat([batch for _, batch in theirs]), labels[:250])


def test_damaged_files_are_named(mnist, tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in utils.RAW_FILES:
        (raw / name).symlink_to(mnist.resolve() / "MNIST" / "raw" / name)
    labels = (raw / "t10k-labels-idx1-ubyte").read_bytes()
    (raw / "t10k-labels-idx1-ubyte").unlink()
    (raw / "t10k-labels-idx1-ubyte").write_bytes(labels[:-1] + b"\0")  # of the right size
    classic_train.make_loader(tmp_path, True, {})
    with pytest.raises(utils.UserError, match="t10k-labels-idx1-ubyte is damaged"):
        classic_train.make_loader(tmp_path, False, {})


def test_it_shuffles_training_images_and_augments_as_the_recipe_says(mnist):
    augment = dict(rotate=10, shift=2, scale=0.1, shear=5)
    loader = classic_train.make_loader(mnist, True, augment, part=300)  # 200 images
    affine = loader.dataset.dataset.transform.transforms[0]
    assert affine.degrees == [-10, 10] and affine.scale == (0.9, 1.1)
    assert affine.shear == [-5, 5] and affine.translate == (2 / 28, 2 / 28)
    two = [dict(rotate=7, nearest=True), dict(shift=1, p=0.5)]
    loader_of_two = classic_train.make_loader(mnist, True, two)
    turn, move = loader_of_two.dataset.dataset.transform.transforms[:2]
    assert turn.degrees == [-7, 7] and move.p == 0.5
    modes = affine.interpolation, turn.interpolation, move.transforms[0].interpolation
    assert [mode.value for mode in modes] == ["bilinear", "nearest", "bilinear"]
    assert move.transforms[0].translate == (1 / 28, 1 / 28)
    _, labels = utils.load_mnist(mnist, train=True)
    seen = [torch.cat([batch for _, batch in loader]) for _ in range(2)]
    assert not torch.equal(*seen)
    assert all(torch.equal(order.sort().values, labels[:200].sort().values) for order in seen)


def test_the_rate_is_scaled_to_batches_of_64(plateau, by_epoch):
    _, _, recipe = train.load_model_file(ROOT / "results" / "fast.py")
    assert recipe["batch_size"] == 512
    assert classic_train.scaled(recipe)["scheduler"]["max_lr"] == recipe["scheduler"]["max_lr"] / 8
    assert classic_train.scaled(recipe)["optimizer"] == recipe["optimizer"]
    _, _, recipe = train.load_model_file(plateau)
    assert classic_train.scaled(recipe)["optimizer"]["lr"] == pytest.approx(0.064)
    _, _, recipe = train.load_model_file(by_epoch)
    assert classic_train.scaled(recipe)["scheduler"]["rates"][0] == pytest.approx(0.64)


def test_an_epoch_on_some_images_learns(mnist, one_cycle):
    _, net_class, recipe = train.load_model_file(one_cycle)
    torch.manual_seed(0)
    net, loader = net_class(), classic_train.make_loader(mnist, True, recipe["augment"], part=40)
    optimizer, scheduler = train.make_optimizer(net, recipe | dict(epochs=1), len(loader))
    untrained = classic_train.test(net, loader, torch.device("cpu"))
    loss, accuracy = classic_train.train_epoch(net, loader, optimizer, scheduler, recipe,
                                               torch.device("cpu"))
    trained = classic_train.test(net, loader, torch.device("cpu"))
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
