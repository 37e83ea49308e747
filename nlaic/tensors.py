"""The tensors of a weights file, held to what `nlaic.weights` specifies before anything is made of them.

Symbols are exact, and native code that looks at no bounds stays within its tables, only if integers are of their types.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nlaic.errors import NlaicError
from nlaic.integer import INDICES, SHUFFLE
from nlaic.visibility import PYRAMID

# Type and shape of the integers and of what moves with the quality; a name is a size that is the same wherever it
# stands.
CODEC = {
    "rates.offset": ("int32", "R C"),
    "rates.z_multiplier": ("int32", "R Cz"),
    "rates.z_index": ("uint8", "R Cz"),
    "rates.log_step": ("float32", "R C"),
    "rates.log_z_step": ("float32", "R Cz"),
    "scale.0.weight": ("int8", "O0 Cz 3 3"),
    "scale.1.weight": ("int8", "O1 O0 1 1"),
    "scale.2.weight": ("int8", "O2 I2 3 3"),
    "scale.3.weight": ("int8", "C O2 1 1"),
    **{f"scale.{n}.{part}": ("int32", f"O{n}") for n in range(3) for part in ("bias", "multiplier")},
    **{f"scale.3.{part}": ("int32", "C") for part in ("bias", "multiplier")},
    **{f"tables.{kind}.frequencies": ("uint16", f"N{kind}") for kind in "yz"},
    **{f"tables.{kind}.bounds": ("int32", str(INDICES)) for kind in "yz"},
}
ENCODER = {
    "encoder.z_mean": ("float32", "R Cz"),
    "encoder.log_lambda": ("float32", "R 1"),
    "encoder.gain": ("float32", "S C"),
}
NETWORKS = ("g_a.", "h_a.", "h_s.", "context.", "g_s.", "g_s_perceptual.", "boundary.", "discriminator.", "filter.")
LOG_MAX = 80  # exp of more is no float32
NOT_FINITE = 0x7C00  # from these bits on a half, without its sign, is infinite or none


def check_codec(tensors: Mapping[str, np.ndarray], encodes: bool, path: Path | None) -> None:
    """Hold all but the networks to types, shapes and ranges; what an encoder looks at must be there if `encodes`.

    Raises:
        NlaicError: if one is missing, or not what it must be.
    """
    sizes: dict[str, int] = {}
    for name, (kind, shape) in (CODEC | ENCODER).items():
        if name in tensors:
            tensor = np.atleast_2d(tensors[name]) if name == "encoder.gain" else tensors[name]
            _check(f"weights {path}: {name}", tensor, kind, shape.split(), sizes)
        elif encodes or name in CODEC:
            raise NlaicError(f"weights {path}: {name} is missing")
    if sizes["O1"] != SHUFFLE**2 * sizes["I2"]:
        raise NlaicError(f"weights {path}: scale.1 must have {SHUFFLE**2 * sizes['I2']} outputs, but has {sizes['O1']}")
    if (number := tensors["rates.z_index"].max()) >= INDICES:
        raise NlaicError(f"weights {path}: rates.z_index must be 0..{INDICES - 1}, but is {number}")
    if sizes.get("S", 1) > PYRAMID:
        raise NlaicError(f"weights {path}: encoder.gain must have at most {PYRAMID} rows, but has {sizes['S']}")


def _check(what: str, tensor: np.ndarray, kind: str, shape: list[str], sizes: dict[str, int]) -> None:
    """Hold one to its type and shape, and floats to what can be reckoned with; learns the sizes not known before."""
    right = tensor.dtype == kind and tensor.ndim == len(shape) and tensor.size > 0
    if right:
        wanted = [int(n) if n.isdigit() else sizes.setdefault(n, m) for n, m in zip(shape, tensor.shape, strict=True)]
        right = list(tensor.shape) == wanted
    if not right:
        sides = ", ".join(str(sizes.get(n, n)) for n in shape)
        raise NlaicError(f"{what} must be {kind} [{sides}], but is {tensor.dtype} {list(tensor.shape)}")
    limit = LOG_MAX if ".log_" in what else np.finfo(np.float32).max
    if tensor.dtype.kind == "f" and not np.abs(tensor).max() <= limit:
        raise NlaicError(f"{what} must be numbers of magnitudes up to {limit:.3g}")


def check_networks(tensors: Mapping[str, np.ndarray], path: Path | None) -> None:
    """Hold the networks to half precision and finite values, and a second decoder to the shapes of the first.

    Raises:
        NlaicError: if one is not so.
    """
    for name, tensor in tensors.items():
        if not name.startswith(NETWORKS):
            continue
        if tensor.dtype != np.float16:
            raise NlaicError(f"weights {path}: {name} must be float16, but is {tensor.dtype}")
        # A third of the time that isfinite takes, of the millions that there are.
        if tensor.size and (tensor.view(np.uint16) & ~np.uint16(1 << 15)).max() >= NOT_FINITE:
            raise NlaicError(f"weights {path}: {name} holds values that are not finite")
    first, second = (
        {name.removeprefix(prefix): tensor.shape for name, tensor in tensors.items() if name.startswith(prefix)}
        for prefix in ("g_s.", "g_s_perceptual.")
    )
    if second and second != first:
        name = min(name for name in {*first, *second} if first.get(name) != second.get(name))
        raise NlaicError(f"weights {path}: g_s_perceptual.{name} must be there as g_s.{name} is, and of its shape")
