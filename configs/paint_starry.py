"""Paint the style picture that ships, `jaxstyle/assets/starry.jpg`: a night over a lake.

    python launch.py --config configs/paint_starry.py

About ten seconds on one CPU core; the result is `WORKDIR/starry.jpg`. The same seed and size give
the same pixels; another seed gives other strokes. The variant `smoke` paints it at stamp size.
"""

import ml_collections

from configs import common


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the recipe, or its smoke variant."""
    small = common.choose_variant(arg, ("smoke",)) == "smoke"
    config = ml_collections.ConfigDict()
    config.experiment = "paint_starry"
    config.seed = 7
    config.height, config.width = (96, 120) if small else (800, 1024)
    return common.locked(config)
