"""The loop: schedules, steps, averages, reproducibility, exact resume. On small drawn digits."""

import copy
import math
import os
import random
import signal
import time

import pytest
import torch
import torch.nn.functional as F
from conftest import contents, equal, spawn, wait_until
from torch import nn

import train
import utils

DIGITS = utils.rendered_digits(500, seed=0)
OTHERS = utils.rendered_digits(100, seed=1)


def begin(path, seed=0, n=500, net=None, **changes):
    """(state, recipe) before the first step, the recipe of the file at `path` with `changes`. net:
    one to be copied, in place of the file's."""
    _, net_class, recipe = train.load_model_file(path)
    recipe |= changes
    steps = math.ceil(n / recipe["batch_size"])
    make = net_class if net is None else lambda: copy.deepcopy(net)
    return train.start(make, recipe, seed, steps), recipe


def fit(path, train_set=DIGITS, test_set=OTHERS, **options):
    """The state after training: net, average, rows, rates ..."""
    state, recipe = begin(path, n=len(train_set[0]), **options)
    for _ in train.train(state, recipe, train_set, test_set):
        pass
    return state


# ---- schedules ---------------------------------------------------------------------------------
@pytest.mark.parametrize("n, batch_size, epochs", [(500, 100, 4), (401, 100, 3), (100, 100, 1)])
def test_one_cycle_is_exactly_as_long_as_the_run(one_cycle, n, batch_size, epochs):
    digits = DIGITS[0][:n], DIGITS[1][:n]
    state = fit(one_cycle, digits, batch_size=batch_size, epochs=epochs)
    steps = epochs * math.ceil(n / batch_size)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], momentum=0.9)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=steps)
    expected = []
    for _ in range(steps):
        expected += schedule.get_last_lr()
        optimizer.step()
        schedule.step()
    assert state.rates == expected and len(state.rows) == epochs
    assert state.rows[-1]["lr"] == state.rates[-1] == pytest.approx(min(state.rates))


def test_one_cycle_may_be_so_short_that_it_has_one_step_to_rise(one_cycle):
    schedule = dict(name="OneCycleLR", max_lr=0.1, pct_start=0.2, cycle_momentum=False)
    rates = fit(one_cycle, epochs=1, scheduler=schedule).rates  # 5 steps, where torch divides by 0
    assert rates[0] == pytest.approx(0.1 / 25) and len(rates) == 5
    assert 0.08 < rates[1] < 0.1 and rates[1:] == sorted(rates[1:], reverse=True)


def test_plateau_lowers_the_rate_when_the_training_loss_stalls_and_only_then(plateau):
    state = fit(plateau, epochs=8)
    expected, best, rate = [], math.inf, 0.1
    for row in state.rows:  # patience 0, factor 0.5, relative threshold 0.2
        expected.append(rate)
        if row["train_loss"] < best * 0.8:
            best = row["train_loss"]
        else:
            rate /= 2
    assert [row["lr"] for row in state.rows] == expected
    assert 0.1 in expected[1:] and expected[-1] < 0.1, "the test needs both kinds of epoch"
    assert state.rates == [rate for rate in expected for _ in range(5)]


def test_step_lr_and_by_epoch_have_one_rate_an_epoch(step, by_epoch):
    for path, rates in ((step, [0.1, 0.1, 0.05, 0.05]), (by_epoch, [1, 0.02, 0.05, 0.01])):
        state = fit(path)
        assert [row["lr"] for row in state.rows] == rates
        assert state.rates == [rate for rate in rates for _ in range(5)]


@pytest.mark.parametrize("kind", ["one_cycle", "plateau"])
def test_the_judged_images_decide_nothing(kind, request):
    path = request.getfixturevalue(kind)
    noise = torch.randint(256, (100, 28, 28), dtype=torch.uint8), OTHERS[1]
    ours, other = fit(path), fit(path, test_set=noise)
    assert ours.rates == other.rates and equal(ours.net.state_dict(), other.net.state_dict())
    for row, other_row in zip(ours.rows, other.rows):
        assert row["train_loss"] == other_row["train_loss"]
        assert row["test_loss"] != other_row["test_loss"]


# ---- what a step does --------------------------------------------------------------------------
def test_one_step_is_plain_sgd_on_the_smoothed_loss(one_cycle):
    _, net_class, _ = train.load_model_file(one_cycle)
    other = net_class()
    other.layers[3].p = 0.0  # no dropout, to compare with a step by hand
    state = fit(one_cycle, net=other, epochs=1, batch_size=500, augment={}, average=0.0,
                optimizer=dict(name="SGD"))
    images = (DIGITS[0].unsqueeze(1).float() / 255 - utils.MEAN) / utils.STD
    logits = other(images)
    target = F.one_hot(DIGITS[1], 10) * (1 - 0.02) + 0.02 / 10
    loss = -(target * logits.log_softmax(dim=1)).sum(dim=1).mean()
    loss.backward()
    for after, before in zip(state.net.parameters(), other.parameters()):
        expected = before - state.rates[0] * before.grad
        torch.testing.assert_close(after, expected, rtol=1e-4, atol=1e-6)
    assert state.rows[0]["train_loss"] == pytest.approx(loss.item(), abs=2e-6)
    accuracy = 100 * (logits.argmax(dim=1) == DIGITS[1]).float().mean().item()
    assert state.rows[0]["train_acc"] == pytest.approx(accuracy, abs=1e-3)


@pytest.mark.parametrize("batch_size", [500, 450, 90])
def test_train_loss_is_the_mean_over_images_not_over_batches(one_cycle, batch_size):
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    nn.init.normal_(net[1].weight, generator=torch.Generator().manual_seed(0))
    expected, _, _ = utils.evaluate(net, *DIGITS)
    still = dict(name="OneCycleLR", max_lr=1e-12, cycle_momentum=False)  # all batches see one net
    state = fit(one_cycle, net=net, batch_size=batch_size, scheduler=still, augment={},
                label_smoothing=0.0, optimizer=dict(name="SGD"))
    assert state.rows[0]["train_loss"] == pytest.approx(expected, rel=1e-4)


def test_the_weight_average_moves_each_tensor_once_a_step_tied_ones_too(one_cycle):
    first = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4))
    first[2].weight = first[0].weight
    state, _ = begin(one_cycle, net=first)
    net, average = state.net, state.average
    expected = {k: v.double().clone() for k, v in net.state_dict().items() if "num" not in k}
    for number in range(30):
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.normal_()
            net[1].running_mean.normal_()
            net[1].num_batches_tracked += 1
        state.rates.append(0.1)
        train.update_average(state, 0.7)
        decay = min(0.7, (1 + number) / (10 + number))
        expected = {k: decay * expected[k] + (1 - decay) * net.state_dict()[k] for k in expected}
    for key, value in expected.items():
        torch.testing.assert_close(average.state_dict()[key].double(), value, rtol=1e-5, atol=1e-6)
    assert average[2].weight is average[0].weight and average[1].num_batches_tracked == 30


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_every_row_judges_the_average(one_cycle, average):
    state, recipe = begin(one_cycle, average=average)
    for row in train.train(state, recipe, DIGITS, OTHERS):
        loss, accuracy, _ = utils.evaluate(state.average, *OTHERS)
        assert row["test_loss"] == round(loss, 6) and row["test_acc"] == accuracy
    assert equal(state.average.state_dict(), state.net.state_dict()) == (average == 0.0)


def test_muon_turns_matrices_as_torchs_does_and_moves_the_rest_as_sgd():
    shapes = [(4, 30), (30, 4), (6, 3, 2, 2), (7,), (1,)]
    ours = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = [nn.Parameter(each.detach().flatten(1) if each.ndim > 1 else each.detach().clone())
              for each in ours]
    muon = utils.Muon(ours, lr=0.02, momentum=0.9, vectors=5.0, weight_decay=0.1)
    others = [torch.optim.Muon(theirs[:3], lr=0.02, momentum=0.9, weight_decay=0.0),
              torch.optim.SGD(theirs[3:], lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1)]
    for _ in range(3):
        before = [each.detach().clone() for each in ours]
        for a, b in zip(ours, theirs):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.view_as(b).clone()
        for optimizer in (muon, *others):
            optimizer.step()
        for a, b, old in zip(ours, theirs, before):
            torch.testing.assert_close(a.detach().view_as(b), b.detach(), rtol=0,
                                       atol=2e-3 if a.ndim > 1 else 1e-6)  # theirs has 8 bits
            if a.ndim > 1:  # a step goes about equally far in every direction
                values = torch.linalg.svdvals((old - a.detach()).flatten(1)) / 0.02
                assert values.max() / values.min() < 2


def test_plain_epochs_are_the_last_and_are_not_augmented(one_cycle):
    usual, ending, plain = (fit(one_cycle, plain_epochs=n).rows for n in (0, 1, 4))
    losses = [[row["train_loss"] for row in rows] for rows in (usual, ending, plain)]
    assert losses[1][:3] == losses[0][:3] and losses[1][3] != losses[0][3]
    never = fit(one_cycle, augment={}).rows
    assert losses[2] == [row["train_loss"] for row in never]


@pytest.mark.parametrize("model", ["1", "2", "3"])
def test_a_short_training_on_real_digits_beats_a_floor(mnist, model):
    """One epoch on the first 1,200 training images, judged by the last 500."""
    images, labels = utils.load_mnist(mnist, train=True)
    _, _, recipe = train.load_model_file(model)
    train_set = utils.prepare(images[:1200], recipe), labels[:1200]
    test_set = utils.prepare(images[-500:], recipe), labels[-500:]
    assert fit(model, train_set, test_set, epochs=1, batch_size=15).rows[-1]["test_acc"] > 80


# ---- the same again ----------------------------------------------------------------------------
def test_a_seed_gives_the_same_bits_twice_and_another_seed_does_not(tmp_path, monkeypatch, main,
                                                                     one_cycle):
    for seed, summary in ((3, train.print_summary), (3, lambda net: None), (4, lambda net: None)):
        monkeypatch.setattr(train, "print_summary", summary)  # must not change a bit either
        assert main("--model", one_cycle, "--dry-run", "--seed", seed, "--epochs", 1)[0] == 0
    first, second, other = (contents(tmp_path / "runs" / "one_cycle" / name) for name in
                            ("dry-run-seed3", "dry-run-seed3-2", "dry-run-seed4"))
    assert equal(first, second)
    assert not equal(first[0]["net"], other[0]["net"])
    assert first[0]["rows"][0]["train_loss"] != other[0]["rows"][0]["train_loss"]


@pytest.mark.parametrize("kind, change", [
    ("one_cycle", "average=0.9"), ("plateau", "average=0.0"),
    ("one_cycle", "optimizer={'name': 'AdamW'}"), ("by_epoch", "average=0.0"),
    ("step", "optimizer={'name': 'Muon', 'lr': 0.01}"),
    ("step", "augment=[{'rotate': 5, 'p': 0.5}, {'brightness': 0.2, 'shift': 1}]")])
def test_interrupted_and_resumed_gives_the_bits_of_a_run_in_one_go(
        tmp_path, monkeypatch, main, request, kind, change):
    command = ("--model", request.getfixturevalue(kind), "--dry-run", "--set", change,
               "--epochs", 4, "--batch-size", 200)
    assert main(*command, "--out", "whole")[0] == 0

    steps, batches = [], utils.batches

    def interrupted(*args):
        for batch in batches(*args):
            steps.append(1)
            if len(steps) in (1 + 30, 1 + 30 + 1 + 35):  # one to rehearse, 20 an epoch
                raise KeyboardInterrupt
            yield batch
    monkeypatch.setattr(utils, "batches", interrupted)
    for epochs in (1, 2):
        status, _, err = main(*command, "--out", "cut", "--resume")
        assert status == 130 and err.count("\n") == 1 and "add --resume to the same" in err
        assert len(utils.load(tmp_path / "cut" / "dry-run-seed0" / "last.pt")["rows"]) == epochs
    status, out, _ = main(*command, "--out", "cut", "--resume")
    assert status == 0 and "2 of 4 epochs are there" in out
    assert equal(contents(tmp_path / "cut" / "dry-run-seed0"),
                 contents(tmp_path / "whole" / "dry-run-seed0"))


@pytest.mark.parametrize("kind, how", [("one_cycle", signal.SIGKILL), ("plateau", signal.SIGINT)])
def test_killed_at_random_moments_and_resumed_gives_the_bits_of_a_run_in_one_go(
        tmp_path, main, request, kind, how):
    command = ("--model", request.getfixturevalue(kind), "--dry-run", "--epochs", "4",
               "--batch-size", "40")
    assert main(*command, "--out", "whole")[0] == 0
    last = tmp_path / "cut" / "dry-run-seed0" / "last.pt"
    moments = random.Random(0)
    for epoch in range(1, 4):
        process = spawn(*command, "--out", "cut", "--resume")
        wait_until(process.is_alive,
                   lambda: last.exists() and len(utils.load(last)["rows"]) >= epoch)
        time.sleep(moments.uniform(0, 0.2))
        os.kill(process.pid, how)
        process.join(60)
        if process.exitcode == 0:  # it was over before
            break
        assert process.exitcode == (-how if how == signal.SIGKILL else 130)
        assert "Traceback" not in (tmp_path / "printed").read_text()
    assert main(*command, "--out", "cut", "--resume")[0] == 0
    assert equal(contents(last.parent), contents(tmp_path / "whole" / "dry-run-seed0"))
