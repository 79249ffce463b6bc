"""README.md's blocks of code, as they stand, in a fresh copy of the repository."""

import glob
import os
import re
import shlex
import shutil

import predict
import pytest
from conftest import DIGITS, ROOT, shell
from PIL import Image, ImageDraw, ImageFont

import utils

PAGE = (ROOT / "README.md").read_text(encoding="utf-8")
# What may begin a command. These are not run, because they install or take minutes: looked at only.
LOOKED_AT = {
    "git": r"git clone \S+ \S+", "cd": r"cd \S+", "pip": r"pip install -r requirements\.txt",
    "pytest": r"pytest( tests(/\w+\.py)?)?"}
COMMANDS = {"python", "cp", *LOOKED_AT}


def commands(block):
    """The commands of a block, one after the other, without comments."""
    lines = [re.sub(r"(^|\s+)#.*", "", line) for line in block.replace("\\\n", " ").splitlines()]
    return [command.strip() for line in lines if line for command in line.split("&&")]


def blocks(page):
    """(blocks of Python, blocks of commands). A block with one known command is one of these, so
    that a wrong line in it is seen; one without any is left out, as a list of files is."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    return ([block for language, block in found if language == "python"],
            [block for language, block in found if language != "python"
             and any(line.split()[0] in COMMANDS for line in commands(block))])


PYTHON, SHELL = blocks(PAGE)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """What a clone has, and a picture of a digit for each that a command names."""
    folder = tmp_path_factory.mktemp("fresh") / "mnist"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(
        ".*", "__pycache__", "data", "runs", "venv", "last.pt", "seed[1-9]*"))
    picture = Image.new("L", (200, 240), 230)
    ImageDraw.Draw(picture).text((100, 120), "5", 40, ImageFont.load_default(150), anchor="mm")
    for name in re.findall(r"(?<![\w*./-])[\w-]+\.(?:jpe?g|png)\b", "\n".join(SHELL)):
        picture.save(folder / name)
    return folder


def run(command, main):
    """(status, stdout, stderr) of a command. A training is rehearsed, without MNIST to hold out."""
    if re.match(r"python train\.py\b", command):
        command = re.sub(r" --(holdout|fold|runs) \d+", "", command)
        _, _, *args = shlex.split(os.path.expandvars(command.replace(":-0}", "}")))
        return main(*args, "--dry-run", "--epochs", "1")
    if command.startswith("python demo/predict.py"):
        _, _, *args = shlex.split(command)
        return predict.main([name for arg in args for name in glob.glob(arg) or [arg]]), "", ""
    return shell(re.sub(r"^python (\S+).*", r'"$PYTHON" \1 --help', command), os.getcwd())


def run_block(block, folder, main):
    os.chdir(folder)
    for command in commands(block):
        first = command.split()[0]
        assert first in COMMANDS, f"no command that is known here: {command}"
        if first in LOOKED_AT:
            assert re.fullmatch(LOOKED_AT[first], command), command
        else:
            status, out, err = run(command, main)
            assert status == 0, f"{command}\n{out}{err}"


@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.split("\n")[0])
def test_a_block_of_commands_runs(copy, main, monkeypatch, block):
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "4")
    monkeypatch.setattr(utils, "rendered_digits", lambda n, seed: DIGITS(n // 10, seed))
    run_block(block, copy, main)


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.split("\n")[-2])
def test_a_block_of_python_runs(mnist, copy, monkeypatch, capsys, block):
    monkeypatch.chdir(copy)
    exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out


def test_the_page_has_blocks_of_both_kinds_and_names_scripts_that_exist():
    assert PYTHON and any("demo/predict.py" in each for each in SHELL)
    for name in re.findall(r"`python ([\w/]+\.py)", PAGE):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("line", [
    "pyhton train.py", "pip install mnist", "cp model9.py mine.py",
    "python train.py --set augment.rotat=5", "python demo/predict.py nothing.jpg"])
def test_a_line_that_does_not_run_is_noticed(copy, main, line):
    (block,) = blocks(f"```\n{line}\ncp model1.py another.py\n```\n")[1]
    with pytest.raises(AssertionError):
        run_block(block, copy, main)
