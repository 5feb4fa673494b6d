"""The models that ship with jaxstyle, but for `starry`, which `configs/starry_fast.py` trains.

    python launch.py --config configs/shipped_models.py:starry-night --config.data.photos=DIR

As `configs/starry_fast.py` in its default form, with VGG-19 itself as the loss network and
photographs of your own; about 0.5 s a step on two CPU cores, where it takes a quarter of an hour. A small
network can stand in for the deep layers, which cost the most and say the least about strokes:

    --config.features.deep.weights=FILE --config.features.deep.layers="('relu4_1', 'relu5_1')"

Variants (`configs/shipped_models.py:NAME`) are paintings in the public domain, fetched by name from
Wikimedia Commons; `--config.style.image=FILE` takes a copy of your own:

* `starry-night`: Vincent van Gogh, The Starry Night, 1889; also without a variant.
* `great-wave`: Katsushika Hokusai, The Great Wave off Kanagawa, about 1831.
* `scream`: Edvard Munch, The Scream, 1893.
* `smoke`: a few steps of a tiny network on our own painting, seconds; the picture is meaningless.

Expect the painting's palette and strokes on the photograph's outlines. Johnson, Alahi, Fei-Fei,
Perceptual Losses for Real-Time Style Transfer and Super-Resolution, 2016, arXiv:1603.08155.
"""

import ml_collections

from configs import common, starry_fast

PAINTINGS = ("starry-night", "great-wave", "scream")


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the recipe for one painting."""
    variant = common.choose_variant(arg, ("smoke", *PAINTINGS))
    if variant == "smoke":
        return starry_fast.get_config("smoke")
    config = starry_fast.get_config()
    config.style.image = variant or PAINTINGS[0]
    config.features.name = "vgg19"
    config.steps = 1600
    return common.locked(config)
