"""Compare the solvers with PyTorch's, on the same objective and at the same number of evaluations.

    python benchmarks/convergence.py --weights vgg19.npz --paintings DIR

Five pairs of pictures; relative Gram distances of relu1_1, relu2_1 and relu3_1 (weight 3, 1 a
layer) and relu3_3's content (0.1), from the photograph, without clipping. L-BFGS evaluates once a
step on both sides (learning rate 1, PyTorch's default 100 pairs here and there). Prints the loss
after every quarter of the evaluations, and the ratio of the last. Goals: L-BFGS at most 1.05 of
`torch.optim.LBFGS`, Adam at most 1.02 of `torch.optim.Adam`.
"""

import argparse
import functools

from jaxstyle import runtime

runtime.setup()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch_models  # noqa: E402

from jaxstyle import losses, optimize  # noqa: E402
from jaxstyle.data import open_photos  # noqa: E402
from jaxstyle.io import images  # noqa: E402
from jaxstyle.methods import per_image  # noqa: E402
from jaxstyle.weights import load_weights  # noqa: E402

STYLE, CONTENT = ("relu1_1", "relu2_1", "relu3_1"), ("relu3_3",)
WEIGHTS = {"content/relu3_3": 0.1, **{f"style/{layer}": 1.0 for layer in STYLE}}
SETTINGS = {"adam": 0.02, "lbfgs": 1.0}  # learning rates


def main() -> None:
    """Print the losses of every pair and solver."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--photos", default="", help="a folder; default: scikit-image's")
    parser.add_argument("--paintings", required=True, help="folder of paintings")
    parser.add_argument("--weights", default="", help="VGG-19 file; default: the published one")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--size", type=int, default=128, help="square pictures, pixels")
    parser.add_argument("--evaluations", type=int, default=200)
    args = parser.parse_args()
    loaded = load_weights("vgg19", args.weights)
    photos, paintings = (_pictures(f, args) for f in (args.photos, args.paintings))
    ratios: dict[str, list[float]] = {name: [] for name in SETTINGS}
    marks = [args.evaluations * k // 4 - 1 for k in (1, 2, 3, 4)]
    for photo, painting in zip(photos, paintings, strict=True):
        for name, rate in SETTINGS.items():
            ours = _jaxstyle(loaded, photo, painting, name, rate, args.evaluations)
            theirs = _torch(loaded, photo, painting, name, rate, args.evaluations)
            ratios[name].append(ours[-1] / theirs[-1])
            for who, curve in (("jaxstyle", ours), ("torch", theirs)):
                said = "  ".join(f"{curve[k]:.5f}" for k in marks)
                print(f"{name:<6} {who:<9} {curve[0]:.4f}  {said}", flush=True)
    for name, found in ratios.items():
        each = ", ".join(f"{ratio:.3f}" for ratio in found)
        print(f"{name}: last loss over PyTorch's {each}; geometric mean "
              f"{np.exp(np.mean(np.log(found))):.3f}")  # fmt: skip


def _pictures(folder: str, args: argparse.Namespace) -> list[np.ndarray]:
    source = open_photos(folder)
    squares = []
    for index in range(args.pairs):
        pixels = np.float32(source[index * len(source) // args.pairs]) / 255
        pixels = images.resize_shorter(pixels, args.size)
        top, left = ((n - args.size) // 2 for n in pixels.shape[:2])
        squares.append(pixels[top : top + args.size, left : left + args.size])
    return squares


@functools.cache
def _program(network, name: str, rate: float, steps: int):
    objective = losses.combine(losses.content(CONTENT), losses.style(STYLE))
    problem = per_image.Problem(objective, network)
    solver = optimize.solver(name, learning_rate=rate, memory=100, parameters="pixels")

    @jax.jit
    def run(params, photo, painting):
        targets = per_image.prepare(problem, params, {"content": photo, "style": painting})
        context = per_image.Context(params, targets, WEIGHTS)
        loss = functools.partial(per_image.loss, problem=problem)
        begun = optimize.start(photo, solver)
        return optimize.advance(begun, context, loss=loss, solver=solver, steps=steps)[1]

    return run


def _jaxstyle(loaded, photo, painting, name: str, rate: float, steps: int) -> np.ndarray:
    run = _program(loaded.network, name, rate, steps)
    return np.asarray(run(loaded.params, jnp.asarray(photo), jnp.asarray(painting)))


def _torch(loaded, photo, painting, name: str, rate: float, steps: int) -> np.ndarray:
    params = jax.tree.map(np.asarray, loaded.params)
    perception = torch_models.Perception(params, loaded.network, (*STYLE, *CONTENT))
    image, style = (
        torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].contiguous()
        for pixels in (photo, painting)
    )
    with torch.no_grad():
        wanted = perception(image)["relu3_3"]
        maps = perception(style)
        targets = {layer: torch_models.statistics(maps[layer], False)[0] for layer in STYLE}
    image.requires_grad_(True)
    curve: list[float] = []

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        seen = perception(image)
        total = 0.1 * torch_models.relative(seen["relu3_3"], wanted)
        for layer, target in targets.items():
            gram = torch_models.statistics(seen[layer], False)[0]
            total = total + torch_models.relative(gram, target)
        total.sum().backward()
        image.grad = image.grad.contiguous()  # LBFGS flattens it
        curve.append(float(total.detach()))
        return total.sum()

    if name == "adam":
        optimizer = torch.optim.Adam([image], lr=rate)
        while len(curve) < steps:
            optimizer.step(closure)
    else:
        optimizer = torch.optim.LBFGS(
            [image], lr=rate, max_iter=steps, max_eval=steps, tolerance_grad=0, tolerance_change=0
        )
        while len(curve) < steps:
            optimizer.step(closure)
    return np.asarray(curve[:steps])


if __name__ == "__main__":
    main()
