"""Distill large perceptual networks into a small one with the same layer names.

The small network (the student) learns to tell, from its own maps at `relu3_1` say, what the large
one (the teacher) has at `relu3_1`: a 1x1 convolution and a ReLU of the student's map, the readout,
is compared with the teacher's map. Several teachers may each teach some of the layers. At the end
(`finish`) the student's network keeps the readouts of the layers that its row of the table names,
for the channels that say most: Gram matrices of what is told tell styles apart as the teacher's do.
Elsewhere the readouts' magnitudes are folded into the student's channels (`balance`), so that a
channel weighs in a Gram matrix what it weighed in telling the teacher's map.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxstyle import features
from jaxstyle.statistics import gram
from jaxstyle.training import counterexamples
from jaxstyle.training.state import TrainState
from jaxstyle.types import Array, InputError, Params, unknown_choice

# Shares of the images that are perturbed in each way, and how far.
_MIXED, _NOISY, _RECOLORED = 0.15, 0.15, 0.15
_MOST_NOISE, _CONTRAST, _SHIFT = 0.15, (0.3, 1.5), 0.25


class Teacher(NamedTuple):
    """A network and the layers it teaches.

    Attributes:
      params: its parameters.
      network: its row of the table.
      layers: names of relu layers, which student and teacher share.
    """

    params: Params
    network: features.Network
    layers: tuple[str, ...]


def targets(teachers: Sequence[Teacher], image: Array) -> dict[str, Array]:
    """Return what the student is to tell: the teachers' maps.

    All networks pad by reflection here: what a teacher sees of zeros beyond the border is not worth
    learning.

    Args:
      teachers: whose layers are disjoint.
      image: `[b, h, w, 3]`, sRGB in [0, 1].

    Returns:
      `{layer: [b, h', w', c]}`.

    Raises:
      InputError: a layer is taught twice, or a teacher does not have it.
    """
    taught = [layer for teacher in teachers for layer in teacher.layers]
    twice = sorted({layer for layer in taught if taught.count(layer) > 1})
    if twice:
        raise InputError(f"{twice[0]} is taught twice; name each layer once, at one teacher.")
    maps: dict[str, Array] = {}
    for teacher in teachers:
        maps |= features.features(
            teacher.params, image, teacher.layers, network=teacher.network, padding="reflect"
        )
    return maps


def perturb(key: Array, image: Array) -> Array:
    """Leave the manifold of photographs, where an image under optimization spends its time.

    Of the images, 15% are mixed with their neighbor in the batch, 15% get Gaussian noise, 15%
    another contrast and tint; the rest stay.

    Args:
      key: PRNG key.
      image: `[b, h, w, 3]`, sRGB in [0, 1].

    Returns:
      `[b, h, w, 3]`, sRGB in [0, 1].

    Example:
      >>> perturb(jax.random.key(0), jnp.full((2, 4, 4, 3), 0.5)).shape
      (2, 4, 4, 3)
    """
    kind, amount, tint, noise = jax.random.split(key, 4)
    each = (image.shape[0], 1, 1, 1)
    u, t = jax.random.uniform(kind, each), jax.random.uniform(amount, each)
    mixed = t * image + (1 - t) * jnp.roll(image, 1, axis=0)
    noisy = image + _MOST_NOISE * t * jax.random.normal(noise, image.shape)
    low, high = _CONTRAST
    shift = jax.random.uniform(tint, (image.shape[0], 1, 1, 3), minval=-_SHIFT, maxval=_SHIFT)
    recolored = (image - 0.5) * (low + (high - low) * t) + 0.5 + shift
    edges = (_MIXED, _MIXED + _NOISY, _MIXED + _NOISY + _RECOLORED)
    choices = [u < edge for edge in edges]
    return jnp.clip(jnp.select(choices, [mixed, noisy, recolored], image), 0.0, 1.0)


def initialize(
    key: Array, student: features.Network, channels: Mapping[str, int]
) -> dict[str, Params]:
    """Draw a student and its readouts.

    Args:
      key: PRNG key.
      student: the small network's row of the table.
      channels: of the teacher's map, by layer.

    Returns:
      `{'student': ..., 'readout': {layer: {'kernel': [c_student, c_teacher], 'bias': ...}}}`.

    Raises:
      InputError: a layer that is not one of the student's relu layers.
    """
    shared = tuple(name for name in student.layers if name.startswith("relu"))
    for layer in channels:
        if layer not in shared:
            raise unknown_choice(f"relu layer of {student.name}", layer, shared)
    student_key, *keys = jax.random.split(key, 1 + len(channels))
    params = features.initialize(student_key, dataclasses.replace(student, readouts=()))
    readout = {}
    for k, (layer, width) in zip(keys, sorted(channels.items()), strict=True):
        own = params[layer.replace("relu", "conv")]["bias"].shape[0]
        kernel = jax.random.normal(k, (own, width)) * (2.0 / own) ** 0.5
        readout[layer] = {"kernel": kernel, "bias": jnp.zeros(width)}
    return {"student": params, "readout": readout}


def errors(
    params: Mapping[str, Params],
    image: Array,
    wanted: Mapping[str, Array],
    student: features.Network,
) -> dict[str, Array]:
    """Return how far the student is from telling each layer.

    Args:
      params: as `initialize` returns them.
      image: `[b, h, w, 3]`, sRGB in [0, 1].
      wanted: from `targets`.
      student: the small network's row of the table.

    Returns:
      `{layer: [b], 'gram/' + layer: [b]}`: mean squared error of the map relative to the mean
      square of the teacher's (over the batch), and the same of its Gram matrix; 0 for a perfect
      student and 1 for one that says nothing.
    """
    maps = features.features(params["student"], image, tuple(wanted), network=student)
    result = {}
    for layer, target in wanted.items():
        told = _tell(maps[layer], params["readout"][layer])
        target = target / jnp.sqrt(jnp.mean(target**2))
        result[layer] = jnp.mean((told - target) ** 2, axis=(-3, -2, -1))
        style = gram(target)
        difference = jnp.sum((gram(told) - style) ** 2, axis=(-2, -1))
        result[f"gram/{layer}"] = difference / jnp.mean(jnp.sum(style**2, axis=(-2, -1)))
    return result


def terms(layers: Sequence[str]) -> tuple[str, ...]:
    """Return the names that `errors` gives for some layers."""
    return tuple(name for layer in layers for name in (layer, f"gram/{layer}"))


def make_step(
    teachers: Sequence[Teacher],
    student: features.Network,
    optimizer: optax.GradientTransformation,
    seed: int,
    *,
    gram_weight: float = 1.0,
) -> Callable[..., TrainState]:
    """Return the pure step `step(state, batch, teacher_params)`.

    Where the state's `extra` holds a pool of `n` counterexamples (`{'pool': ...}`, see
    `counterexamples.start`), the student learns on all but the last `n` photographs of the batch
    and on `n` counterexamples; those photographs begin new ones.

    Args:
      teachers: their networks and layers; the parameters are given to the step.
      student: the small network's row of the table.
      optimizer: of the run.
      seed: of the perturbations, which depend on it and the step alone.
      gram_weight: of the Gram matrices' errors beside the maps' own.

    Returns:
      A function `(TrainState, uint8 [b, h, w, 3], sequence of Params) -> TrainState`.
    """
    layers = tuple(layer for teacher in teachers for layer in teacher.layers)
    style = tuple(layer for layer in layers if layer.endswith("_1"))

    def step(state: TrainState, batch: Array, params: Sequence[Params]) -> TrainState:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        photos, extra = batch.astype(jnp.float32) / 255, state.extra
        image = perturb(key, photos)
        if "pool" in extra:
            own = balance(state.params, student)
            pool, fooling = counterexamples.visit(
                extra["pool"], state.step, photos, own, student, style
            )
            extra = {"pool": pool}
            image = jnp.concatenate([image[: -len(fooling)], fooling])
        wanted = targets(
            [t._replace(params=p) for t, p in zip(teachers, params, strict=True)], image
        )

        def loss(params: Mapping[str, Params]) -> tuple[Array, dict[str, Array]]:
            found = errors(params, image, wanted, student)
            means = {name: jnp.mean(value) for name, value in found.items()}
            weights = {name: gram_weight if name.startswith("gram/") else 1.0 for name in means}
            total = sum((weights[name] * means[name] for name in means), jnp.zeros(()))
            return total, {"loss": total, **means}

        gradient, report = jax.grad(loss, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        return TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            extra=extra,
            opt_state=opt_state,
            metrics={name: state.metrics[name] + report[name] for name in state.metrics},
        )

    return step


def balance(params: Mapping[str, Params], student: features.Network) -> dict[str, dict[str, Array]]:
    """Return the student alone, each channel scaled by the size of its readout weights.

    A ReLU network's output does not change when a channel is scaled up in one layer and down in the
    next, but Gram matrices do. With this scale a channel's share in them is its share in the
    teacher's map.

    Args:
      params: as trained.
      student: the small network's row of the table.

    Returns:
      `{'conv1_1': {'kernel': ..., 'bias': ...}, ...}`; layers that no teacher taught keep a scale
      of 1.
    """
    result, before = {}, jnp.ones(3)
    for name, scale in _scales(params, student).items():
        kernel, bias = params["student"][name]["kernel"], params["student"][name]["bias"]
        result[name] = {
            "kernel": kernel / before[None, None, :, None] * scale[None, None, None, :],
            "bias": bias * scale,
        }
        before = scale
    return result


def finish(
    params: Mapping[str, Params], student: features.Network, image: Array
) -> dict[str, dict[str, Array]]:
    """Return the parameters of the student's network, its readouts among them.

    Args:
      params: as trained.
      student: the small network's row of the table; its `readouts` say which are kept, and how
        many channels of each: those with the largest mean square on `image`.
      image: `[b, h, w, 3]`, sRGB in [0, 1].

    Returns:
      `{'conv1_1': {'kernel': ..., 'bias': ...}, ..., 'relu2_1': ...}`; a layer that no teacher
      taught has no readout.
    """
    result, scales = balance(params, student), _scales(params, student)
    kept = {layer: n for layer, n in student.readouts if layer in params["readout"]}
    maps = features.features(params["student"], image, tuple(kept), network=student) if kept else {}
    for layer, count in kept.items():
        readout, name = params["readout"][layer], layer.replace("relu", "conv")
        loudness = jnp.mean(_tell(maps[layer], readout) ** 2, axis=(0, 1, 2))
        chosen = jnp.sort(jnp.argsort(-loudness)[:count])
        result[layer] = {
            "kernel": (readout["kernel"][:, chosen] / scales[name][:, None])[None, None],
            "bias": readout["bias"][chosen],
        }
    return result


def _scales(params: Mapping[str, Params], student: features.Network) -> dict[str, Array]:
    """Return what `balance` multiplies each channel by."""
    result = {}
    for name in student.convolutions:
        result[name] = jnp.ones_like(params["student"][name]["bias"])
        readout = params["readout"].get(name.replace("conv", "relu"))
        if readout is not None:
            # A channel that no one listens to must not vanish: the next layer divides by its scale.
            scale = jnp.sqrt(jnp.sum(readout["kernel"] ** 2, axis=1))
            result[name] = jnp.maximum(scale, 1e-2 * jnp.max(scale))
    return result


def _tell(maps: Array, readout: Mapping[str, Array]) -> Array:
    y = jnp.einsum("...i,io->...o", maps, readout["kernel"])
    return jax.nn.relu(y + readout["bias"].reshape((1,) * (y.ndim - 1) + (-1,)))
