"""A Ray cluster of two machines of one CPU each, both on this one.

Prints the address; a line on standard input kills the second machine, its end ends the cluster.
Usage: `python tests/sweeps/two_machines.py`, with `RAY_TMPDIR` set to a short path.
"""

import sys

from ray.cluster_utils import Cluster

MACHINE = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}

cluster = Cluster(initialize_head=True, head_node_args=MACHINE)
second = cluster.add_node(**MACHINE)
print(cluster.address, flush=True)
for _ in sys.stdin:
    cluster.remove_node(second, allow_graceful=False)
    print("lost", flush=True)
cluster.shutdown()
