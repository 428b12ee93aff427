"""PSF images by filter, for rendering stars."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from niriss_eestep.errors import ParameterError, ReferenceDataError, reading
from niriss_eestep.guards.asdf_file import numbers, read_asdf
from niriss_eestep.psf.image import PSFImage
from niriss_eestep.reference.cache import read_once

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
        tree = read_asdf(self.path, "file of PSF images")
        if not all(isinstance(tree.get(key), dict) for key in ("images", "meta")) or "radius" not in tree:
            raise ReferenceDataError(
                f"{self.path}: not a file of PSF images; make one with 'niriss-ee psfee build --images'"
            )
        self._tree, self.filters, self.meta = tree, tuple(tree["images"]), tree["meta"]

    def __getitem__(self, filter_name: str) -> PSFImage:
        if filter_name not in self.filters:
            raise KeyError(filter_name)
        if filter_name not in self._images:
            with reading(self.path, "a file of PSF images"):
                image = dict(self._tree["images"][filter_name])
                oversample = int(image["oversample"])
            where = f"PSF image of {filter_name}"
            light, ee, radius = numbers(self.path, where, image.get("light"), image.get("ee"), self._tree["radius"])
            if light.ndim != 2 or radius.ndim != 1 or not radius.size or ee.shape != radius.shape or oversample < 1:
                raise ReferenceDataError(f"{self.path}: {where}: its arrays do not belong together")
            try:
                light = light.astype(np.float32)  # as it is stored
                self._images[filter_name] = PSFImage(light=light, oversample=oversample, radius=radius, ee=ee)
            except ParameterError as error:
                raise ReferenceDataError(f"{self.path}: {where}: {error}") from error
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


_open_images = read_once(PSFImages)


def write_psf_images(
    images: Mapping[str, PSFImage], path: str | os.PathLike[str], *, meta: Mapping | None = None
) -> None:
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
        "meta": {"reftype": "psfimages", "instrument": "NIRISS", **(meta or {})},
        "radius": radius,
        "images": {
            name: {"light": image.light, "oversample": image.oversample, "ee": image.ee}
            for name, image in images.items()
        },
    }
    asdf.AsdfFile(tree).write_to(path, all_array_compression="zlib")
