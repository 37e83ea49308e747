"""`nlaic-train`: one stage of training or a chain of them, configured by Hydra."""

import sys
from pathlib import Path
from typing import Any

from nlaic.cli.command import check_settings
from nlaic.cli.progress import reason
from nlaic.errors import NlaicError
from nlaic.resources import resource_folder
from nlaic.version import __version__

PLACES = ("dir", "out", "start")  # names, of digits alone too


def main() -> None:
    """Compose conf/train.yaml with the command line's overrides and run."""
    if "--version" in sys.argv[1:]:
        print(f"nlaic-train {__version__}")
        return
    try:
        import hydra
        import hydra.core.hydra_config
        import pytorch_lightning  # noqa: F401
        from omegaconf import MissingMandatoryValue, OmegaConf
    except ImportError as error:
        sys.exit(f"nlaic-train: {error.name} is missing: pip install 'nlaic[train]'")

    check_settings("nlaic-train", sys.argv[1:])

    @hydra.main(version_base="1.3", config_path=str(resource_folder("conf")), config_name="train")
    def run_config(config: Any) -> None:
        from nlaic.train.chain import compose_chain, copy_weights, run_chain
        from nlaic.train.run import run

        def plain(config: Any) -> Any:
            values: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
            return values | {name: str(values[name]) for name in PLACES if values[name] is not None}

        try:
            if config.links:
                given = hydra.core.hydra_config.HydraConfig.get()
                whole, name = plain(config), given.job.config_name
                chain = compose_chain(whole, given.overrides.task, lambda words: plain(hydra.compose(name, words)))
                weights = run_chain(chain, run, whole["start"])
                if weights and whole["out"]:
                    copy_weights(weights, Path(whole["out"]))
            else:
                run(plain(config))
        except MissingMandatoryValue as error:
            sys.exit(f"nlaic-train: {error.full_key}=... must be given")
        except (NlaicError, OSError) as error:
            sys.exit(f"nlaic-train: {_told(error)}")
        except KeyboardInterrupt:
            sys.exit(130)

    run_config()


def _told(error: NlaicError | OSError) -> str:
    place = getattr(error, "filename", None)
    return f"{place}: {reason(error)}" if place else reason(error)


if __name__ == "__main__":
    main()
