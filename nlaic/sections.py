"""What a file holds beside its blocks: alpha, colour profile, EXIF and XMP (content of each: `nlaic.container`)."""

from PIL import Image

from nlaic import container, exif
from nlaic.alpha import decode_alpha, encode_alpha
from nlaic.canvas import cut
from nlaic.container import Container
from nlaic.tiles import Box

_KEYS = {"icc_profile": container.ICC, "exif": container.EXIF, "xmp": container.XMP}  # in Pillow's `info`


def sections_of(picture: Image.Image, metadata: dict[str, bytes]) -> dict[int, bytes]:
    """By tag, from what `nlaic.picture.normalized` gives."""
    sections = {_KEYS[key]: content for key, content in metadata.items()}
    if container.EXIF in sections:
        sections[container.EXIF] = sections[container.EXIF].removeprefix(exif.PREFIX)
    if "A" in picture.mode:
        sections[container.ALPHA] = encode_alpha(picture.getchannel("A"))
    return sections


def alpha_bytes(file: Container) -> int:
    """What `alpha_of` takes while it decodes: it is there as Pillow reads it and as it is handed on."""
    return 2 * file.header.width * file.header.height if container.ALPHA in file.sections else 0


def alpha_of(file: Container, box: Box) -> Image.Image | None:
    """A box of the alpha, mode L. Raises FormatError where it is damaged."""
    if container.ALPHA not in file.sections:
        return None
    return cut(decode_alpha(file.sections[container.ALPHA], file.header.width, file.header.height), box)


def metadata_of(file: Container) -> dict[str, bytes]:
    """As Pillow's `info` has it, EXIF with its prefix."""
    found = {key: file.sections[tag] for key, tag in _KEYS.items() if tag in file.sections}
    if "exif" in found:
        found["exif"] = exif.PREFIX + found["exif"]
    return found


def completed(picture: Image.Image, alpha: Image.Image | None, file: Container) -> Image.Image:
    """What was decoded, with all that the file holds beside its blocks."""
    if file.header.grey:
        picture = picture.convert("L")
    if alpha:
        picture.putalpha(alpha)
    picture.info.update(metadata_of(file))
    return picture
