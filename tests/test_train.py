"""Training by the command: a short run moves the loss, its export is a codec, and what cannot work is said."""

import io
import math
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from nlaic.codec import load
from nlaic.errors import NlaicError
from nlaic.train.callbacks import Divergence
from nlaic.train.run import run
from nlaic.train.stages import Sampling
from nlaic.weights import find_weights
from tests.conftest import smooth_picture
from tests.runs import SMALL, command, config, short_run


def test_a_run_learns_and_its_export_is_a_codec(folder, tmp_path, capsys):
    path = short_run(folder, tmp_path / "run", 30)
    assert "broken.jpg" in capsys.readouterr().out
    codec = load(str(path))
    picture = smooth_picture(100, 90, seed=20)
    back = codec.decompress(codec.compress(picture, 70))
    mse = np.mean((np.asarray(picture, float) - np.asarray(back, float)) ** 2)
    assert -10 * math.log10(mse / 255**2) > 24
    assert "30 steps" in codec.weights.metadata["training.rd"]


def test_pictures_of_another_folder_are_trained_on_too(folder, tmp_path):
    (tmp_path / "other").mkdir()
    smooth_picture(80, 80, 9).save(tmp_path / "other" / "a.png")
    path = short_run(folder, tmp_path / "run", 1, f"data.mix={{{tmp_path}/other: 0.5}}")
    assert "from 4 pictures" in find_weights(path).metadata["training.rd"]  # 3 of the first, one is held out


def test_compiled_networks_learn_the_same(folder, tmp_path):
    """torch.compile without a code generator: its tracing alone."""
    words = ["optimisation.warmup=1", "trainer.precision=32-true"]
    runs = [short_run(folder, tmp_path / str(kind), 2, *words, f"compile={kind}") for kind in ("null", "eager")]
    a, b = (torch.load(path.parent / "last.ckpt", weights_only=False)["state_dict"] for path in runs)
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], atol=1e-4, rtol=1e-3)


def test_a_loss_that_explodes_ends_the_run_and_leaves_the_last_sound_checkpoint(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(Divergence, "MEMORY", 8)
    words = ["optimisation.muon=10", "optimisation.adam=10", "optimisation.warmup=1000", "checkpoint_minutes=1e-9"]
    with pytest.raises(NlaicError, match="training diverged"):
        short_run(folder, tmp_path / "run", 60, *words)
    steps = torch.load(tmp_path / "run" / "last.ckpt", weights_only=False)["nlaic"]["steps"]
    assert 1 <= steps < 60 and not (tmp_path / "run" / "weights.safetensors").exists()


def test_divergence_is_a_rise_of_the_mean_or_no_number_twenty_times():
    """Against series made for it."""
    rng = np.random.default_rng(1)
    falling = np.exp(-np.linspace(0, 4, 2000)) * np.exp(rng.normal(0, 1, 2000))  # single losses vary eightfold
    sound = Divergence()
    assert not any(sound.note(float(loss)) for loss in falling) and not sound.in_doubt
    lost = Divergence()
    stops = [lost.note(1e-2 * 1.02**step) for step in range(1000)]
    assert not any(stops[:150]) and stops[350]  # log 20 / log 1.02 is 151 steps, and the memory
    missing = Divergence()
    assert [missing.note(math.nan) for _ in range(20)] == [False] * 19 + [True]
    touching = Divergence()  # a discriminator that was right for a while
    losses = [*np.geomspace(1.4, 0.003, 300), *np.full(300, 0.25)]
    assert not any(touching.note(float(loss)) for loss in losses)
    again = Divergence()
    assert not any(again.note(math.nan if step % 20 else 1.0) for step in range(200))


def test_two_processes_train_what_one_does(folder, tmp_path):
    """Lightning's DDP on two processes, the same global batch: the same weights, to tolerance."""
    words = ["steps=4", "sampling.batch=4", "data.holdout=0", "optimisation.warmup=1"]
    subprocess.run(command(folder, tmp_path / "one", *words), check=True, capture_output=True)
    two = [*words, "trainer.devices=2", "trainer.accelerator=cpu", "trainer.strategy=ddp"]
    done = subprocess.run(command(folder, tmp_path / "two", *two), check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    a, b = (torch.load(tmp_path / run / "last.ckpt", weights_only=False)["state_dict"] for run in ("one", "two"))
    assert set(a) == set(b)
    for name in a:
        torch.testing.assert_close(a[name], b[name], atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.root=/nowhere", "steps=1"], "not a folder"),
        (["data.root={empty}", "steps=1"], "no picture in"),
        (["data.root={photos}"], "how long"),
        (["data.root={photos}", "steps=1", "sampling.patch=512"], "no picture has both sides"),
        (
            ["data.root={photos}", "steps=1", "loss=mse_lpips", "loss.networks=/nowhere"],
            "alexnet_features.safetensors is missing; put it into loss.networks",
        ),
        (
            ["data.root={photos}", "steps=1", "sampling.patch=64", "start=/nowhere.ckpt"],
            "start: cannot read /nowhere.ckpt",
        ),
        (
            ["data.root={photos}", "steps=1", "sampling.patch=64", "start={damaged}"],
            "cannot read .*/damaged/last.ckpt|not a checkpoint",
        ),
        (["data.root={photos}", "steps=1", "sampling.patch=64", "start={photos}/broken.jpg"], "broken.jpg"),
        (["data.root={photos}", "minutes=abc"], "minutes must be a number above 0, but got 'abc'"),
        (["data.root={photos}", "steps=0"], "steps must be a number above 0"),
        (["data.root={photos}", "steps=1", "sampling.patch=64", "trainer.accelerator=gpu"], "trainer: "),
        (["data.root={photos}", "steps=1", "sampling.patch=64", "dir={damaged}"], "damaged or no checkpoint"),
        (["data.root={photos}", "steps=1", "data.crop=round"], "data.crop must be one of"),
        (["data.root={photos}", "steps=1", "data.mix=more"], "data.mix must be {FOLDER: WEIGHT, ...}.*'more'"),
        (["data.root={photos}", "steps=1", "+data.mix.more=much"], "data.mix must be .*'much'"),
        (
            ["data.root={photos}", "steps=1", "sampling.batch=8", "sampling.patch=64"],
            "sampling.batch is 8, but there are only 3",
        ),
        (["data.root={photos}", "steps=1", "sampling.batch=0"], "sampling.batch must be at least 1.* 0"),
        (["data.root={photos}", "steps=1", "sampling.patch=0"], "sampling.patch must be at least 1.* 0"),
        (["data.root={photos}", "steps=1", "sampling.patch=wide"], "sampling.patch must be a whole number, .*'wide'"),
        (["data.root={photos}", "steps=1", "sampling.workers=-1"], "sampling.workers must be at least 0"),
        (["data.root={photos}", "steps=1", "sampling.seed=1.5"], "sampling.seed must be a whole number, but got 1.5"),
        (["data.root={photos}", "steps=1", "threads=0"], "threads must be a whole number from 1, but got 0"),
        (["data.root={photos}", "steps=1", "data.holdout=none"], "data.holdout must be a whole number .*'none'"),
        (["data.root={photos}", "steps=1", "data.holdout=1"], "data.holdout=1 leaves none of 4 .*data.holdout=0"),
        (["data.root={photos}", "steps=1", "data.cache={photos}/0.png/x"], "data.cache: cannot make .*Not a directory"),
        (["data.root={photos}", "steps=1", "dir={photos}/0.png/x"], "dir: cannot make .*/0.png/x: Not a directory"),
        (["data.root={photos}", "steps=1", "+loss.foo=1"], "loss: unknown setting 'foo', allowed: terms, scale"),
        (["data.root={photos}", "steps=1", "logger.names=csv"], "logger.names must be a list of csv.*'csv'"),
        (["data.root={photos}", "steps=1", "sampling.patch=64", "compile=fast"], "compile must be one of"),
        (["data.root={photos}", "steps=1", "sampling.patch=64", "logger.names=[paper]"], "logger.names"),
        (["data.root={photos}", "steps=1", "+model.settings.colour=3"], "colour"),
        (["data.root={photos}", "steps=1", "+optimisation.speed=3"], "speed"),
        (["data.root={photos}", "steps=1", "optimisation.kind=Muon"], "optimisation.kind must be one of muon, adam"),
        (["data.root={photos}", "steps=1", "optimisation.muon=fast"], "optimisation.muon must be a number.*'fast'"),
        (["data.root={photos}", "steps=1", "optimisation.adam=-1"], "optimisation.adam must be at least 0.*-1"),
        (["data.root={photos}", "steps=1", "optimisation.hold=2"], "optimisation.hold must be 0..1, but got 2"),
        (["data.root={photos}", "steps=1", "optimisation.beta1=1"], "optimisation.beta1 must be below 1"),
        (
            ["data.root={photos}", "steps=1", "sampling.patch=64", "trainer.precision=16-mixed"],
            "trainer.precision must be one of auto",
        ),
        (["data.root={photos}", "steps=1", "optimisation.epoch=0"], "optimisation.epoch must be at least 1"),
        (["data.root={photos}", "steps=1", "loss.scale=abc"], "loss.scale must be a number, but got 'abc'"),
        (["data.root={photos}", "steps=1", "loss.terms.mse=abc"], "loss.terms must be {NAME: a number, ...} or null"),
        (["data.root={photos}", "steps=1", "data.flip=abc"], "data.flip must be true or false, but got 'abc'"),
        (["data.root={photos}", "steps=1", "+stage.settings.foo=1"], "stage.settings: stage rd has none"),
        (["data.root={photos}", "steps=1", "sampling.patch=64", "model.settings.luma=abc"], "model.settings.luma must"),
        *(
            (["data.root={photos}", "steps=1", f"model.settings.{setting}"], f"model.settings.{message}")
            for setting, message in (
                ("luma=300", "luma must be 84..256, but got 300"),
                ("luma=83", "luma must be 84..256, but got 83"),
                ("context=0", "context must be at least 1, but got 0"),
                ("fine=0", "fine must be at least 1, but got 0"),
                ("analysis=[[64,2],[0,2]]", "analysis: at least 1 channel and 0 blocks, but got"),
                ("synthesis=[[64,-1],[160,2]]", "synthesis: at least 1 channel and 0 blocks, but got"),
            )
        ),
        (["data.root={photos}", "steps=1", "model.settings.anchors=0"], "model.settings.anchors must be at least 1"),
        (["data.root={photos}", "steps=1", "model.settings.lambda_min=0"], "0 < lambda_min <= lambda_max, but got 0"),
        (["data.root={photos}", "steps=1", "+foo=1"], "the configuration: unknown setting 'foo'"),
        (["data.root={photos}", "steps=1", "+data.patch=64"], "data: unknown setting 'patch', allowed: align, cache"),
        (["data.root={photos}", "steps=1", "+model.anchors=3"], "model: unknown setting 'anchors', allowed: name, set"),
        (["data.root={photos}", "steps=1", "+stage.effort=3"], "stage rd: unknown setting 'effort', allowed: name"),
        (["data.root={photos}", "steps=1", "loss.window=16"], "loss.window must be at least 32 or null, but got 16"),
        (["data.root={photos}", "steps=1", "loss.terms.mse=0"], "loss.terms: every weight is 0 in {'mse': 0}"),
        (["data.root={photos}", "steps=1", "+loss.terms.sharp=1"], "loss.terms: 'sharp' is none of mse, mae"),
        (["data.root={photos}", "steps=1", "trainer.precision=bf16-true"], "trainer.precision must .* got bf16-true"),
        (["data.root={photos}", "steps=1", "sampling.patch=64", "+trainer.gradient_clip_val=1"], "trainer: .*clip"),
        (
            ["data.root={photos}", "steps=1", "stage=adversarial", "start=light"],
            "without effect: loss=hific, or loss=mse",
        ),
        (
            ["data.root={photos}", "steps=1", "stage=decoder", "start=light", "effort=12"],
            "stage.effort must be a whole",
        ),
        (["data.root={photos}", "steps=1", "stage=restore"], "filter must be one of mvgl-a"),
        (
            ["data.root={photos}", "steps=1", "stage=jpeg"],
            "stage jpeg trains model=jpeg or jpeg_paper, but got 'light'",
        ),
        (
            ["data.root={photos}", "steps=1", "stage=boundary", "start=light", "stage.settings.kind=ligth"],
            "stage.settings.kind must be one of light, paper, but got 'ligth'",
        ),
        (
            ["data.root={photos}", "steps=1", "stage=discriminator", "start=light", "stage.settings.strides=2"],
            "stage.settings.strides must be",
        ),
    ],
)
def test_what_cannot_work_is_one_clear_error(folder, tmp_path, overrides, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "last.ckpt").write_bytes(b"PK not a checkpoint")
    places = {"empty": tmp_path / "empty", "photos": folder, "damaged": tmp_path / "damaged"}
    with pytest.raises(NlaicError, match=message):
        run(
            config(
                SMALL,
                "sampling.batch=1",
                f"dir={tmp_path}/run",
                *(o.format(**places) if "{" in o else o for o in overrides),
            )
        )


def test_a_missing_logger_is_said_before_the_work(folder, tmp_path, monkeypatch):
    def missing(**_):
        raise ModuleNotFoundError("Requirement 'wandb' not met")

    monkeypatch.setattr("nlaic.train.run.WandbLogger", missing)
    with pytest.raises(NlaicError, match=r"logger.names: wandb is missing: pip install wandb"):
        run(config(f"data.root={folder}", "steps=1", f"dir={tmp_path}/run", "logger=wandb"))
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_one_line(tmp_path):
    full = "def run(config): raise OSError(28, 'No space left on device', 'run/last.ckpt')"
    code = f"import nlaic.train.run as r\n{full}\nr.run = run\nfrom nlaic.cli.train import main\nmain()"
    command = [sys.executable, "-c", code, "data.root=photos", "steps=1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "nlaic-train: run/last.ckpt: No space left on device\n")


def test_the_command_prints_one_line_for_an_error(tmp_path):
    command = [sys.executable, "-m", "nlaic.cli.train", f"data.root={tmp_path}/none", "steps=1", f"dir={tmp_path}/run"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("nlaic-train: data:")
    assert "Traceback" not in done.stderr


def test_a_folder_may_have_a_number_for_a_name(tmp_path):
    words = ["data.root=none", "steps=1", "dir=2026", "out=1", "start=light"]
    done = subprocess.run(
        [sys.executable, "-m", "nlaic.cli.train", *words], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.stderr == "nlaic-train: data: none is not a folder\n"
    assert (tmp_path / "2026").is_dir()


def test_a_report_is_of_real_files(folder, tmp_path, capsys):
    short_run(folder, tmp_path / "run", 3, "report_minutes=1e-4", "checkpoint_minutes=60")
    lines = [line for line in capsys.readouterr().out.splitlines() if "patches/s" in line]
    assert lines and "PSNR" in lines[0] and "bpp" in lines[0]
    points = [word for word in lines[-1].split() if "~" in word]
    assert len(points) == 6
    for point in points:
        estimate, _, rest = point.partition("~")
        bpp, psnr = map(float, rest.split(":"))
        assert float(estimate) == pytest.approx(bpp, rel=0.03, abs=0.1) and 10 < psnr < 60
    grids = sorted((tmp_path / "run" / "grids").glob("*.png"))
    assert Image.open(grids[0]).size == (3 * 256, 256)


def test_the_bar_shows_what_is_watched(folder, tmp_path):
    from rich.console import Console

    from nlaic.train.callbacks import Progress

    console = Console(file=(out := io.StringIO()), force_terminal=True, width=160)
    bar = Progress(console)
    bar.EVERY = 0.0
    trainer = SimpleNamespace(is_global_zero=True, callback_metrics={"loss": 1.5, "mse": 0.001, "bpp": 0.25})
    module = SimpleNamespace(steps=0, progress=0.0, sampling=Sampling())
    bar.on_train_start(trainer, module)
    module.steps, module.progress = 5, 0.5
    bar.on_train_batch_end(trainer, module)
    bar.bar.refresh()
    bar.on_train_end(trainer, module)
    assert "PSNR 30.00" in out.getvalue() and "50%" in out.getvalue() and "patches/s" in out.getvalue()
