"""Training: the state of a run and pure training steps."""

from jaxstyle.training.state import TrainState as TrainState
from jaxstyle.training.state import create as create
