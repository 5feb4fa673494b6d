"""How things are computed, for all rooms: the precision, and the formulation of each backend."""

from jaxstyle.policy.formulation import cpu_formulation as cpu_formulation
from jaxstyle.policy.formulation import formulation as formulation
from jaxstyle.policy.precision import PRECISIONS as PRECISIONS
from jaxstyle.policy.precision import compute_dtype as compute_dtype
from jaxstyle.policy.precision import product_precision as product_precision
