"""The loop: schedules, averages, reproducibility, exact resume. On small random or drawn images."""

import copy
import math
import platform
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT, environment

import train
import utils

DIGITS = utils.rendered_digits(500, seed=0)
OTHERS = utils.rendered_digits(100, seed=1)


def fit(path, seed=0, states=None, state=None, train_set=DIGITS, test_set=OTHERS, **changes):
    """(net, rows, rates) of the model file at `path`, its recipe changed by `changes`."""
    _, net_class, recipe = train.load_model_file(path)
    torch.manual_seed(seed)
    keep = (lambda s: states.append(copy.deepcopy(s))) if states is not None else None
    return train.train(net_class(), recipe | changes, seed, train_set, test_set, state=state,
                       after_epoch=keep)


def without_seconds(rows):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def equal(a, b):
    """Bit for bit, through nested dicts and lists."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a if k != "seconds")
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


# ---- schedules ---------------------------------------------------------------------------------
@pytest.mark.parametrize("n, batch_size, epochs", [(500, 100, 4), (501, 100, 3), (100, 100, 1)])
def test_one_cycle_is_exactly_as_long_as_the_run(one_cycle, n, batch_size, epochs):
    digits = DIGITS[0].repeat(2, 1, 1)[:n], DIGITS[1].repeat(2)[:n]
    _, rows, rates = fit(one_cycle, train_set=digits, batch_size=batch_size, epochs=epochs)
    steps = epochs * math.ceil(n / batch_size)
    assert len(rates) == steps and len(rows) == epochs
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], momentum=0.9)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=steps)
    for rate in rates:
        assert rate == schedule.get_last_lr()[0]
        optimizer.step()
        schedule.step()
    assert rows[-1]["lr"] == rates[-1] and rates[-1] == pytest.approx(min(rates))
    assert steps < 10 or max(rates) == pytest.approx(0.1, rel=0.2)


def test_one_cycle_may_be_so_short_that_it_has_one_step_to_rise(one_cycle):
    schedule = dict(name="OneCycleLR", max_lr=0.1, pct_start=0.2, cycle_momentum=False)
    _, _, rates = fit(one_cycle, epochs=1, scheduler=schedule)  # of 5 steps, where torch divides
    assert rates[0] == pytest.approx(0.1 / 25) and len(rates) == 5
    assert 0.08 < rates[1] < 0.1 and rates[1:] == sorted(rates[1:], reverse=True)


def test_plateau_lowers_the_rate_when_the_training_loss_stalls_and_only_then(plateau):
    _, rows, rates = fit(plateau, epochs=8)
    losses, expected, best = [row["train_loss"] for row in rows], [], math.inf
    rate = 0.1
    for loss in losses:  # patience 0, factor 0.5, relative threshold 0.2
        expected.append(rate)
        if loss < best * 0.8:
            best = loss
        else:
            rate /= 2
    assert [row["lr"] for row in rows] == expected
    assert 0.1 in expected[1:] and expected[-1] < 0.1, "the test needs both kinds of epoch"
    assert rates == [rate for rate in expected for _ in range(5)]


def test_step_lr_lowers_the_rate_every_so_many_epochs(plateau):
    _, rows, rates = fit(plateau, epochs=5,
                         scheduler=dict(name="StepLR", step_size=2, gamma=0.5))
    assert [row["lr"] for row in rows] == [0.1, 0.1, 0.05, 0.05, 0.025]
    assert rates == [row["lr"] for row in rows for _ in range(5)]


def test_the_judged_images_decide_nothing(plateau, one_cycle):
    noise = torch.randint(256, (100, 28, 28), dtype=torch.uint8), OTHERS[1]
    for path in (plateau, one_cycle):
        (net, rows, rates), (same, other_rows, other_rates) = (
            fit(path, test_set=images) for images in (OTHERS, noise))
        assert rates == other_rates and equal(net.state_dict(), same.state_dict())
        assert [row["train_loss"] for row in rows] == [row["train_loss"] for row in other_rows]
        assert rows[-1]["test_loss"] != other_rows[-1]["test_loss"]


def test_lr_beside_one_cycle_is_refused_because_it_would_do_nothing(tmp_path, one_cycle):
    with pytest.raises(ValueError, match="leave out the optimizer's lr"):
        fit(one_cycle, optimizer=dict(name="SGD", lr=0.5))


# ---- what a step does --------------------------------------------------------------------------
def test_one_step_is_plain_sgd_on_the_smoothed_loss(one_cycle):
    _, net_class, recipe = train.load_model_file(one_cycle)
    torch.manual_seed(0)
    net = net_class()
    net.layers[3].p = 0.0  # no dropout, to compare with a step by hand
    other = copy.deepcopy(net)
    recipe |= dict(epochs=1, batch_size=500, augment={}, average=0.0, optimizer=dict(name="SGD"))
    _, rows, rates = train.train(net, recipe, 0, DIGITS, OTHERS)
    images = (DIGITS[0].unsqueeze(1).float() / 255 - utils.MEAN) / utils.STD
    logits = other(images)
    target = F.one_hot(DIGITS[1], 10) * (1 - 0.02) + 0.02 / 10
    loss = -(target * logits.log_softmax(dim=1)).sum(dim=1).mean()
    loss.backward()
    for after, before in zip(net.parameters(), other.parameters()):
        torch.testing.assert_close(after, before - rates[0] * before.grad, rtol=1e-4, atol=1e-6)
    assert rows[0]["train_loss"] == pytest.approx(loss.item(), abs=2e-6)
    accuracy = 100 * (logits.argmax(dim=1) == DIGITS[1]).float().mean().item()
    assert rows[0]["train_acc"] == pytest.approx(accuracy, abs=1e-3)


def test_train_loss_is_the_mean_over_images_not_over_batches(one_cycle):
    # Learning rate 0 (but for rounding) makes every batch see the same net.
    recipe = dict(epochs=1, optimizer=dict(name="SGD"), augment={}, average=0.0,
                  label_smoothing=0.0,
                  scheduler=dict(name="OneCycleLR", max_lr=1e-12, cycle_momentum=False))
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    torch.nn.init.normal_(net[1].weight, generator=torch.Generator().manual_seed(0))
    expected = utils.evaluate(net, *DIGITS)[0]
    for batch_size in (500, 450, 90):
        rows = train.train(net, recipe | dict(batch_size=batch_size), 0, DIGITS, OTHERS)[1]
        assert rows[0]["train_loss"] == pytest.approx(expected, rel=1e-4)


def test_the_weight_average_is_an_exponential_moving_average():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    average, update = train.moving_average(net, 0.7)
    expected = {k: v.double().clone() for k, v in net.state_dict().items() if "num" not in k}
    for step in range(30):
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.normal_()
            net[1].running_mean.normal_()
        update(step)
        decay = min(0.7, (1 + step) / (10 + step))
        expected = {k: decay * expected[k] + (1 - decay) * net.state_dict()[k] for k in expected}
    for key, value in expected.items():
        torch.testing.assert_close(average.state_dict()[key].double(), value, rtol=1e-5, atol=1e-6)


def test_every_step_is_averaged_once_and_knows_its_number(one_cycle, monkeypatch):
    steps, original = [], train.moving_average

    def recording(net, decay):
        average, update = original(net, decay)
        return average, lambda step: (steps.append(step), update(step))
    monkeypatch.setattr(train, "moving_average", recording)
    states = []
    fit(one_cycle, states=states)
    fit(one_cycle, state=states[1])
    assert steps == [*range(20), *range(10, 20)]


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_the_net_returned_is_the_one_that_was_judged(one_cycle, average):
    states = []
    net, rows, _ = fit(one_cycle, states=states, average=average)
    loss, accuracy, _ = utils.evaluate(net, *OTHERS)
    assert round(loss, 6) == rows[-1]["test_loss"] and accuracy == rows[-1]["test_acc"]
    last = [parameter for key, parameter in states[-1]["net"].items() if "num_batches" not in key]
    judged = [value for key, value in net.state_dict().items() if "num_batches" not in key]
    assert equal(judged, last) == (average == 0.0)


@pytest.mark.parametrize("model", ["1", "2", "3"])
def test_every_model_overfits_one_batch(model):
    _, net_class, recipe = train.load_model_file(model)
    torch.manual_seed(0)
    one = DIGITS[0][:50], DIGITS[1][:50]
    one_cycle = recipe["scheduler"]["name"] == "OneCycleLR"
    recipe |= dict(epochs=100, batch_size=50, augment={}, average=0.0, label_smoothing=0.0)
    recipe |= {} if one_cycle else dict(scheduler=recipe["scheduler"] | dict(patience=100))
    _, rows, _ = train.train(net_class(), recipe, 0, one, one)
    assert rows[-1]["train_acc"] == 100 and rows[-1]["train_loss"] < 0.1


# ---- the same again ----------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["one_cycle", "plateau"])
def test_a_seed_gives_the_same_bits_twice_and_another_seed_does_not(kind, request):
    path = request.getfixturevalue(kind)
    (net, rows, rates), (again, same_rows, same_rates), (other, other_rows, _) = (
        fit(path, seed) for seed in (3, 3, 4))
    assert equal(net.state_dict(), again.state_dict()) and rates == same_rates
    assert without_seconds(rows) == without_seconds(same_rows)
    assert not equal(net.state_dict(), other.state_dict())
    assert rows[0]["train_loss"] != other_rows[0]["train_loss"]


@pytest.mark.parametrize("average", [0.0, 0.9])
@pytest.mark.parametrize("kind", ["one_cycle", "plateau"])
def test_resuming_gives_the_bits_of_a_run_in_one_go(kind, average, request, tmp_path):
    path, straight, resumed = request.getfixturevalue(kind), [], []
    net, rows, rates = fit(path, states=straight, average=average)
    utils.save(tmp_path / "last.pt", straight[1])  # after epoch 2 of 4, through the file
    torch.manual_seed(12345)  # a new process has another random state
    again, same_rows, same_rates = fit(path, seed=0, states=resumed, average=average,
                                       state=utils.load(tmp_path / "last.pt"))
    assert len(straight) == 4 and len(resumed) == 2
    assert equal(straight[2:], resumed)
    assert equal(net.state_dict(), again.state_dict())
    assert rates == same_rates and without_seconds(rows) == without_seconds(same_rows)
    plots = [[line.get_xydata().tolist() for figure in utils.curves(*run, "").values()
              for line in figure.axes[0].lines] for run in ((rows, rates), (same_rows, same_rates))]
    assert len(plots[0]) == 6 and plots[0] == plots[1]


# ---- the loss is NaN ---------------------------------------------------------------------------
def test_nan_stops_at_once_and_names_epoch_and_step(one_cycle):
    _, net_class, recipe = train.load_model_file(one_cycle)
    torch.manual_seed(0)
    net, states, steps = net_class(), [], []

    def poison(module, inputs, output):
        if module.training:
            steps.append(1)
        return output * math.nan if len(steps) == 8 else output
    net.register_forward_hook(poison)
    with pytest.raises(utils.UserError, match=r"the loss is nan in epoch 2, step 3\b"):
        train.train(net, recipe, 0, DIGITS, OTHERS, after_epoch=states.append)
    assert len(steps) == 8 and len(states) == 1


def test_a_run_has_glibc_keep_what_it_frees(one_cycle):
    """40 MB are 9,766 pages; when they are asked for again, most of the time none is new."""
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("this C library has no mallopt")
    code = """
import resource, statistics, sys, torch, train
def median_faults():
    faults = []
    for _ in range(21):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(10_000_000)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return int(statistics.median(faults))
before = median_faults()
train.main(sys.argv[1:])
print(before, median_faults())
"""
    flags = f"--dry-run --epochs 1 --model {one_cycle} --out {one_cycle.parent} --no-progress"
    done = subprocess.run([sys.executable, "-c", code, *flags.split()], cwd=ROOT, check=True,
                          env=environment(), capture_output=True, text=True)
    faults = [int(number) for number in done.stdout.split()[-2:]]
    assert faults[0] > 9000 and faults[1] < 1000
