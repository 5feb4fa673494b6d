"""Show why loss weights do not carry over: the size of feature maps and Gram differences.

    python benchmarks/loss_scales.py --weights vgg19=FILE --weights embedded=

For two of scikit-image's photographs, `astronaut` and `coffee` (shorter side 256 px): the mean
activation of the first, the mean squared difference of their Gram matrices (divided by the number
of positions), and that difference relative to the second one's energy, which the default objective
uses.
"""

import argparse

from jaxstyle import runtime

runtime.setup()

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from jaxstyle import features, statistics  # noqa: E402
from jaxstyle.data import open_photos  # noqa: E402
from jaxstyle.io import images  # noqa: E402
from jaxstyle.weights import load_weights  # noqa: E402

LAYERS = ("relu1_1", "relu2_1", "relu3_1")
PICTURES = ("astronaut.png", "coffee.png")


def main() -> None:
    """Print a line for each network and layer."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--weights", action="append", required=True, help="NAME=FILE; an empty file is its own"
    )
    source = open_photos()
    photos = [np.float32(source[source.names.index(name)]) / 255 for name in PICTURES]
    pair = [jnp.asarray(images.resize_shorter(photo, 256)) for photo in photos]
    for name, _, file in (text.partition("=") for text in parser.parse_args().weights):
        loaded = load_weights(name, file)
        first, second = (
            features.features(loaded.params, photo, LAYERS, network=loaded.network)
            for photo in pair
        )
        for layer in LAYERS:
            own, other = statistics.gram(first[layer]), statistics.gram(second[layer])
            apart = jnp.mean((own - other) ** 2)
            relative = apart / jnp.mean(other**2)
            print(
                f"{name} {layer}: mean activation {jnp.mean(first[layer]):.3g}, Gram difference "
                f"{apart:.2g}, relative {relative:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
