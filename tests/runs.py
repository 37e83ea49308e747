"""Short runs of training, by function and by command."""

import sys

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from nlaic.resources import resource_folder
from nlaic.train.run import run

SMALL = "model.settings={analysis:[[8,1],[16,1]],synthesis:[[8,1],[16,1]],context:8}"


def config(*overrides):
    with initialize_config_dir(str(resource_folder("conf")), version_base="1.3"):
        return OmegaConf.to_container(compose("train", list(overrides)), resolve=True)


def short_run(folder, out, steps, *more):
    common = [SMALL, f"data.root={folder}", "data.holdout=4", f"dir={out}", "sampling.batch=2", "sampling.patch=64"]
    return run(config(*common, f"steps={steps}", "trainer.precision=32-true", "optimisation.warmup=2", *more))


def command(folder, out, *more):
    words = [SMALL, f"data.root={folder}", f"dir={out}", "data.holdout=4", "sampling.patch=64", "optimisation.hold=1"]
    return [sys.executable, "-m", "nlaic.cli.train", *words, "trainer.precision=32-true", *more]
