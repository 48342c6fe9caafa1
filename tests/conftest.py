"""Settings of all tests."""

import torch

# The runner puts one worker on each core; more threads than that only wait for one another.
torch.set_num_threads(1)
