"""Data and augmentation against torchvision, which does the same things one image at a time."""

import hashlib
import math
import os
import shutil
import signal

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as TF
from conftest import SERVER, write_and_die
from PIL import Image
from torchvision import datasets, transforms
from torchvision.transforms import InterpolationMode

import utils

BILINEAR, NEAREST = InterpolationMode.BILINEAR, InterpolationMode.NEAREST
STRENGTHS = dict(rotate=20, shift=3, scale=0.2, shear=15)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def some_images(n):
    return torch.randint(256, (n, 28, 28), generator=seeded(0), dtype=torch.uint8)


# ---- the data set ------------------------------------------------------------------------------
@pytest.mark.parametrize("train", [True, False])
def test_images_and_labels_are_torchvisions(mnist, train):
    images, labels = utils.load_mnist(mnist, train)
    expected = datasets.MNIST(mnist, train=train)
    assert torch.equal(images, expected.data) and images.dtype == torch.uint8
    assert torch.equal(labels, expected.targets) and labels.dtype == torch.int64


def test_normalisation_constants_are_the_datas(mnist):
    images, _ = utils.load_mnist(mnist, train=True)
    counts = np.bincount(images.numpy().ravel(), minlength=256)
    values = np.arange(256) / 255
    mean = np.average(values, weights=counts)
    assert round(mean, 4) == utils.MEAN
    assert round(np.average((values - mean) ** 2, weights=counts) ** 0.5, 4) == utils.STD


def test_normalise_is_torchvisions_to_tensor_and_normalize():
    image = some_images(1)
    transform = transforms.Compose([transforms.ToTensor(),
                                    transforms.Normalize((utils.MEAN,), (utils.STD,))])
    ours = utils.normalise(image.float())
    torch.testing.assert_close(ours, transform(TF.to_pil_image(image)))


@pytest.mark.parametrize("damage", ["short", "long", "altered", "a terabyte"])
def test_a_damaged_file_is_named(mnist, tmp_path, damage):
    path = tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    path.parent.mkdir(parents=True)
    data = (mnist / "MNIST" / "raw" / path.name).read_bytes()
    shutil.copy(mnist / "MNIST" / "raw" / "t10k-images-idx3-ubyte", path.parent)
    altered = data[:500] + bytes([data[500] ^ 1]) + data[501:]
    path.write_bytes(dict(short=data[:-1], long=data + b"\0").get(damage, altered))
    if damage == "a terabyte":
        os.truncate(path, 2 ** 40)  # of holes; to be refused by its size, before it is read
    with pytest.raises(utils.UserError) as error:
        utils.load_mnist(tmp_path, train=False)
    for part in (str(path), f"{path.stat().st_size} bytes", "expected 10008 bytes",
                 hashlib.md5(data).hexdigest(), "Delete it and run again"):
        assert part in str(error.value)
    assert damage != "altered" or hashlib.md5(altered).hexdigest() in str(error.value)


def test_rendered_digits_are_ten_classes_that_differ():
    images, labels = utils.rendered_digits(400, seed=1)
    assert images.shape == (400, 28, 28) and images.dtype == torch.uint8
    assert labels.bincount().min() > 20
    means = torch.stack([images[labels == digit].float().mean(dim=0) for digit in range(10)])
    distances = torch.cdist(means.flatten(1), means.flatten(1)) + 1e9 * torch.eye(10)
    assert distances.min() > 100 and images.max() > 200


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


def test_nearest_pixels_are_pillows():
    images, angles = some_images(100), (60 * torch.rand(100, generator=seeded(4)) - 30).tolist()
    none, one = torch.zeros(100), torch.ones(100)
    matrices = utils.affine_matrix(torch.tensor(angles), none, none, one, none)
    ours = utils.warp(images.unsqueeze(1).float(), matrices, "nearest").squeeze(1)
    theirs = [TF.affine(Image.fromarray(image.numpy()), angle, [0, 0], 1, [0, 0], NEAREST)
              for image, angle in zip(images, angles)]
    theirs = torch.stack([torch.from_numpy(np.array(image)) for image in theirs])
    assert (ours == theirs).float().mean() > 0.999  # a rare pixel lies halfway between two


def test_a_step_with_nearest_takes_pixels_as_they_are():
    images = some_images(500) // 128 * 255
    for augment, kept in (
            (dict(rotate=20), False), (dict(rotate=20, nearest=False), False),
            (dict(rotate=20, shift=2.5, nearest=True), True),
            ([dict(rotate=20), dict(scale=0.2, nearest=True)], True)):
        batch, _ = next(utils.batches(images, torch.arange(500), 500, seeded(0), augment))
        values = utils.normalise(torch.tensor([0.0, 255.0]))
        assert torch.isin(batch, values).all().item() == kept


def test_deskew_is_a_shear_by_the_covariance_of_the_ink(mnist):
    images, _ = utils.load_mnist(mnist, train=False)
    images = images[:200]
    for image, upright in zip(images.numpy(), utils.deskew(images).numpy()):
        ys, xs = np.mgrid[:28, :28] + 0.5
        (_, covariance), (_, variance) = np.cov(xs.ravel(), ys.ravel(), aweights=image.ravel())
        slope, y = covariance / variance, np.average(ys, weights=image)
        expected = Image.fromarray(image.astype(np.float32)).transform(
            (28, 28), Image.Transform.AFFINE, (1, slope, -slope * y, 0, 1, 0),
            Image.Resampling.BILINEAR)
        # Pillow blanks what is sampled within half a pixel of the frame
        assert np.abs(np.asarray(expected) - upright)[:, 1:-1].max() <= 1


def test_deskew_sets_a_slanted_stroke_upright_and_leaves_the_rest_alone():
    images = torch.zeros(4, 28, 28, dtype=torch.uint8)
    images[0, 4:24, 12:16] = 200  # upright
    images[1, 14, 5:20] = 200  # one row: no slant
    for row in range(4, 24):
        images[2, row, 24 - row:27 - row] = 200  # a slash, 45 degrees
    upright = utils.deskew(images)
    assert torch.equal(upright[0], images[0]) and torch.equal(upright[1], images[1])
    assert torch.equal(upright[3], images[3])  # empty
    inked = (upright[2] > 100).any(dim=0).sum()
    assert 2 <= inked <= 4 and (upright[2] > 100).any(dim=1).sum() == 20


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


@pytest.mark.parametrize("name, change, most", [
    ("pale", lambda images: 0.5 * images, 0.02),
    ("shifted", lambda images: images.roll((2, -3), (2, 3)), 0.05),
    ("slanted", lambda images: TF.affine(images, 0, [0, 0], 1, [12, 0], BILINEAR), 0.25),
    ("smaller", lambda images: TF.affine(images, 0, [0, 0], 0.85, [0, 0], BILINEAR), 0.4)])
def test_upright_undoes_what_changes_no_digit(mnist, name, change, most):
    images, _ = utils.load_mnist(mnist, train=False)
    images = images[:300]
    changed = change(images.unsqueeze(1).float()).round().to(torch.uint8).squeeze(1)
    before = (changed.float() - images.float()).abs().mean()
    after = (utils.upright(changed).float() - utils.upright(images).float()).abs().mean()
    assert after < most * before
    assert torch.equal(utils.upright(torch.zeros_like(images)), torch.zeros_like(images))


def test_zero_strength_changes_nothing():
    images, one = some_images(50).unsqueeze(1).float(), torch.ones(50)
    same = utils.warp(images, utils.affine_matrix(0 * one, 0 * one, 0 * one, one, 0 * one))
    torch.testing.assert_close(same, images, rtol=0, atol=0.02)
    assert utils.draw_affine(50, dict(rotate=0, shift=0.0), seeded(0)) is None
    assert utils.draw_affine(50, {}, seeded(0)) is None


@pytest.mark.parametrize("name", STRENGTHS)
def test_each_strength_bounds_its_own_parameter(name):
    strength = STRENGTHS[name]
    matrix = utils.draw_affine(20000, {name: strength}, seeded(0))
    inverse = torch.linalg.inv(matrix[:, :, :2].double())  # input to output: what one sees
    values = dict(rotate=torch.rad2deg(torch.atan2(inverse[:, 1, 0], inverse[:, 0, 0])),
                  shift=(-inverse @ matrix[:, :, 2:].double()).flatten() * 14,
                  scale=torch.linalg.det(inverse).sqrt() - 1,
                  shear=torch.rad2deg(torch.atan2(  # the angle between the images of the two axes
                      -(inverse[:, :, 0] * inverse[:, :, 1]).sum(dim=1),
                      torch.linalg.det(inverse))))
    for other, value in values.items():
        if other == name:
            assert strength * 0.99 < value.max() <= strength * 1.001
            assert -strength * 1.001 <= value.min() < -strength * 0.99
            assert value.abs().mean().item() == pytest.approx(strength / 2, rel=0.03)  # uniform
        else:
            assert value.abs().max() < 1e-4


@pytest.mark.parametrize("wrong", [dict(flip=1), dict(rotate=-1), dict(scale=1),
                                   dict(shift=float("nan"))])
def test_unknown_or_impossible_strength_is_refused(wrong):
    assert next(utils.check_augment(wrong)).startswith("augment")


def test_strokes_grow_to_the_most_and_shrink_to_the_least_of_each_2x2_pixels():
    images = some_images(3).unsqueeze(1).float()
    wide = torch.nn.functional.pad(images, (1, 0, 1, 0))
    most = torch.nn.functional.max_pool2d(wide, 2, stride=1)
    least = -torch.nn.functional.max_pool2d(-wide, 2, stride=1)
    changed = utils.change_thickness(images, torch.tensor([1.0, -1.0, 0.5]))
    torch.testing.assert_close(changed[0], most[0])
    torch.testing.assert_close(changed[1], least[1])
    torch.testing.assert_close(changed[2], (images[2] + most[2]) / 2)


def test_noise_has_the_deviation_asked_for_and_stays_between_black_and_white():
    grey = torch.full((2, 1, 28, 28), 128.0)
    noisy = utils.add_noise(grey, torch.tensor([10.0, 200.0]), seeded(0))
    assert noisy[0].std().item() == pytest.approx(10, rel=0.1)
    assert noisy[1].min() == 0 and noisy[1].max() == 255


def test_thickness_and_noise_of_a_recipe_reach_the_batches():
    images, labels = some_images(8), torch.zeros(8)
    plain = next(utils.batches(images, labels, 8, seeded(0), {}))[0]
    for name in ("thickness", "noise"):
        changed = next(utils.batches(images, labels, 8, seeded(0), {name: 0.5}))[0]
        assert changed.shape == plain.shape and not torch.equal(changed, plain)


def test_a_chain_of_matrices_is_torchvisions_affine_twice():
    rows, columns = torch.meshgrid(torch.arange(28), torch.arange(28), indexing="ij")
    blob = torch.exp(-((rows - 11) ** 2 / 40 + (columns - 14) ** 2 / 15))
    image = (255 * blob).view(1, 1, 28, 28)  # so smooth that it can be resampled twice
    steps = [(40.0, 1.0, 0.0, 1.1, 0.0), (0.0, -3.0, 2.0, 0.7, 15.0)]  # angle, x, y, scale, shear
    twice = image
    for angle, x, y, scale, shear in steps:
        twice = TF.affine(twice, angle, [x, y], scale, [shear, 0.0], BILINEAR)
    first, second = (utils.affine_matrix(*torch.tensor(step)[:, None]) for step in steps)
    once = utils.warp(image, utils.chain(first, second))
    torch.testing.assert_close(once, twice, rtol=0, atol=6)
    assert (utils.warp(image, utils.chain(second, first)) - twice).abs().max() > 40


def test_light_is_albumentations_factor_and_shift():
    images = some_images(4).unsqueeze(1)
    brightness, contrast = [0.2, -0.2, 0.0, 0.1], [-0.2, 0.2, 0.0, 0.2]
    changed = utils.change_light(images.float(), torch.tensor(brightness), torch.tensor(contrast))
    for before, after, beta, alpha in zip(images, changed, brightness, contrast):
        table = np.clip(np.arange(256) * (1 + alpha) + beta * 255, 0, 255)
        np.testing.assert_allclose(after.numpy(), table[before.numpy()], atol=1e-3)


def test_brightness_and_contrast_are_uniform_within_their_strengths():
    _, drawn = utils.draw_step(20000, dict(brightness=0.3, contrast=0.1), seeded(0))
    for name, strength in dict(brightness=0.3, contrast=0.1).items():
        values = drawn[name]
        assert -strength <= values.min() < -0.99 * strength < 0.99 * strength < values.max()
        assert values.abs().mean().item() == pytest.approx(strength / 2, rel=0.03)
    assert abs(torch.corrcoef(torch.stack([*drawn.values()]))[0, 1]) < 0.03


@pytest.mark.parametrize("step", [dict(rotate=180), dict(thickness=1), dict(contrast=1),
                                  dict(noise=1), dict(shift=5, brightness=1, noise=1)], ids=str)
def test_p_is_the_share_of_images_that_a_step_changes(step):
    def changed(augment):
        images = some_images(3000)
        plain, _ = next(utils.batches(images, torch.arange(3000), 3000, seeded(0), {}))
        after, _ = next(utils.batches(images, torch.arange(3000), 3000, seeded(0), augment))
        return ((after - plain).abs() > 0.01).flatten(1).any(dim=1).float().mean().item()
    assert changed(step | dict(p=0)) == 0 and changed(step) > 0.99 < changed(step | dict(p=1))
    assert changed(step | dict(p=0.3)) == pytest.approx(0.3, abs=0.04)
    assert changed([step | dict(p=0.3)] * 2) == pytest.approx(1 - 0.7 ** 2, abs=0.04)


def test_all_of_a_step_is_for_the_same_images():
    step = dict(rotate=90, thickness=1, contrast=1, noise=1, p=0.5)
    thetas, strengths = utils.draw_step(100, step, seeded(0))
    turned = (thetas != torch.eye(2, 3)).flatten(1).any(dim=1)
    assert 30 < turned.sum() < 70
    assert all(torch.equal(strengths[name] != 0, turned) for name in step.keys() & strengths)


def test_steps_of_a_recipe_are_taken_one_after_the_other():
    images, first, second = some_images(50), dict(rotate=20), dict(shift=3, contrast=0.2)
    batch, _ = next(utils.batches(images, torch.arange(50), 50, seeded(0), [first, second]))
    generator = seeded(0)
    images = images[torch.randperm(50, generator=generator)].unsqueeze(1).float()
    turn, _ = utils.draw_step(50, first, generator)
    move, light = utils.draw_step(50, second, generator)
    expected = utils.change_light(utils.warp(images, utils.chain(turn, move)), **light)
    torch.testing.assert_close(batch, utils.normalise(expected))


# ---- batches -----------------------------------------------------------------------------------
def epoch(seed, augment=None, n=1000, batch_size=128):
    images, labels = some_images(n), torch.arange(n)  # a label for each image, to follow it
    batches = list(utils.batches(images, labels, batch_size, seeded(seed), augment or {}))
    return torch.cat([b[0] for b in batches]), torch.cat([b[1] for b in batches]), batches


def test_an_epoch_has_every_image_once_with_its_own_label():
    images, labels, batches = epoch(seed=5)
    assert [len(batch[1]) for batch in batches] == [128] * 7 + [104]
    assert sorted(labels.tolist()) == list(range(1000)) and labels.tolist() != list(range(1000))
    assert torch.equal(images, utils.normalise(some_images(1000)[labels].unsqueeze(1).float()))


def test_order_and_transforms_depend_on_the_seed_alone():
    images, labels, _ = epoch(1, STRENGTHS)
    torch.rand(100)  # whatever else draws random numbers, dropout say, must not matter
    torch.manual_seed(99)
    again, same_labels, _ = epoch(1, STRENGTHS)
    other, other_labels, _ = epoch(2, STRENGTHS)
    assert torch.equal(labels, same_labels) and torch.equal(images, again)
    assert not torch.equal(labels, other_labels)
    plain, plain_labels, _ = epoch(1)
    assert torch.equal(labels, plain_labels) and not torch.equal(images, plain)
    generator = seeded(1)
    first, second = (torch.cat([batch for _, batch in utils.batches(
        some_images(300), torch.arange(300), 100, generator, {})]) for _ in range(2))
    assert not torch.equal(first, second)  # the next epoch


def test_what_enters_from_outside_is_background():
    white = torch.full((20, 28, 28), 255, dtype=torch.uint8)
    images, _ = next(utils.batches(white, torch.zeros(20), 20, seeded(0), dict(shift=5)))
    black, bright = -utils.MEAN / utils.STD, (1 - utils.MEAN) / utils.STD
    assert images.min().item() == pytest.approx(black)
    assert images.max().item() == pytest.approx(bright)
    assert images.is_contiguous()


# ---- evaluation --------------------------------------------------------------------------------
def test_evaluate_is_the_classic_pipelines_accuracy(mnist):
    """DataLoader, ToTensor, Normalize and a loop, as everybody writes it, on real digits."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 5, stride=4), torch.nn.BatchNorm2d(4),
                              torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(144, 10))
    transform = transforms.Compose([transforms.ToTensor(),
                                    transforms.Normalize((0.1307,), (0.3081,))])
    dataset = torch.utils.data.Subset(datasets.MNIST(mnist, train=False, transform=transform),
                                      range(1234))
    correct, loss = 0, 0.0
    net.eval()
    with torch.no_grad():
        for images, labels in torch.utils.data.DataLoader(dataset, batch_size=100):
            logits = net(images)
            loss += torch.nn.functional.cross_entropy(logits, labels, reduction="sum").item()
            correct += (logits.argmax(dim=1) == labels).sum().item()
    net.train()
    images, labels = utils.load_mnist(mnist, train=False)
    our_loss, accuracy, predictions = utils.evaluate(net, images[:1234], labels[:1234])
    assert accuracy == 100 * correct / 1234
    assert our_loss == pytest.approx(loss / 1234, rel=1e-5)
    assert (predictions == labels[:1234]).sum().item() == correct


def floats(images):
    """As torchvision's ToTensor() gives them."""
    return images.unsqueeze(1).float() / 255


@pytest.mark.parametrize("recipe", [{}, dict(deskew=True), dict(upright=True)])
def test_raw_images_may_be_bytes_or_floats_and_stay_as_they_are(recipe):
    images, labels = utils.rendered_digits(60, seed=1)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10)).eval()
    prepared = utils.prepare(images, recipe)
    loss, _, guesses = utils.evaluate(net, prepared, labels)
    expected = net(utils.normalise(prepared.unsqueeze(1).float())).softmax(dim=1)
    for raw in (images, images.unsqueeze(1), floats(images), floats(images).squeeze(1).double()):
        before = raw.clone()
        assert torch.equal(utils.prepare(raw, recipe), prepared)
        torch.testing.assert_close(utils.predict(net, raw, recipe), expected)
        assert torch.equal(raw, before)
    for ready in (prepared, floats(prepared)):
        before = ready.clone()
        for _ in range(2):
            assert utils.evaluate(net, ready, labels)[0] == loss
        assert torch.equal(ready, before) and torch.equal(guesses, expected.argmax(dim=1))


@pytest.mark.parametrize("wrong", [
    torch.full((2, 28, 28), 200.0), torch.full((2, 28, 28), -0.4), torch.zeros(2, 28, 28).long(),
    torch.full((2, 28, 28), math.nan), torch.zeros(2, 28, 28).bool(), torch.zeros(2, 32, 32),
    torch.zeros(28, 28), torch.zeros(2, 3, 28, 28), torch.zeros(2, 784)])
@pytest.mark.parametrize("function", [
    utils.deskew, utils.upright, lambda images: utils.evaluate(torch.nn.Flatten(), images, None)])
def test_images_of_another_kind_are_refused_and_not_guessed_at(function, wrong):
    with pytest.raises(ValueError, match="images are "):
        function(wrong)


# ---- files -------------------------------------------------------------------------------------
@pytest.mark.parametrize("moment", ["write", "fsync", "replace"])
def test_a_kill_in_mid_write_leaves_the_old_file_whole(tmp_path, moment):
    utils.write(tmp_path / "x", "old")
    child = SERVER.Process(target=write_and_die, args=(tmp_path / "x", moment))
    child.start()
    child.join(30)
    assert child.exitcode == -signal.SIGKILL and (tmp_path / "x").read_text() == "old"


def test_two_processes_that_write_one_file_do_not_meet(tmp_path, monkeypatch):
    fsync = os.fsync

    def another(descriptor):  # writes the same file, in the middle of this write
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            patch.setattr(os, "getpid", lambda: 0)
            utils.write(tmp_path / "x", "another's")
        fsync(descriptor)
    monkeypatch.setattr(os, "fsync", another)
    utils.write(tmp_path / "x", "ours")
    assert (tmp_path / "x").read_text() == "ours" and len(list(tmp_path.iterdir())) == 1


def test_a_flipped_bit_anywhere_in_a_checkpoint_is_noticed_or_changes_nothing(tmp_path):
    state = dict(weights=torch.randn(300, generator=seeded(0)))
    utils.save(tmp_path / "x.pt", state)
    data, noticed = (tmp_path / "x.pt").read_bytes(), 0
    for position in range(0, len(data), 23):
        damaged = bytearray(data)
        damaged[position] ^= 4
        (tmp_path / "x.pt").write_bytes(damaged)
        try:
            again = utils.load(tmp_path / "x.pt")
            assert torch.equal(again["weights"], state["weights"])
        except utils.UserError as error:
            assert "x.pt is damaged" in str(error)
            noticed += 1
    assert noticed > 50


def test_a_checkpoint_cannot_run_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)
    torch.save(Evil(), tmp_path / "x.pt")
    with pytest.raises(utils.UserError, match="not a checkpoint"):
        utils.load(tmp_path / "x.pt")
    assert not (tmp_path / "executed").exists()
