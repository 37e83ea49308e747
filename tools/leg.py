"""Training on a machine without a network: all it needs in one file, what it learned back in parts.

    python tools/leg.py pack PACK [--megabytes 38] OVERRIDES    # here; overrides as for nlaic-train
    python tools/leg.py run PACK STATE OUT --minutes 9          # there, again and again; STATE stays from leg to leg
    python tools/leg.py join OUT RUN                            # here; nlaic-train goes on from it with dir=RUN
    python tools/leg.py rehearse FOLDER OVERRIDES               # all of it here, in two legs, and a picture coded

The other machine needs this tree, torch, pytorch-lightning, safetensors, pillow and rich. Weights and their running
mean come back in half precision, the optimisers' state in bf16; each part is no larger than `--part-megabytes`.
"""

import argparse
import io
import json
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from nlaic.errors import NlaicError  # noqa: E402

MB = 1_000_000
NOT_THERE = ("hydra", "omegaconf", "compressai", "piq", "lpips", "platformdirs")
Tree = Any  # nested dictionaries and lists of a checkpoint


def mapped(tree: Tree, change: Callable[[torch.Tensor], torch.Tensor]) -> Tree:
    """A checkpoint with every tensor changed."""
    if isinstance(tree, torch.Tensor):
        return change(tree)
    if isinstance(tree, dict):
        return {key: mapped(value, change) for key, value in tree.items()}
    return [mapped(value, change) for value in tree] if isinstance(tree, list) else tree


def halved(checkpoint: Tree) -> Tree:
    """Weights in fp16, the optimisers' state in bf16 (their squares are too small for fp16); counts stay."""

    def to(kind: torch.dtype) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda t: t.cpu().to(kind) if t.dtype == torch.float32 and t.numel() > 1 else t.cpu()

    optimisers = {"optimizer_states": mapped(checkpoint.get("optimizer_states", []), to(torch.bfloat16))}
    return mapped(checkpoint, to(torch.float16)) | optimisers


def restored(checkpoint: Tree) -> Tree:
    """`halved` undone, as far as that goes."""
    return mapped(checkpoint, lambda t: t.float() if t.dtype in (torch.float16, torch.bfloat16) else t)


def saved(checkpoint: Tree) -> bytes:
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    return buffer.getvalue()


def compose(words: Sequence[str]) -> tuple[dict[str, dict[str, Any]], str | None]:
    """The configuration of each stage by its name, and what the first one starts from."""
    import hydra
    from omegaconf import OmegaConf

    from nlaic.resources import resource_folder
    from nlaic.train.chain import compose_chain

    def plain(overrides: list[str]) -> dict[str, Any]:
        config = OmegaConf.to_container(hydra.compose("train", overrides), resolve=True, throw_on_missing=True)
        return {str(key): value for key, value in dict(config).items()}  # type: ignore[arg-type]

    with hydra.initialize_config_dir(str(resource_folder("conf")), version_base="1.3"):
        config = plain([*words, "dir=runs"])
        if config["links"]:
            return compose_chain(config, [*words, "dir=runs"], plain), config["start"]
        return {config["stage"]["name"]: config | {"dir": f"runs/{config['stage']['name']}"}}, config["start"]


def pack(target: Path, megabytes: float, words: Sequence[str]) -> None:
    """Write configuration, networks, starting weights and as many pictures as there is room for, drawn at random."""
    from safetensors.torch import save

    from nlaic.picture import INPUT_SUFFIXES
    from nlaic.train.losses import network_files, used_terms
    from nlaic.train.perceptual import find, read

    chain, start = compose(words)
    first = next(iter(chain.values()))
    files, suffix = {}, None
    for config in chain.values():
        for wanted in (file for term in used_terms(config["loss"]["terms"]) for file in network_files(term)):
            files[f"networks/{wanted.file}"] = save(read(find(wanted, config["loss"]["networks"])))
    if start:
        files["start"], suffix = _start(start)
    files["chain.json"] = json.dumps({"chain": chain, "start": suffix}).encode()
    root = Path(first["data"]["root"])
    pictures = sorted(p for p in root.rglob("*") if p.suffix.lower() in INPUT_SUFFIXES)
    random.Random(first["sampling"]["seed"]).shuffle(pictures)
    room, count = megabytes * MB - sum(map(len, files.values())), 0
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        for picture in pictures:
            room -= picture.stat().st_size + 300  # and its entry in the archive
            if room < 0:
                break
            archive.write(picture, f"pictures/{picture.relative_to(root)}")
            count += 1
    if not count:
        raise NlaicError(f"no picture of {root} fits into {megabytes} MB beside what the stages need")
    print(f"{target}: {target.stat().st_size / MB:.1f} MB, {count} of {len(pictures)} pictures, {', '.join(chain)}")


def _start(start: str) -> tuple[bytes, str]:
    """Weights as they are; of a checkpoint the running mean alone, which is what a run starts from. And the suffix."""
    from nlaic.train.setup import checkpoint_of
    from nlaic.weights import SUFFIX, find_weights

    path = checkpoint_of(start)
    if path is None:
        found = find_weights(start).path
        assert found is not None
        return found.read_bytes(), SUFFIX
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    mean = {name: tensor for name, tensor in checkpoint["state_dict"].items() if name.startswith("mean.")}
    return saved(halved({"state_dict": mean})), ".ckpt"


def run_leg(packed: Path, state: Path, out: Path, minutes: float, part_megabytes: float) -> None:
    """Train for so many minutes from where the last leg stopped, and write what there is in parts."""
    from nlaic.train.chain import run_chain
    from nlaic.train.run import run

    if not (state / "chain.json").exists():
        with zipfile.ZipFile(packed) as archive:
            archive.extractall(state)
    plan = json.loads((state / "chain.json").read_text())
    start = str((state / "start").rename(state / f"start{plan['start']}")) if (state / "start").exists() else None
    start = start or next((str(path) for path in state.glob("start.*")), None)
    for config in plan["chain"].values():
        config["dir"], config["out"] = str(state / config["dir"]), None
        config["data"] |= {"root": str(state / "pictures"), "mix": {}, "cache": str(state / "decoded")}
        config["loss"]["networks"] = str(state / "networks")

        config["leg_minutes"] = minutes

    run_chain(plan["chain"], run, start)
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("part*"):
        old.unlink()
    learned = _learned([Path(config["dir"]) for config in plan["chain"].values()])
    for number, part in enumerate(_parts(learned, int(part_megabytes * MB))):
        (out / f"part{number:03d}").write_bytes(part)


def _learned(folders: Sequence[Path]) -> bytes:
    """The newest weights, which hold what earlier stages learned, and the checkpoint of the stage after them."""
    buffer = io.BytesIO()
    over = [folder for folder in folders if (folder / "weights.safetensors").exists()]
    with zipfile.ZipFile(buffer, "w") as archive:
        if over:
            archive.write(over[-1] / "weights.safetensors", f"{over[-1].name}/weights.safetensors")
        for folder in folders[len(over) :]:
            if (folder / "last.ckpt").exists():
                checkpoint = torch.load(folder / "last.ckpt", map_location="cpu", weights_only=False)
                archive.writestr(f"{folder.name}/last.ckpt", saved(halved(checkpoint)))
    return buffer.getvalue()


def _parts(data: bytes, size: int) -> Iterator[bytes]:
    return (data[first : first + size] for first in range(0, len(data), size))


def join(parts: Path, runs: Path) -> None:
    """Put the parts together: folders that `nlaic-train` goes on from."""
    data = b"".join(path.read_bytes() for path in sorted(parts.glob("part*")))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        archive.extractall(runs)
        for name in (n for n in archive.namelist() if n.endswith(".ckpt")):
            torch.save(restored(torch.load(io.BytesIO(archive.read(name)), weights_only=False)), runs / name)
        print(f"{runs}: {', '.join(archive.namelist())}")


def rehearse(folder: Path, words: Sequence[str]) -> None:
    """Pack, train in two legs on what an offline machine has, join, and take a picture there and back."""
    folder.mkdir(parents=True, exist_ok=True)
    packed, state, out, runs = (folder / name for name in ("pack", "state", "out", "runs"))
    pack(packed, 38, words)
    chain, _ = compose(words)
    minutes = sum(config["minutes"] or 60 for config in chain.values())
    blocked = f"import sys; sys.modules.update(dict.fromkeys({NOT_THERE}))"
    for share in (0.5, 10):  # the second leg is as long as it needs
        call = ["leg.py", "run", str(packed), str(state), str(out), "--minutes", str(share * minutes)]
        code = (
            f"{blocked}; sys.argv = {call}; import runpy; runpy.run_path({str(Path(__file__))!r}, run_name='__main__')"
        )
        subprocess.run([sys.executable, "-c", code], check=True)
    join(out, runs)
    _there_and_back(runs / list(chain)[-1] / "weights.safetensors", state / "pictures", folder)


def _there_and_back(weights: Path, pictures: Path, folder: Path) -> None:
    picture = next(path for path in sorted(pictures.rglob("*")) if path.is_file())
    file, back = folder / "picture.nlaic", folder / "picture.png"
    for command, *words in (
        ["compress", str(picture), "-o", str(file), "--model", str(weights), "--force"],
        ["decompress", str(file), "-o", str(back), "--model", str(weights), "--realism", "1", "--force"],
    ):
        script = f"import sys; from nlaic.cli.{command} import main; sys.exit(main())"
        subprocess.run([sys.executable, "-c", script, *words], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("pack")
    one.add_argument("pack", type=Path)
    one.add_argument("--megabytes", type=float, default=38)
    one.add_argument("overrides", nargs="+")
    one = commands.add_parser("run")
    one.add_argument("pack", type=Path)
    one.add_argument("state", type=Path)
    one.add_argument("out", type=Path)
    one.add_argument("--minutes", type=float, required=True, help="of training in this leg")
    one.add_argument("--part-megabytes", type=float, default=16)
    one = commands.add_parser("join")
    one.add_argument("parts", type=Path)
    one.add_argument("runs", type=Path)
    one = commands.add_parser("rehearse")
    one.add_argument("folder", type=Path)
    one.add_argument("overrides", nargs="+")
    a = parser.parse_args()
    try:
        if a.command == "pack":
            pack(a.pack, a.megabytes, a.overrides)
        elif a.command == "run":
            run_leg(a.pack, a.state, a.out, a.minutes, a.part_megabytes)
        elif a.command == "join":
            join(a.parts, a.runs)
        else:
            rehearse(a.folder, a.overrides)
    except NlaicError as error:
        sys.exit(f"leg.py: {error}")


if __name__ == "__main__":
    main()
