"""The command, as a user types it."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from nlaic.resources import resource_folder


def command(*arguments):
    line = [sys.executable, "-m", "nlaic.cli.evaluate", *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_one_command_makes_everything_and_report_makes_it_again(folder, tmp_path):
    out = tmp_path / "out"
    words = [f"data.root={folder}", f"out={out}", "codecs=[jpeg,webp]", "metrics=[psnr]", "jobs=0", "rates=[1.0]"]
    done = command(*words, "+settings.jpeg=[5,40,80]", "+settings.webp=[5,40,80]", "viewer.pictures=1")
    assert done.returncode == 0, done.stderr
    assert "| PSNR (dB) at bpp | 1 |" in done.stdout and str(out / "report.html") in done.stdout
    found = json.loads((out / "results.json").read_text())
    assert len(found["points"]) == 18 and found["config"]["settings"]["jpeg"] == [5, 40, 80]
    again = command(*words, "+settings.jpeg=[5,40,80]", "+settings.webp=[5,40,80]", "viewer.pictures=1")
    assert "18 of 18 files were made before" in again.stderr and "made before" not in done.stderr
    (out / "report.html").unlink()
    assert command("report", str(out)).stdout.strip() == str(out / "report.html")
    assert (out / "report.html").is_file()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["out=x"], "nlaic-evaluate: data.root=... must be given"),
        (["out=x", "data.root=nowhere"], "nowhere: no such folder"),
        (["report", "nowhere"], "nlaic-evaluate: nowhere: No such file"),
        (["out=x", "data.root=nowhere", "+foo=1"], "nlaic-evaluate: foo is none of the settings: data, out, cache,"),
        (["photos/", "out=x"], "'photos/' sets nothing: write name=value"),
    ],
)
def test_mistakes_are_one_line(words, text):
    done = command(*words)
    assert done.returncode in (1, 2) and text in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def composed(*words):
    import hydra
    from omegaconf import OmegaConf

    from nlaic.evaluate.settings import Settings

    with hydra.initialize_config_dir(str(resource_folder("conf")), version_base="1.3"):
        config = hydra.compose("evaluate", ["data.root=x", "out=y", *words])
    return Settings.of(OmegaConf.to_container(config, resolve=True, throw_on_missing=True))


@pytest.mark.parametrize("preset", sorted(path.stem for path in (resource_folder("conf") / "evaluate").glob("*.yaml")))
def test_presets_name_codecs_and_metrics_that_there_are(preset):
    from nlaic.evaluate import fid, metrics
    from nlaic.evaluate.codecs import parse

    settings, without = (composed(f"evaluate={preset}", *more) for more in ([], ["settings=null"]))
    specs = [parse(text) for text in settings.codecs]
    known = {*metrics.METRICS, *metrics.SHORT, *fid.SET_METRICS, *fid.SHORT}
    assert specs and set(settings.metrics) <= known and settings.anchor in settings.codecs
    assert set(settings.settings) <= set(settings.codecs) and without == replace(settings, settings={})
    settings.check()


def test_a_missing_extra_is_named_with_its_line():
    code = "import sys; sys.modules['matplotlib'] = None; from nlaic.cli.evaluate import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.endswith("pip install 'nlaic[eval]'\n")


def test_the_command_needs_nothing_heavy_to_start():
    code = "import sys, nlaic.cli.evaluate; print(sorted({'torch', 'hydra', 'matplotlib', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
