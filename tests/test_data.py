"""Data and augmentation against torchvision, which does the same things one image at a time."""

import hashlib
import math
import os
import resource
import signal
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms.functional as TF
from conftest import SERVER
from PIL import Image
from torchvision import datasets, transforms

import utils

BILINEAR, NEAREST = TF.InterpolationMode.BILINEAR, TF.InterpolationMode.NEAREST
STRENGTHS = dict(rotate=20, shift=3, scale=0.2, shear=15)
CLASSIC = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def some_images(n):
    return torch.randint(256, (n, 28, 28), generator=seeded(0), dtype=torch.uint8)


# ---- the data set ------------------------------------------------------------------------------
def test_images_and_labels_are_torchvisions(mnist):
    for train in (False, True):
        images, labels = utils.load_mnist(mnist, train)
        expected = datasets.MNIST(mnist, train=train)
        assert torch.equal(images, expected.data) and images.dtype == torch.uint8
        assert torch.equal(labels, expected.targets) and labels.dtype == torch.int64
    std, mean = torch.std_mean(images.float() / 255)
    assert (round(mean.item(), 4), round(std.item(), 4)) == (utils.MEAN, utils.STD)


@pytest.mark.parametrize("damage", [
    lambda data: data[:-1], lambda data: data[:500] + bytes([data[500] ^ 1]) + data[501:],
    lambda data: data[:8] + bytes(i % 10 for i in range(10000))],
    ids=["cut off", "altered", "of Fashion-MNIST"])  # whose files have the same names and sizes
def test_a_file_that_is_not_the_published_one_is_named(mnist, tmp_path, damage):
    images, labels = (mnist / "MNIST" / "raw" / f"t10k-{part}-ubyte"
                      for part in ("images-idx3", "labels-idx1"))
    path, published = tmp_path / "MNIST" / "raw" / labels.name, labels.read_bytes()
    path.parent.mkdir(parents=True)
    path.with_name(images.name).symlink_to(images)
    path.write_bytes(damage(published))
    with pytest.raises(utils.UserError) as error:
        utils.load_mnist(tmp_path, train=False)
    md5s = [hashlib.md5(data).hexdigest() for data in (damage(published), published)]
    for part in (str(path), f"{len(damage(published))} bytes", *md5s, "Delete it"):
        assert part in str(error.value)


def test_mnist_is_in_data_beside_utils_or_where_the_user_says(tmp_path, monkeypatch):
    """A download that fails says where the files go, and leaves the process's sockets alone."""
    def no_network(root, download):
        assert socket.getdefaulttimeout() == 20
        raise OSError("no route")
    monkeypatch.setattr(datasets, "MNIST", no_network)
    monkeypatch.setattr(utils, "HERE", here := tmp_path / "repository")
    monkeypatch.chdir(tmp_path)
    raw = tmp_path / "shared" / "mnist" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in utils.RAW_FILES:
        (raw / name).touch()
    here.mkdir()
    Path("data").symlink_to("shared/mnist")  # of the current folder
    socket.setdefaulttimeout(7)  # a notebook's own
    with pytest.raises(utils.UserError, match="failed:\n  OSError: no route\n") as error:
        utils.find_mnist()
    assert f"{here}/data/MNIST/raw/:" in str(error.value)
    assert socket.getdefaulttimeout() == 7
    socket.setdefaulttimeout(None)
    (here / "data").symlink_to("../shared/mnist")
    assert utils.find_mnist() == here / "data"
    assert utils.find_mnist("shared/mnist") == Path("shared/mnist")


def test_rendered_digits_can_be_told_apart_by_their_nearest_neighbours():
    (images, labels), (others, expected) = (utils.rendered_digits(500, seed) for seed in (1, 2))
    ours, known = (utils.upright(each).flatten(1).float() for each in (others, images))
    assert (labels[torch.cdist(ours, known).argmin(dim=1)] == expected).float().mean() > 0.97


# ---- augmentation ------------------------------------------------------------------------------
def test_warp_is_torchvisions_affine():
    images = some_images(200).unsqueeze(1).float()  # bright up to the edges, unlike digits
    draw = 2 * torch.rand(5, 200, generator=seeded(3)) - 1
    angle, x, y, zoom, shear = draw * torch.tensor([30.0, 4, 4, 0.3, 20])[:, None]
    ours = utils.warp(images, utils.affine_matrix(angle, x, y, 1 + zoom, shear))
    for i in range(200):
        theirs = TF.affine(images[i], angle[i].item(), [x[i].item(), y[i].item()],
                           1 + zoom[i].item(), [shear[i].item(), 0.0], BILINEAR)
        torch.testing.assert_close(ours[i], theirs, rtol=0, atol=0.05)  # of 255


def test_nearest_pixels_are_pillows(monkeypatch):
    angles, none = 60 * torch.rand(100, generator=seeded(4)) - 30, torch.zeros(100)
    turn = utils.affine_matrix(angles, none, none, none + 1, none)
    monkeypatch.setattr(utils, "draw_step", lambda n, step, generator: (step["thetas"], {}))
    augment = [dict(thetas=turn), dict(thetas=None, nearest=True)]  # as any step may ask for it
    ours, order = next(utils.batches(some_images(100), torch.arange(100), 100, seeded(0), augment))
    theirs = [TF.affine(Image.fromarray(image.numpy()), angle, [0, 0], 1, [0, 0], NEAREST)
              for image, angle in zip(some_images(100)[order], angles.tolist())]
    theirs = utils.normalise(torch.from_numpy(np.stack(theirs)).float())
    assert (ours.squeeze(1) == theirs).float().mean() > 0.999  # a rare pixel is between two


def test_deskew_is_a_shear_by_the_covariance_of_the_ink(mnist):
    images = utils.load_mnist(mnist, train=False)[0][:200]
    for image, upright in zip(images.numpy(), utils.deskew(images).numpy()):
        ys, xs = np.mgrid[:28, :28] + 0.5
        (_, covariance), (_, variance) = np.cov(xs.ravel(), ys.ravel(), aweights=image.ravel())
        slope, y = covariance / variance, np.average(ys, weights=image)
        expected = Image.fromarray(image.astype(np.float32)).transform(
            (28, 28), Image.Transform.AFFINE, (1, slope, -slope * y, 0, 1, 0),
            Image.Resampling.BILINEAR)
        # Pillow blanks what is sampled within half a pixel of the frame
        assert np.abs(np.asarray(expected) - upright)[:, 1:-1].max() <= 1


def test_what_has_no_slant_is_left_alone():
    images = torch.zeros(3, 28, 28, dtype=torch.uint8)
    images[1, 4:24, 12:16] = 200
    images[2, 14, 5:20] = 200  # a single row
    assert torch.equal(utils.deskew(images), images)
    assert torch.equal(utils.upright(images[:1]), images[:1])  # empty


def test_upright_gives_every_digit_one_contrast_place_slant_and_size(mnist):
    images, _ = utils.load_mnist(mnist, train=False)
    moments = []
    for image in utils.upright(images[:300]).numpy():
        ink = np.clip(image - 255 * utils.FAINT, 0, None)
        ys, xs = np.mgrid[:28, :28] + 0.5
        covariance = np.cov(xs.ravel(), ys.ravel(), aweights=ink.ravel())
        moments.append([np.average(xs, weights=ink) - 14, np.average(ys, weights=ink) - 14,
                        covariance[0, 1] / covariance[1, 1],
                        np.trace(covariance) ** 0.5 / 14 - utils.SPREAD, 255 - int(image.max())])
    x, y, slope, spread, brightest = np.quantile(np.abs(moments), 0.95, axis=0)
    assert x < 0.25 and y < 0.4 and slope < 0.05 and spread < 0.02 and brightest < 10


def test_what_is_too_faint_to_be_ink_moves_no_digit():
    images = 255 * (utils.rendered_digits(100, seed=0)[0] > 127).to(torch.uint8)
    veil = images.clamp(min=int(255 * utils.FAINT) - 10)
    veil[:, :, 14:] = images[:, :, 14:]  # on the left half alone, or it would pull nowhere
    added = utils.upright(veil).float() - utils.upright(images).float()
    assert added.min() >= -1 and added.max() <= 255 * utils.FAINT + 1  # the veil itself, no edges


def is_uniform(values, strength):
    assert 0.99 * strength < values.max() <= 1.001 * strength
    assert -1.001 * strength <= values.min() < -0.99 * strength
    assert values.abs().mean().item() == pytest.approx(strength / 2, rel=0.03)


@pytest.mark.parametrize("name", STRENGTHS)
def test_each_strength_bounds_its_own_parameter(name):
    matrix = utils.draw_affine(20000, {name: STRENGTHS[name]}, seeded(0)).double()
    inverse = torch.linalg.inv(matrix[:, :, :2])  # input to output: what one sees
    area, across = torch.linalg.det(inverse), -(inverse[:, :, 0] * inverse[:, :, 1]).sum(dim=1)
    values = dict(rotate=torch.rad2deg(torch.atan2(inverse[:, 1, 0], inverse[:, 0, 0])),
                  shift=(-inverse @ matrix[:, :, 2:]).flatten() * 14, scale=area.sqrt() - 1,
                  shear=torch.rad2deg(torch.atan2(across, area)))  # of the two axes' images
    is_uniform(values.pop(name), STRENGTHS[name])
    assert all(value.abs().max() < 1e-4 for value in values.values())


def test_brightness_and_contrast_are_uniform_and_independent():
    _, drawn = utils.draw_step(20000, dict(brightness=0.3, contrast=0.1), seeded(0))
    is_uniform(drawn["brightness"], 0.3)
    is_uniform(drawn["contrast"], 0.1)
    assert abs(torch.corrcoef(torch.stack([*drawn.values()]))[0, 1]) < 0.03


def test_strokes_grow_to_the_most_and_shrink_to_the_least_of_each_2x2_pixels():
    images = some_images(3).unsqueeze(1).float()
    wide = F.pad(images, (1, 0, 1, 0))
    most, least = F.max_pool2d(wide, 2, stride=1), -F.max_pool2d(-wide, 2, stride=1)
    changed = utils.change_thickness(images, torch.tensor([1.0, -1.0, 0.5]).view(3, 1, 1, 1))
    expected = torch.stack([most[0], least[1], (images[2] + most[2]) / 2])
    torch.testing.assert_close(changed, expected)


def changed(monkeypatch, images, **strengths):
    """What batches() makes of images (N, 28, 28), in their order, if these numbers are drawn."""
    numbers = {name: torch.tensor(values) for name, values in strengths.items()}
    monkeypatch.setattr(utils, "draw_step", lambda *args: (None, numbers))
    monkeypatch.setattr(torch, "randperm", lambda n, generator: torch.arange(n))
    batch, _ = next(utils.batches(images, torch.zeros(len(images)), 99, seeded(0), {}))
    return (batch * utils.STD + utils.MEAN).squeeze(1) * 255


def test_noise_has_the_deviation_asked_for_and_stays_between_black_and_white(monkeypatch):
    grey = torch.full((2, 28, 28), 128, dtype=torch.uint8)
    noisy = changed(monkeypatch, grey, noise=[10.0, 200.0])
    assert noisy[0].std().item() == pytest.approx(10, rel=0.1)
    assert noisy[1].min().item() == pytest.approx(0, abs=1e-3)
    assert noisy[1].max().item() == pytest.approx(255)


def test_light_is_albumentations_factor_and_shift(monkeypatch):
    images = some_images(4)
    light = dict(brightness=[0.2, -0.2, 0.0, 0.1], contrast=[-0.2, 0.2, 0.0, 0.2])
    after = changed(monkeypatch, images, **light)
    for i, (beta, alpha) in enumerate(zip(*light.values())):
        table = np.clip(np.arange(256) * (1 + alpha) + beta * 255, 0, 255)
        np.testing.assert_allclose(after[i].numpy(), table[images[i].numpy()], atol=1e-2)


def test_two_steps_of_a_recipe_are_torchvisions_affine_twice(monkeypatch):
    rows, columns = torch.meshgrid(torch.arange(28), torch.arange(28), indexing="ij")
    blob = torch.exp(-((rows - 11) ** 2 / 40 + (columns - 14) ** 2 / 15))
    images = (255 * blob).to(torch.uint8)[None]  # so smooth that it can be resampled twice
    steps = [(40.0, 1.0, 0.0, 1.1, 0.0), (0.0, -3.0, 2.0, 0.7, 15.0)]  # angle, x, y, scale, shear
    augment = [dict(thetas=utils.affine_matrix(*torch.tensor(step)[:, None])) for step in steps]
    monkeypatch.setattr(utils, "draw_step", lambda n, step, generator: (step["thetas"], {}))
    once, _ = next(utils.batches(images, torch.zeros(1), 1, seeded(0), augment))
    twice = images.float()
    for angle, x, y, scale, shear in steps:
        twice = TF.affine(twice, angle, [x, y], scale, [shear, 0.0], BILINEAR)
    torch.testing.assert_close(once[0], utils.normalise(twice), rtol=0, atol=0.08)


@pytest.mark.parametrize("step", [
    dict(rotate=180), dict(thickness=1), dict(contrast=1), dict(noise=1),
    dict(shift=5, thickness=1, brightness=1, noise=1)], ids=str)
def test_p_is_the_share_of_images_that_a_step_changes(step):
    images, labels = some_images(1000), torch.arange(1000)

    def changed(augment):
        plain, after = (next(utils.batches(images, labels, 1000, seeded(0), each))[0]
                        for each in ({}, augment))
        return ((after - plain).abs() > 0.01).flatten(1).any(dim=1).float().mean().item()
    assert changed(step | dict(p=0)) == 0 and changed(step) > 0.99 < changed(step | dict(p=1))
    assert changed(step | dict(p=0.3)) == pytest.approx(0.3, abs=0.04)
    assert changed([step | dict(p=0.3)] * 2) == pytest.approx(1 - 0.7 ** 2, abs=0.04)


# ---- batches -----------------------------------------------------------------------------------
def epoch(generator, augment=()):
    images, labels = some_images(1000), torch.arange(1000)  # a label for each image, to follow it
    return [*zip(*utils.batches(images, labels, 128, generator, dict(augment)))]


def test_an_epoch_has_every_image_once_with_its_own_label():
    images, labels = map(torch.cat, epoch(seeded(5)))
    assert sorted(labels.tolist()) == list(range(1000)) and labels.tolist() != list(range(1000))
    assert torch.equal(images, utils.normalise(some_images(1000)[labels].unsqueeze(1).float()))
    assert [len(batch) for batch in epoch(seeded(5))[0]] == [128] * 7 + [104]


def test_order_and_transforms_depend_on_the_seed_alone():
    generator = seeded(1)
    images, labels = map(torch.cat, epoch(generator, STRENGTHS))
    torch.manual_seed(99)  # whatever else draws random numbers, dropout say, must not matter
    again, same_labels = map(torch.cat, epoch(seeded(1), STRENGTHS))
    assert torch.equal(labels, same_labels) and torch.equal(images, again)
    plain, same_labels = map(torch.cat, epoch(seeded(1)))
    assert torch.equal(labels, same_labels) and not torch.equal(images, plain)
    for other in (seeded(2), generator):  # another seed, the next epoch
        assert not torch.equal(labels, torch.cat(epoch(other, STRENGTHS)[1]))


# ---- evaluation --------------------------------------------------------------------------------
def test_evaluate_is_the_classic_pipelines_accuracy(mnist):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 5, stride=4), torch.nn.BatchNorm2d(4),
                              torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(144, 10))
    dataset = datasets.MNIST(mnist, train=False, transform=CLASSIC)
    images, labels = zip(*(dataset[i] for i in range(1234)))
    logits, labels = net.eval()(torch.stack(images)), torch.tensor(labels)
    ours = (part[:1234] for part in utils.load_mnist(mnist, train=False))
    loss, accuracy, predictions = utils.evaluate(net.train(), *ours)
    assert torch.equal(predictions, logits.argmax(dim=1))
    assert accuracy == 100 * (predictions == labels).sum().item() / 1234
    assert loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)


@pytest.mark.parametrize("recipe", [{}, dict(deskew=True), dict(upright=True)])
def test_raw_images_may_be_bytes_or_floats_and_stay_as_they_are(recipe):
    images, _ = utils.rendered_digits(60, seed=1)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    prepared = utils.prepare(images, recipe)
    expected = net(utils.normalise(prepared.unsqueeze(1).float())).softmax(dim=1)
    floats = images.unsqueeze(1) / 255  # as torchvision's ToTensor() gives them
    for raw in (images, images.unsqueeze(1), floats, floats.squeeze(1).double()):
        before = raw.clone()
        torch.testing.assert_close(utils.predict(net, raw, recipe), expected)
        assert torch.equal(raw, before) and torch.equal(utils.prepare(raw, recipe), prepared)


@pytest.mark.parametrize("wrong", [
    torch.full((2, 28, 28), 200.0), torch.full((2, 28, 28), -0.4), torch.zeros(2, 28, 28).long(),
    torch.full((2, 28, 28), math.nan), torch.zeros(28, 28), torch.zeros(2, 3, 28, 28)])
def test_images_of_another_kind_are_refused_and_not_guessed_at(wrong):
    for function in (utils.deskew, utils.upright, lambda x: utils.forward(torch.nn.Flatten(), x)):
        with pytest.raises(ValueError, match="images are "):
            function(wrong)


# ---- files -------------------------------------------------------------------------------------
def write_and_die(path, moment):
    """utils.write(), killed when half of the data is written, or all of it."""
    if moment == "write":  # the system kills whoever writes more than it may
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
    else:
        os.replace = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
    utils.write(path, "new" * 1000)


@pytest.mark.parametrize("moment, number", [("write", signal.SIGXFSZ), ("replace", signal.SIGKILL)])
def test_a_kill_in_mid_write_leaves_the_old_file_whole(tmp_path, moment, number):
    path = tmp_path / "x"
    utils.write(path, "old")
    child = SERVER.Process(target=write_and_die, args=(path, moment))
    child.start()
    child.join(30)
    assert child.exitcode == -number and path.read_text() == "old"
    utils.write(path, b"newer")
    assert path.read_text() == "newer" and [*tmp_path.iterdir()] == [path]


def test_only_a_file_that_is_needed_is_an_error_if_it_cannot_be_written(tmp_path, capsys):
    path = tmp_path / "x"
    path.mkdir()
    with pytest.raises(utils.UserError, match=f"cannot write {path}: Is a directory"):
        utils.write(path, "text")
    utils.write(path, "text", needed=False)
    assert capsys.readouterr().err == f"warning: cannot write {path}: Is a directory\n"
    assert [*tmp_path.iterdir()] == [path]


def test_a_file_that_is_no_checkpoint_is_named_and_runs_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)
    path, evil = tmp_path / "x.pt", tmp_path / "evil.pt"
    utils.save(path, dict(weights=torch.arange(300.0)))
    assert torch.equal(utils.load(path)["weights"], torch.arange(300.0))
    path.write_bytes(path.read_bytes()[:-100])
    torch.save(Evil(), evil)
    for each in (path, evil, tmp_path / "missing.pt"):
        with pytest.raises(utils.UserError, match=f"{each} is .*not a checkpoint"):
            utils.load(each)
    assert not (tmp_path / "executed").exists()
