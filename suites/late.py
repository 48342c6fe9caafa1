"""What most jobs need, but not to begin: where there are many, it is loaded once for all."""

from __future__ import annotations

import warnings

with warnings.catch_warnings(action="ignore"):  # fvcore's import tells of torch.jit
    import fvcore.nn
    import sklearn.linear_model
    import torch_pruning

__all__ = ["fvcore", "sklearn", "torch_pruning"]
