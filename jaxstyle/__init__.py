"""jaxstyle: the laboratory for neural style transfer in JAX.

A loss is a function of features, a method is a function of arrays, an experiment is a function of
`(config, workdir)`, and only the last one touches the world.

The names below are imported when first used, so that `import jaxstyle` costs nothing and a front
door can prepare the process (`jaxstyle.runtime.setup`) before JAX starts.
"""

import importlib
from typing import Any

_PUBLIC = {
    "InputError": "jaxstyle.types",
    "StyleModel": "jaxstyle.methods.feedforward",
    "features": "jaxstyle.features",
    "load_model": "jaxstyle.io.models",
    "load_weights": "jaxstyle.weights",
    "losses": "jaxstyle.losses",
    "metrics": "jaxstyle.metrics",
    "networks": "jaxstyle.networks",
    "ops": "jaxstyle.ops",
    "read": "jaxstyle.io.images",
    "save_model": "jaxstyle.io.models",
    "stylize": "jaxstyle.methods.feedforward",
    "write": "jaxstyle.io.images",
}
_ROOMS = ("features", "losses", "metrics", "networks", "ops")
__all__ = sorted(_PUBLIC)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'jaxstyle' has no attribute '{name}'")
    module = importlib.import_module(_PUBLIC[name])
    return module if name in _ROOMS else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
