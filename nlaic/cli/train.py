"""`nlaic-train`: one stage of training, configured by Hydra."""

import sys

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
        import pytorch_lightning  # noqa: F401
    except ImportError as error:
        sys.exit(f"nlaic-train: {error.name} is missing: pip install 'nlaic[train]'")

    @hydra.main(version_base="1.3", config_path=str(resource_folder("conf")), config_name="train")
    def run_config(config: object) -> None:
        from nlaic.train.run import run

        try:
            run(config)  # type: ignore[arg-type]
        except NlaicError as error:
            sys.exit(f"nlaic-train: {error}")
        except KeyboardInterrupt:
            sys.exit(130)

    run_config()


if __name__ == "__main__":
    main()
