"""Optimizing pictures: parameterizations, solvers, and the compiled chunks of steps they run in."""

from jaxstyle.optimize.optimizers import LINE_SEARCHES, OPTIMIZERS, SCHEDULES, solver, with_rate
from jaxstyle.optimize.parameterization import (
    PARAMETERIZATIONS,
    Parameterization,
    parameterization,
)
from jaxstyle.optimize.scales import rescaled, scales
from jaxstyle.optimize.solver import (
    CONVERGED,
    NOT_FINITE,
    RUNNING,
    Loss,
    Solver,
    State,
    advance,
    picture,
    start,
)

__all__ = [
    "CONVERGED",
    "LINE_SEARCHES",
    "NOT_FINITE",
    "OPTIMIZERS",
    "PARAMETERIZATIONS",
    "RUNNING",
    "SCHEDULES",
    "Loss",
    "Parameterization",
    "Solver",
    "State",
    "advance",
    "parameterization",
    "picture",
    "rescaled",
    "scales",
    "solver",
    "start",
    "with_rate",
]
