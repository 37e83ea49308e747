"""Weights of filters: files like the codec's (`nlaic.weights`), in folders `filters` beside them.

Tensors are `filter.*`, in half precision. Of the metadata, `codec` is `filter`, so that no codec is loaded from them;
`architecture` and `settings` make the network (`nlaic.classic.nets.build`); `source` is the base codec that they were
trained behind, `qualities` (JSON) the lowest and the highest of its settings. The id of a filter in `.nlaic` files is
the model id of its weights.
"""

from collections.abc import Iterator
from pathlib import Path

from nlaic.classic.base import NUMBERS
from nlaic.errors import NlaicError
from nlaic.weights import FILTER, SUFFIX, Weights, files_in, read_weights, weights_folders
from nlaic.weights import FILTERS as FOLDER


def find_filter(name: str, source: str) -> Weights:
    """The weights of a filter behind a base codec: by path, or the first `<name>-<source>-<sha8>.safetensors`.

    Args:
        name: of the filter, such as `restore-light`, or the path of a file.
        source: of the base codec, such as `jpeg`.

    Raises:
        NlaicError: if there are none; it lists what there is for this codec.
    """
    path = Path(name)
    if path.suffix == SUFFIX or path.is_file():
        return read_weights(path)
    if name not in NUMBERS:
        raise NlaicError(f"filter must be one of {', '.join(NUMBERS)}, or a {SUFFIX} file, but got {name!r}")
    for candidate in _candidates():
        if candidate.stem.rpartition("-")[0] == f"{name}-{source}":
            return read_weights(candidate)
    others = filters_for(source)
    there = f"there are {', '.join(others)}" if others else "there is no filter behind it"
    raise NlaicError(f"no weights of filter {name} for {source}: {there}")


def filters_for(source: str) -> list[str]:
    """Names of the filters that have weights for a base codec."""
    stems = {candidate.stem.rpartition("-")[0] for candidate in _candidates()}
    return [name for name in NUMBERS if f"{name}-{source}" in stems]


def find_filter_by_id(model_id: bytes) -> Weights:
    """The weights that a file names, among those that can be read.

    Raises:
        NlaicError: if they are not there.
    """
    unread = ""
    for candidate in _candidates():
        try:
            weights = read_weights(candidate)
        except NlaicError as error:
            unread += f"; {error}"
            continue
        if weights.model_id == model_id:
            return weights
    where = f"no filter with id {model_id.hex()} in {_places()}"
    raise NlaicError(f"{where}; --no-filter shows the picture without it{unread}")


def check_filter(weights: Weights) -> None:
    """Refuse weights of a codec."""
    if weights.codec != FILTER:
        raise NlaicError(
            f"weights {weights.path}: those of a codec ({weights.architecture}), not of a filter like restore-light"
        )


def _candidates() -> Iterator[Path]:
    for place in weights_folders():
        yield from files_in(place / FOLDER, SUFFIX)


def _places() -> str:
    return ", ".join(str(place / FOLDER) for place in weights_folders())
