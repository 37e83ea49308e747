"""`nlaic-train`: one stage of training or a chain of them, configured by Hydra."""

import sys
from typing import Any

from nlaic.errors import NlaicError
from nlaic.resources import resource_folder
from nlaic.version import __version__


def main() -> None:
    """Compose conf/train.yaml with the command line's overrides and run."""
    if "--version" in sys.argv[1:]:
        print(f"nlaic-train {__version__}")
        return
    try:
        import hydra
        import hydra.core.hydra_config
        import pytorch_lightning  # noqa: F401
    except ImportError as error:
        sys.exit(f"nlaic-train: {error.name} is missing: pip install 'nlaic[train]'")

    @hydra.main(version_base="1.3", config_path=str(resource_folder("conf")), config_name="train")
    def run_config(config: Any) -> None:
        from nlaic.train.chain import run_chain
        from nlaic.train.run import run

        try:
            if config.links:
                words = hydra.core.hydra_config.HydraConfig.get().overrides.task
                run_chain(config, words, lambda overrides: hydra.compose("train", overrides), run)
            else:
                run(config)
        except NlaicError as error:
            sys.exit(f"nlaic-train: {error}")
        except KeyboardInterrupt:
            sys.exit(130)

    run_config()


if __name__ == "__main__":
    main()
