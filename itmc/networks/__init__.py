"""Networks: a backbone with a bottleneck and a head, and pruned networks as data."""

from itmc.networks.build import Network, NetworkConfig, Outputs, build
from itmc.networks.spec import load

__all__ = ["Network", "NetworkConfig", "Outputs", "build", "load"]
