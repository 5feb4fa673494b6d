"""The strokes of a painting in the colors of the photograph.

    python launch.py --config configs/preserve_color.py --config.content=photo.jpg --config.style=painting.jpg

Gatys, Bethge, Hertzmann, Shechtman, Preserving Color in Neural Artistic Style Transfer, 2016, arXiv:1606.05897. Before
anything is painted, the painting gets the photograph's colors. The same keys work in every recipe of one picture:

| `--config.color.style=` | the style gets, before |
|---|---|
| `symmetric` | the content's mean color and covariance, by the map that moves colors least |
| `pca`, `cholesky` | the same by other maps |
| `histogram` | the same by `symmetric`, then the content's histogram of red, green and blue each |
| `luminance` | shades of gray, as light as the content; only brightness is painted, over the content's colors |

| `--config.color.result=` | the result gets, after |
|---|---|
| `luminance` | the content's colors under its own brightness |
| `match`, `histogram` | the content's mean and covariance, and its histograms |

Default: `symmetric`, 512 px, 300 steps of L-BFGS with the embedded network, 78 seconds and 0.95 GB on two CPU cores.

Variants (`configs/preserve_color.py:NAME`):

* `smoke`: a tiny picture and a few steps, seconds.
* `histogram`, `pca`, `cholesky`: of the style, before.
* `luminance`: luminance-only transfer, the article's other method.
"""  # noqa: E501

import functools

import ml_collections

from configs import common


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the recipe, or one of its variants."""
    config = common.per_image()
    config.color.style = "symmetric"
    variants = {
        name: functools.partial(_recolor, name)
        for name in ("histogram", "pca", "cholesky", "luminance")
    }
    return common.variant_of(config, arg, {"smoke": common.tiny, **variants})


def _recolor(name: str, config: ml_collections.ConfigDict) -> None:
    config.color.style = name
