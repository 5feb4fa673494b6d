"""How many iterations of optimization is one pass worth? (Johnson et al. 2016, Fig. 5.)

    python benchmarks/versus_optimization.py --workdir runs/starry_fast-* --photos DIR --plot
    fig5.png

For every held-out photograph, the value of the objective the network was trained on, at its output,
is compared with the values along an optimization of the pixels from the photograph, by L-BFGS
(Gatys et al. 2016). Printed: the first iteration at which the mean over photographs falls to the
network's mean.

Differs from the paper: the objective is that of the given run, so that the comparison also holds
for recipes other than the paper's; L-BFGS searches along lines (optax.lbfgs), pixels are free to
leave [0, 1] in between.
"""

import argparse
import functools
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from jaxstyle import runtime  # noqa: E402

runtime.setup()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import matplotlib.figure  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

from experiments import train_feedforward  # noqa: E402
from jaxstyle import losses  # noqa: E402
from jaxstyle.data import open_photos  # noqa: E402
from jaxstyle.io import images, models  # noqa: E402
from jaxstyle.io.paintings import painting_file  # noqa: E402
from jaxstyle.methods import stylize  # noqa: E402
from jaxstyle.training import feedforward  # noqa: E402


def main() -> None:
    """Print the comparison and plot it."""
    args = _parse()
    folder = pathlib.Path(args.workdir)
    config = _config(folder)
    perception, network = train_feedforward.perception_of(config)
    problem, weights = train_feedforward.problem_of(config, network)
    style = images.resize_shorter(
        images.read(painting_file(config.style.image)).pixels, config.style.size
    )
    targets = feedforward.style_targets(problem, perception, jnp.asarray(style))

    @jax.jit
    def objective(image: jax.Array, photo: jax.Array) -> jax.Array:
        terms = feedforward.evaluate(problem, perception, targets, photo[None], image[None])
        return losses.weigh(terms, weights)[0]

    model, _ = models.load_model(folder / "model")
    paint, values, curves = jax.jit(stylize), [], []
    for photo in _photos(args):
        values.append(float(objective(paint(model, photo), photo)))
        curves.append(_optimize(objective, photo, args.iterations))
        print(f"photo {len(curves)}: network {values[-1]:.3f}, optimization", end=" ")
        print(", ".join(f"{k}: {curves[-1][k]:.3f}" for k in _marks(args.iterations)), flush=True)
    mean = np.mean(curves, axis=0)
    below = np.flatnonzero(mean <= np.mean(values))
    worth = f"{below[0]} iterations" if len(below) else f"more than {args.iterations} iterations"
    print(f"mean objective of the network: {np.mean(values):.4f}; worth {worth} of L-BFGS")
    if args.plot:
        _plot(args.plot, mean, float(np.mean(values)))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workdir", required=True, help="finished run of train_feedforward")
    parser.add_argument("--photos", default="", help="folder or zip; default: scikit-image's")
    parser.add_argument("--count", type=int, default=5)
    parser.add_argument("--size", type=int, default=256, help="square crops, pixels")
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--plot", default="", help="picture to write")
    return parser.parse_args()


def _config(folder: pathlib.Path):
    """Rebuild the run's config from what it recorded."""
    import ml_collections

    config = ml_collections.ConfigDict()
    for key, value in json.loads((folder / "config.json").read_text()).items():
        part = config
        *parents, name = key.split(".")
        for parent in parents:
            if parent not in part:
                part[parent] = ml_collections.ConfigDict()
            part = part[parent]
        part[name] = tuple(value) if isinstance(value, list) else value
    return config


def _photos(args: argparse.Namespace) -> list[jax.Array]:
    photos = open_photos(args.photos)
    count = min(args.count, len(photos))
    chosen = []
    for i in range(count):
        pixels = photos[i * len(photos) // count].astype(np.float32) / 255
        pixels = images.resize_shorter(pixels, args.size)
        top, left = ((n - args.size) // 2 for n in pixels.shape[:2])
        chosen.append(jnp.asarray(pixels[top : top + args.size, left : left + args.size]))
    return chosen


def _optimize(objective, photo: jax.Array, iterations: int) -> list[float]:
    """Return the objective before every iteration, and after the last."""
    optimizer, step = _solver(objective)
    image, state = photo, optimizer.init(photo)
    state = jax.tree.map(lambda a: jax.lax.convert_element_type(a, a.dtype), state)
    values = []
    for _ in range(iterations):
        image, state, value = step(image, state, photo)
        values.append(value)
    values.append(objective(image, photo))
    return [float(value) for value in values]


@functools.cache
def _solver(objective):
    optimizer = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(objective)

    @jax.jit
    def step(image, state, photo):
        value, grad = value_and_grad(image, photo, state=state)
        updates, state = optimizer.update(
            grad, state, image, value=value, grad=grad, value_fn=objective, photo=photo
        )
        return optax.apply_updates(image, updates), state, value

    return optimizer, step


def _marks(iterations: int) -> list[int]:
    return [k for k in (0, 10, 25, 50, 100, 200, 500) if k <= iterations]


def _plot(file: str, curve: np.ndarray, network: float) -> None:
    figure = matplotlib.figure.Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(curve, label="optimization, L-BFGS")
    axes.axhline(network, color="C1", label="network, one pass")
    axes.set(xlabel="iteration", ylabel="objective, mean over photographs", yscale="log")
    axes.legend()
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    main()
