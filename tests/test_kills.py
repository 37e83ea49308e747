"""`kill -9` at random moments of the commands: what they were to write is as it was, or whole, or not there.

`NLAIC_KILLS=50 pytest tests/test_kills.py` kills more often than the few times that are quick.
"""

import json
import os
import random
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

import nlaic
from tests.conftest import smooth_picture
from tests.runs import SMALL

KILLS = int(os.environ.get("NLAIC_KILLS", "2"))
LOOP = """
import contextlib, sys
from nlaic.cli import {0} as command
while True:
    with contextlib.suppress(SystemExit):
        command.main(sys.argv[1:])
    print("done", flush=True)
"""


def kill_at_random(words, rng, ready, longest):
    """Start, wait until `ready`, then up to `longest` seconds, and kill."""
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        while not ready(process) and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, longest))
        process.kill()


def said_done(process):
    return process.stdout.readline() == b"done\n"


@pytest.fixture
def many(tmp_path):
    """Pictures, so that killing falls between two files too."""
    (tmp_path / "in").mkdir()
    for seed in range(3):
        smooth_picture(200, 150, seed).save(tmp_path / "in" / f"{seed}.png")
    return tmp_path


def test_compress_and_decompress(many, tiny_model):
    """Each file decodes at every moment; none is there half, neither new nor old."""
    rng, codec = random.Random(1), nlaic.load(str(tiny_model), device="cpu", threads=1)
    more = ["--model", str(tiny_model), "--threads", "1", "--force", "--quiet", "-r"]
    for number in range(KILLS):
        quality = str(20 + number)
        words = [sys.executable, "-c", LOOP.format("compress"), str(many / "in"), "-o", str(many / "out"), *more]
        kill_at_random([*words, "-q", quality, "-e", "1"], rng, said_done, 0.3)
        for seed in range(3):
            data = (many / "out" / f"{seed}.nlaic").read_bytes()
            assert codec.decompress(data).size == (200, 150)
        words = [sys.executable, "-c", LOOP.format("decompress"), str(many / "out"), "-o", str(many / "back"), *more]
        kill_at_random(words, rng, said_done, 0.3)
        for seed in range(3):
            with Image.open(many / "back" / f"{seed}.png") as image:
                assert np.asarray(image).shape == (150, 200, 3)


def test_training(tmp_path):
    """The last checkpoint can be read and gone on from, however often a run is killed while it writes one."""
    for seed in range(4):
        (tmp_path / "in").mkdir(exist_ok=True)
        smooth_picture(140, 140, seed).save(tmp_path / "in" / f"{seed}.png")
    run, rng, steps = tmp_path / "run", random.Random(2), 0
    words = [SMALL, f"data.root={tmp_path}/in", f"dir={run}", f"data.cache={tmp_path}/cache", "data.holdout=4"]
    words += ["sampling.patch=64", "sampling.batch=1", "steps=1000000", "checkpoint_minutes=1e-6"]

    def wrote(process):
        return (run / "last.ckpt").exists() and (run / "last.ckpt").stat().st_mtime > begin

    for _ in range(KILLS):
        begin = time.time()
        kill_at_random([sys.executable, "-m", "nlaic.cli.train", *words], rng, wrote, 0.5)
        checkpoint = torch.load(run / "last.ckpt", weights_only=False)
        assert checkpoint["nlaic"]["steps"] > steps
        steps = checkpoint["nlaic"]["steps"]


def test_evaluation(many):
    """Killed anywhere, its files are whole, and the same command does the rest."""
    out, rng = many / "report", random.Random(3)
    words = [sys.executable, "-m", "nlaic.cli.evaluate", f"data.root={many}/in", f"out={out}", "codecs=[jpeg,webp]"]
    words += ["metrics=[psnr]", "rates=[1.0]", "viewer.pictures=1", "jobs=0", "force=true"]
    for number in range(KILLS):
        settings = [10 + number, 40 + number, 80 + number]  # points that are not there yet
        more = [f"+settings.{codec}={settings}".replace(" ", "") for codec in ("jpeg", "webp")]
        begin = time.time()

        def writes(process, begin=begin):
            return any(path.stat().st_mtime > begin for path in out.rglob("*.json"))

        kill_at_random([*words, *more], rng, writes, 1.5)
        for path in out.rglob("*.json"):
            json.loads(path.read_text())
        for path in out.rglob("*.svg"):
            assert path.read_text().rstrip().endswith("</svg>")
    done = subprocess.run([*words, *more], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(json.loads((out / "results.json").read_text())["points"]) == 18


def test_two_commands_write_the_same_file(many, tiny_model):
    words = [sys.executable, "-c", "from nlaic.cli.compress import main; main()", str(many / "in/0.png"), "--force"]
    words += ["-o", str(many / "a.nlaic"), "--model", str(tiny_model), "--threads", "1", "-e", "1"]
    both = [subprocess.Popen([*words, "-q", quality]) for quality in ("20", "90")]
    assert [process.wait() for process in both] == [0, 0]
    assert nlaic.info((many / "a.nlaic").read_bytes())["quality"] in (20, 90)
    nlaic.load(str(tiny_model), device="cpu").decompress((many / "a.nlaic").read_bytes())
    assert not list(many.glob(".nlaic-*"))
