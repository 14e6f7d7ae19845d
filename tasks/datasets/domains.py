"""Clients who see by different cameras: the features shift, the labels mean the same to all.

As with photos, sketches and clip art of the same things (DomainNet, Peng et al. 2019) or digits
from five sources (Digits-5), but made of one set of images, so that the camera is all that differs.
Client i sees its images by the domain i mod n of the list of n.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nufed.conf.errors import InputError
from nufed.conf.schema import require
from nufed.tasks.datasets.dealing import dealt, require_images
from nufed.tasks.rows import Rows
from nufed.tasks.streams import Purpose, stream

Images = NDArray[np.float64]
"""[N, H, W] or [N, C, H, W], in [0, 1]."""


def read(
    source: str, num_clients: int, rows_per_client: int, domains: Sequence[str], seed: int
) -> Rows:
    """Give each client `rows_per_client` images at random, as its domain shows them.

    Parameters
    ----------
    source
        The `read` of a data set of images and classes, uint8 or reals in [0, 1]; no row of it goes
        to two clients.
    num_clients, rows_per_client
        Clients, and rows of each.
    domains
        Keys of `DOMAINS`.
    seed
        Draws the rows, and what a domain draws.

    Raises
    ------
    InputError
        If the data set has no images or too few rows, or for another argument out of its range.
    """
    valid = bool(domains) and all(name in DOMAINS for name in domains)
    require(valid, "dataset.domains", domains, f"a list of {', '.join(DOMAINS)}")
    random = stream(Purpose.DATA, seed)
    rows = dealt(source, num_clients, rows_per_client, random, "rows_per_client")
    require_images(rows, source)
    most = f"no more than clients, of which dataset.num_clients={num_clients}"
    require(len(domains) <= num_clients, "dataset.domains", domains, most)
    largest = 255 if rows.x.dtype == np.uint8 else 1
    in_range = 0 <= rows.x.min() <= rows.x.max() <= largest
    if not in_range or (largest == 1 and rows.x.dtype.kind != "f"):
        raise InputError(
            f"dataset.source={source}: its pixels are neither uint8 nor reals in [0, 1]; "
            "name another"
        )
    of = np.repeat(np.arange(num_clients) % len(domains), rows_per_client)
    x = rows.x.copy()
    for i, name in enumerate(domains):
        seen = largest * np.clip(DOMAINS[name](rows.x[of == i] / largest, random), 0, 1)
        x[of == i] = np.rint(seen) if largest == 255 else seen
    return rows._replace(x=x)


def plain(x: Images, _: np.random.Generator) -> Images:
    """Return the images as they are."""
    return x


def inverted(x: Images, _: np.random.Generator) -> Images:
    """Return the negative: 1 − x."""
    return 1 - x


def blurred(x: Images, _: np.random.Generator) -> Images:
    """Return images out of focus: a Gaussian filter, whose deviation is H / 20 pixels."""
    from scipy.ndimage import gaussian_filter

    return _float(gaussian_filter(x, _within_an_image(x, x.shape[-2] / 20, elsewhere=0)))


def noisy(x: Images, random: np.random.Generator) -> Images:
    """Return images with Gaussian noise of deviation 0.3 in each pixel."""
    return x + random.normal(0, 0.3, x.shape)


def pale(x: Images, _: np.random.Generator) -> Images:
    """Return images of little contrast: 0.3 of it, around the middle grey."""
    return 0.5 + 0.3 * (x - 0.5)


def shaded(x: Images, _: np.random.Generator) -> Images:
    """Return images lit from the left: brightness falls to a fifth at the right edge."""
    return x * np.linspace(1, 0.2, x.shape[-1])


def edges(x: Images, _: np.random.Generator) -> Images:
    """Return outlines: by how much the 3 x 3 pixels around each differ at most."""
    from scipy.ndimage import morphological_gradient

    return _float(morphological_gradient(x, size=_within_an_image(x, 3, elsewhere=1)))


def coarse(x: Images, _: np.random.Generator) -> Images:
    """Return images of a low resolution: blocks of H / 7 pixels, 2 at least, of one colour each."""
    from scipy.ndimage import uniform_filter

    side = max(x.shape[-2] // 7, 2)
    means = _float(uniform_filter(x, _within_an_image(x, side, elsewhere=1)))
    rows, columns = (
        np.minimum(np.arange(n) // side * side + side // 2, n - 1) for n in x.shape[-2:]
    )
    return means[..., rows[:, None], columns]


DOMAINS: dict[str, Callable[[Images, np.random.Generator], Images]] = {
    each.__name__: each for each in (plain, inverted, blurred, noisy, pale, shaded, edges, coarse)
}
"""Each what it is called, and what it makes of images; what leaves [0, 1] is cut off."""


def _within_an_image(x: Images, size: float, elsewhere: float) -> tuple[float, ...]:
    """Return the size of a filter along each axis, which goes over no other image nor colour."""
    return (*(elsewhere,) * (x.ndim - 2), size, size)


def _float(found: Any) -> Images:
    """Return what SciPy, which has no types, found."""
    return np.asarray(found, np.float64)
