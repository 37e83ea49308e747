"""`.nlaic` for Pillow: `Image.open("a.nlaic")`, `image.save("a.nlaic", quality=40)`, once `nlaic` has been imported.

`open` reads the header; pixels are decoded, and an engine loaded for it, when they are first asked for. Arguments of
`save` are those of `nlaic.compress`; `exif`, `xmp` and `icc_profile` (bytes, or None for none)
take the place of what the picture holds. The picture is turned upright by the EXIF given, or by its own where none is
given or wanted.
"""

from io import BytesIO
from typing import IO, Any

from PIL import ExifTags, Image, ImageFile

from nlaic import exif
from nlaic.container import MAGIC
from nlaic.errors import NlaicError

FORMAT, SUFFIX, MIME = "NLAIC", ".nlaic", "image/x-nlaic"
_OPTIONS = ("quality", "bpp", "max_bytes", "effort", "model", "block", "strip", "device")
_METADATA = ("exif", "xmp", "icc_profile")


class NlaicImageFile(ImageFile.ImageFile):
    """An open file. What is wrong with it is an OSError, as Pillow's other formats have it."""

    format = FORMAT
    format_description = "nlaic, a learned image codec"
    _data = b""  # until it is decoded

    def _open(self) -> None:
        from nlaic import container, sections

        assert self.fp is not None
        data = self.fp.read()
        try:
            file = container.unpack(data, known_required=container.READABLE)
        except NlaicError as error:
            raise OSError(str(error)) from error
        self._data, self._size = data, (file.header.width, file.header.height)
        self._mode = ("L" if file.header.grey else "RGB") + ("A" if container.ALPHA in file.sections else "")
        self.info.update(sections.metadata_of(file))

    def verify(self) -> None:
        """Hold every block against its CRC-32, decoding nothing. As elsewhere in Pillow, open the file again then.

        What is decoded already is sound.
        """
        from nlaic import container

        if not self._data:
            return super().verify()
        try:
            file = container.unpack(self._data, known_required=container.READABLE)
            for number in range(file.header.blocks):
                file.block(number)
        except NlaicError as error:
            raise OSError(str(error)) from error
        return super().verify()

    def load(self) -> "Image.core.PixelAccess | None":
        """Decode, once, with the weights that the file names."""
        import nlaic

        if self._data:
            try:
                self.im = nlaic.decompress(self._data).im
            except NlaicError as error:
                raise OSError(str(error)) from error
            self._data = b""
            if self.fp and self._exclusive_fp:
                self.fp.close()
            self.fp = None
        return super().load()


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(MAGIC)


def _save(image: Image.Image, stream: IO[bytes], filename: str | bytes) -> None:
    import nlaic
    from nlaic.picture import orientation_of

    given: dict[str, Any] = image.encoderinfo
    told = {key: _bytes(key, given[key]) for key in _METADATA if key in given}
    for key, content in told.items():
        _check(key, content)
    if told:
        turn = _turn(told["exif"]) if told.get("exif") else orientation_of(image) or 1
        image = image.copy()
        image.info.update(told)
    if "exif" in told:
        tags = image.getexif()
        tags.clear()  # of what stands elsewhere, as in XMP
        tags[ExifTags.Base.Orientation] = turn
    stream.write(nlaic.compress(image, **{name: given[name] for name in _OPTIONS if name in given}))


def _check(key: str, content: bytes) -> None:
    """Refuse metadata that are not what their name says."""
    from PIL import ImageCms

    try:
        if key == "icc_profile" and content:
            ImageCms.ImageCmsProfile(BytesIO(content))
        if key == "exif" and content:
            exif.upright(content)
            _turn(content)
    except Exception as error:  # Pillow raises nearly anything on damaged EXIF
        raise NlaicError(f"{key} is damaged: {str(error) or type(error).__name__}") from error


def _turn(content: bytes) -> int:
    """The orientation that EXIF says."""
    tags = Image.Exif()
    tags.load(content)
    return tags.get(ExifTags.Base.Orientation, 1)


def _bytes(key: str, value: Any) -> bytes:
    """Metadata as `info` holds them; empty for None, which leaves them out."""
    if isinstance(value, Image.Exif):
        return value.tobytes()
    if isinstance(value, str) and key == "xmp":
        return value.encode()
    if value is not None and not isinstance(value, (bytes, bytearray)):
        raise NlaicError(f"{key} must be bytes or None, but got {type(value).__name__}")
    return bytes(value or b"")


def register() -> None:
    """Let Pillow know."""
    Image.register_open(FORMAT, NlaicImageFile, _accept)
    Image.register_save(FORMAT, _save)
    Image.register_extension(FORMAT, SUFFIX)
    Image.register_mime(FORMAT, MIME)
