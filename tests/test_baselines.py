"""The classic trainer, against which train.py is timed: its data are MNIST's, its steps learn."""

import subprocess
import sys

import pytest
import torch
from conftest import ROOT

import train
import utils

sys.path.insert(0, str(ROOT / "baselines"))
import classic_train  # noqa: E402


def test_without_augmentation_its_images_are_ours(mnist):
    ours, labels = utils.load_mnist(mnist, train=False)
    theirs = list(classic_train.make_loader(mnist, False, {}, part=40))  # 250 images
    assert [len(batch) for _, batch in theirs] == [64, 64, 64, 58]
    torch.testing.assert_close(torch.cat([images for images, _ in theirs]),
                               utils.normalise(ours[:250].unsqueeze(1).float()))
    assert torch.equal(torch.cat([batch for _, batch in theirs]), labels[:250])


def test_it_shuffles_training_images_and_augments_as_the_recipe_says(mnist):
    augment = dict(rotate=10, shift=2, scale=0.1, shear=5)
    loader = classic_train.make_loader(mnist, True, augment, part=300)  # 200 images
    affine = loader.dataset.dataset.transform.transforms[0]
    assert affine.degrees == [-10, 10] and affine.scale == (0.9, 1.1)
    assert affine.shear == [-5, 5] and affine.translate == (2 / 28, 2 / 28)
    _, labels = utils.load_mnist(mnist, train=True)
    seen = [torch.cat([batch for _, batch in loader]) for _ in range(2)]
    assert not torch.equal(*seen)
    assert all(torch.equal(order.sort().values, labels[:200].sort().values) for order in seen)


def test_the_rate_is_scaled_to_batches_of_64(plateau):
    _, _, recipe = train.load_model_file("3")
    assert recipe["batch_size"] == 512
    assert classic_train.scaled(recipe)["scheduler"]["max_lr"] == recipe["scheduler"]["max_lr"] / 8
    assert classic_train.scaled(recipe)["optimizer"] == recipe["optimizer"]
    _, _, recipe = train.load_model_file(plateau)
    assert classic_train.scaled(recipe)["optimizer"]["lr"] == pytest.approx(0.064)


def test_an_epoch_on_some_images_learns(mnist, one_cycle):
    _, net_class, recipe = train.load_model_file(one_cycle)
    torch.manual_seed(0)
    net, loader = net_class(), classic_train.make_loader(mnist, True, recipe["augment"], part=20)
    optimizer, scheduler = train.make_optimizer(net, recipe | dict(epochs=1), len(loader))
    untrained = classic_train.test(net, loader, torch.device("cpu"))
    loss, accuracy = classic_train.train_epoch(net, loader, optimizer, scheduler, recipe,
                                               torch.device("cpu"))
    trained = classic_train.test(net, loader, torch.device("cpu"))
    assert untrained < 30 < accuracy < trained and trained > 80 and 0 < loss < 2.3
    assert scheduler.last_epoch == len(loader) == 47  # one step a batch


@pytest.mark.parametrize("script", ["classic_train.py", "speed.py"])
def test_a_wrong_model_ends_in_one_message(script):
    done = subprocess.run([sys.executable, ROOT / "baselines" / script, "--model", "nowhere.py"],
                          capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith(f"{script}: error: --model nowhere.py: no such model")
