"""The published nets: their parameters, their receptive fields, that they train. The classic
trainer, against which train.py is timed: its data are MNIST's, its steps learn."""

import copy
import runpy

import classic_train
import pytest
import torch
from conftest import ROOT
from torch import nn

import train
import utils

PARAMETERS = dict(a1=9412, a2=6992, a3=6972, b1=13808, b2=9382, b3=7784, c1=13808, c2=5048, c3=7902,
                  d1=8620, d2=7416, d3=6560, e1=7918, f1=3762, f2=6188, f4=6750,
                  f5=8172)


def load(name):
    """(path, Net, RECIPE) of a published net."""
    return train.load_model_file(ROOT / "baselines" / f"{name}.py")


# ---- the published nets ------------------------------------------------------------------------
def test_every_published_net_has_its_number_of_parameters():
    files = sorted(path.stem for path in (ROOT / "baselines").glob("[a-f]?.py"))
    assert {name: sum(p.numel() for p in load(name)[1]().parameters())
            for name in files} == PARAMETERS


@pytest.mark.parametrize("name, published, before_pool", [
    ("b2", 40, False), ("b3", 42, False), ("e1", 16, True)])
def test_the_receptive_field_is_the_published_one(name, published, before_pool):
    rows = utils.receptive_field(load(name)[1]())
    pool = [i for i, row in enumerate(rows) if "AvgPool" in row["layer"]][-1]
    assert rows[pool - 1 if before_pool else -1]["theory"] == published


def without_effect(net):
    """The names of biases that BatchNorm, coming next, takes out again: they have no gradient."""
    layers = [(name, each) for name, each in net.named_modules() if not list(each.children())]
    return {f"{name}.bias" for (name, layer), (_, following) in zip(layers, layers[1:])
            if isinstance(layer, nn.Conv2d) and isinstance(following, nn.BatchNorm2d)}


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_step_of_a_published_net_changes_every_parameter(name):
    path, net_class, recipe = load(name)
    assert recipe["epochs"] <= 15
    torch.manual_seed(0)
    net = net_class()
    before = copy.deepcopy(net.state_dict())
    noise = torch.randint(256, (64, 28, 28), dtype=torch.uint8), torch.arange(64) % 10
    one_step = recipe | dict(epochs=1, batch_size=64)
    state = train.start(path, net, one_step, 0, 10)  # the first of ten steps
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
                               utils.normalise(ours[:250]))
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
    loader_of_two = classic_train.make_loader(mnist, True, [dict(rotate=7), dict(shift=1, p=0.5)])
    turn, move = loader_of_two.dataset.dataset.transform.transforms[:2]
    assert turn.degrees == [-7, 7] and move.p == 0.5
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
    assert classic_train.scaled(recipe)["scheduler"]["rates"][0] == pytest.approx(0.064)


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
