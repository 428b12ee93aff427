"""PSF images by filter, for rendering stars."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from niriss_eestep.errors import ReferenceDataError, reading
from niriss_eestep.psf.image import PSFImage
from niriss_eestep.reference.cache import read_once

__all__ = ["PACKAGED_PSF_IMAGES", "PSFImages", "load_psf_images", "write_psf_images"]

PACKAGED_PSF_IMAGES = Path(__file__).parent / "data" / "niriss_psf_images.asdf"


class PSFImages(Mapping[str, PSFImage]):
    """PSF images by filter; each is read when it is first asked for.

    Parameters
    ----------
    path : path
        ASDF file as `write_psf_images` makes.

    Raises
    ------
    ReferenceDataError
        Where the file is missing or holds no PSF images.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self._images: dict[str, PSFImage] = {}
        if not self.path.is_file():
            raise ReferenceDataError(f"{self.path}: no such file (PSF images)")
        with self._open() as file:
            self.filters = tuple(file["images"])
            self.meta = dict(file["meta"])

    def _open(self):
        import asdf

        with reading(self.path, "a file of PSF images"):
            file = asdf.open(self.path, lazy_load=True, memmap=False)
        if not {"images", "radius", "meta"} <= set(file.tree):
            file.close()
            raise ReferenceDataError(
                f"{self.path}: not a file of PSF images; make one with 'niriss-ee psfee build --images'"
            )
        return file

    def __getitem__(self, filter_name: str) -> PSFImage:
        if filter_name not in self.filters:
            raise KeyError(filter_name)
        if filter_name not in self._images:
            with self._open() as file:
                image = file["images"][filter_name]
                self._images[filter_name] = PSFImage(
                    light=np.array(image["light"]),
                    oversample=int(image["oversample"]),
                    radius=np.array(file["radius"]),
                    ee=np.array(image["ee"]),
                )
        return self._images[filter_name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.filters)

    def __len__(self) -> int:
        return len(self.filters)


def load_psf_images(path: str | os.PathLike[str] | None = None) -> PSFImages:
    """Open PSF images.

    Parameters
    ----------
    path : path, optional
        ASDF file as `write_psf_images` makes; the packaged one by default.

    Returns
    -------
    PSFImages
        Mapping of filter to `PSFImage`.

    Raises
    ------
    ReferenceDataError
        Where the file is missing or holds no PSF images.
    """
    return _open_images(PACKAGED_PSF_IMAGES if path is None else path)


@read_once
def _open_images(path: Path) -> PSFImages:
    return PSFImages(path)


def write_psf_images(images: Mapping[str, PSFImage], path: str | os.PathLike[str], *, meta: Mapping = ()) -> None:
    """Write PSF images as an ASDF file that `load_psf_images` reads.

    Parameters
    ----------
    images : mapping of str to PSFImage
        By filter; all with the same radii.
    path : path
        The file; an existing one is replaced.
    meta : mapping, optional
        Where they are from.
    """
    import asdf

    radius = next(iter(images.values())).radius
    tree = {
        "meta": {"reftype": "psfimages", "instrument": "NIRISS", **dict(meta)},
        "radius": radius,
        "images": {
            name: {"light": image.light, "oversample": image.oversample, "ee": image.ee}
            for name, image in images.items()
        },
    }
    asdf.AsdfFile(tree).write_to(path, all_array_compression="zlib")
