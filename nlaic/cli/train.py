"""`nlaic-train`: one stage of training, configured by Hydra."""

import sys

from nlaic.errors import NlaicError
from nlaic.resources import resource_folder


def main() -> None:
    """Compose conf/train.yaml with the command line's overrides and run."""
    import hydra

    @hydra.main(version_base="1.3", config_path=str(resource_folder("conf")), config_name="train")
    def run_config(config: object) -> None:
        from nlaic.train.run import run

        run(config)  # type: ignore[arg-type]

    try:
        run_config()
    except NlaicError as error:
        print(f"nlaic-train: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
