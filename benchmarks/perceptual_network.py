"""Judge a perceptual network by the pictures that optimization makes with it.

    python benchmarks/perceptual_network.py --paintings DIR --sheet sheet.png

Photographs (`--photos`) are given the style of ten paintings by optimizing their pixels (Gatys et
al. 2016: relative Gram distances of relu1_1 to relu5_1, content relu4_1, Adam from the photograph),
once with the network and once with VGG-19's own features, in as many steps. Both are then judged by
VGG-19's own relu1_1, relu2_1 and relu3_1 (style, against the painting) and relu3_3 (content,
against the photograph). Goal for the embedded network: style at least 95% below the photographs',
on the mean of the pairs.

VGG-19 may come in two files: `--judge` with its first three blocks, `--deep` with a network for
relu4_1 and relu5_1; without `--deep` the judge has all layers.
"""

import argparse
import functools
import json
import pathlib
import time
from collections.abc import Callable

from jaxstyle import runtime

runtime.setup()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

from jaxstyle import features, losses, metrics  # noqa: E402
from jaxstyle.data import open_photos  # noqa: E402
from jaxstyle.io import images  # noqa: E402
from jaxstyle.reporting.contact_sheet import contact_sheet  # noqa: E402
from jaxstyle.weights import load_weights  # noqa: E402

JUDGED = ("relu1_1", "relu2_1", "relu3_1")
JUDGED_CONTENT = "relu3_3"
STYLE = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
CONTENT = ("relu4_1",)
LEARNING_RATE = 0.02
TOGETHER = 2  # pairs in one program

Maps = Callable[[jax.Array], dict[str, jax.Array]]


def main() -> None:
    """Print the figures of both, and write the pictures."""
    args = _parse()
    judge = _maps_of(load_weights("vgg19", args.judge), (*JUDGED, JUDGED_CONTENT))
    photos = _pictures(args.photos, args.pairs, args.size)
    paintings = _pictures(args.paintings, args.pairs, args.size)
    candidate = load_weights(args.network, args.weights)
    ways: dict[str, Maps] = {candidate.network.name: _maps_of(candidate, STYLE)}
    if not args.only:
        ways["vgg19"] = _real(args)
    before = _judgement(judge, photos, paintings, photos)
    print(f"photographs: style {_row(before)}")
    columns, report = [list(photos), list(paintings)], {}
    for name, maps in ways.items():
        start = time.perf_counter()
        painted = jax.block_until_ready(_optimize(maps, photos, paintings, args))
        seconds = time.perf_counter() - start
        after = _judgement(judge, painted, paintings, photos)
        below = 1 - np.mean(after["style"]) / np.mean(before["style"])
        each = [1 - a / b for a, b in zip(after["style"], before["style"], strict=True)]
        print(
            f"{name}: style {_row(after)}, {below:.1%} below (pairs {min(each):.1%} to "
            f"{max(each):.1%}), content {np.mean(after['content']):.3f}, {seconds:.0f} s",
            flush=True,
        )
        report[name] = {
            "below": float(below),
            **{layer: float(np.mean(after[layer])) for layer in JUDGED},
            "content": float(np.mean(after["content"])),
        }
        columns.append(list(painted))
    if args.sheet:
        rows = [[np.asarray(column[i]) for column in columns] for i in range(len(photos))]
        contact_sheet([a + b for a, b in zip(rows[::2], rows[1::2], strict=False)], args.sheet)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(report, indent=2) + "\n")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--photos", default="", help="a folder; default: scikit-image's")
    parser.add_argument("--paintings", required=True, help="folder of paintings")
    parser.add_argument("--network", default="embedded", help="the network to judge")
    parser.add_argument("--weights", default="", help="its file, instead of the published one")
    parser.add_argument("--judge", default="", help="VGG-19 file; default: the published one")
    parser.add_argument("--deep", default="", help="file for relu4_1 and relu5_1 of VGG-19")
    parser.add_argument("--only", action="store_true", help="leave VGG-19's own pictures out")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--size", type=int, default=192, help="square pictures, pixels")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--content_weight", type=float, default=0.1, help="style has 5, 1 a layer")
    parser.add_argument("--sheet", default="", help="picture to write")
    parser.add_argument("--json", default="", help="file for the means")
    return parser.parse_args()


def _pictures(folder: str, count: int, size: int) -> jax.Array:
    """Return `[count, size, size, 3]`, evenly chosen from a folder and cut at the center."""
    source = open_photos(folder)
    squares = []
    for index in range(count):
        pixels = np.float32(source[index * len(source) // count]) / 255
        pixels = images.resize_shorter(pixels, size)
        top, left = ((n - size) // 2 for n in pixels.shape[:2])
        squares.append(pixels[top : top + size, left : left + size])
    return jnp.asarray(np.stack(squares))


def _maps_of(weights, layers: tuple[str, ...]) -> Maps:
    return functools.partial(
        lambda image, layers: features.features(
            weights.params, image, layers, network=weights.network
        ),
        layers=layers,
    )


def _real(args: argparse.Namespace) -> Maps:
    """VGG-19's maps, of two files where there are two."""
    whole = load_weights("vgg19", args.judge)
    if not args.deep:
        return _maps_of(whole, STYLE)
    shallow = _maps_of(whole, JUDGED)
    deep = _maps_of(load_weights("vgg19", args.deep), ("relu4_1", "relu5_1"))
    return lambda image: shallow(image) | deep(image)


def _optimize(maps: Maps, photos: jax.Array, paintings: jax.Array, args) -> jax.Array:
    content, style = losses.content(CONTENT), losses.style(STYLE, "gram")
    weights = {
        **losses.layer_weights("content", CONTENT, args.content_weight),
        **losses.layer_weights("style", STYLE, float(len(STYLE))),
    }
    optimizer = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, args.steps))

    @jax.jit
    def solve(photos: jax.Array, paintings: jax.Array) -> jax.Array:
        wanted = content.prepare({"content": maps(photos)})
        targets = style.prepare({"style": maps(paintings)})

        def loss(image: jax.Array) -> jax.Array:
            seen = maps(image)
            terms = {
                **content.evaluate(image, seen, wanted),
                **style.evaluate(image, seen, targets),
            }
            return jnp.sum(losses.weigh(terms, weights))

        def step(carry, _):
            image, state = carry
            updates, state = optimizer.update(jax.grad(loss)(image), state)
            return (jnp.clip(optax.apply_updates(image, updates), 0.0, 1.0), state), None

        return jax.lax.scan(step, (photos, optimizer.init(photos)), None, args.steps)[0][0]

    parts = range(0, len(photos), TOGETHER)
    done = [solve(photos[i : i + TOGETHER], paintings[i : i + TOGETHER]) for i in parts]
    return jnp.concatenate(done)


def _judgement(judge: Maps, painted, paintings, photos) -> dict[str, np.ndarray]:
    """Style by layer and on the mean of layers, and content: one number for each pair."""
    look = jax.jit(judge)
    found: dict[str, list[float]] = {name: [] for name in (*JUDGED, "content", "style")}
    for picture, painting, photo in zip(painted, paintings, photos, strict=True):
        maps = look(picture)
        layers = metrics.style_distance(maps, look(painting), JUDGED)
        for layer, value in layers.items():
            found[layer].append(float(value))
        found["style"].append(float(np.mean([float(value) for value in layers.values()])))
        content = metrics.content_distance(maps, look(photo), JUDGED_CONTENT)
        found["content"].append(float(content))
    return {name: np.asarray(values) for name, values in found.items()}


def _row(found: dict[str, np.ndarray]) -> str:
    return ", ".join(f"{layer} {np.mean(found[layer]):.3f}" for layer in JUDGED)


if __name__ == "__main__":
    main()
