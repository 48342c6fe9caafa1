"""A network as one file that runs without this project: ONNX, or torch.export's archive (pt2).

Both have one input, ``images``: float32 ``(N, 3, S, S)``, any N, normalised as in training; and one
output, ``logits``: ``(N, classes)``. What is written has been run and compared with the network.
"""

from __future__ import annotations

import copy
import importlib
import io
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from itmc.errors import UsageError, first_line
from itmc.files import write_atomic
from itmc.networks.build import Network

TOLERANCE = 1e-4
"""The largest difference of a logit from the network's own that is accepted."""
BATCHES = (1, 2, 5)
"""The batch sizes at which an export is compared."""
METADATA = "metadata.json"
"""Name of the extra file of a pt2 archive that holds the metadata."""

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Exported:
    """What was written, and how it compares with the network."""

    path: Path
    size: int
    """In bytes."""
    difference: float
    """The largest difference of a logit on random images, all of ``BATCHES`` together."""
    opset: int | None
    """Version of ONNX's operators; ``None`` for pt2."""


class _Classifier(nn.Module):
    """The network as its users see it: images to logits. A copy, so that nothing is changed."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).cpu().float()
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images).logits
        return logits


def export_onnx(
    network: Network, example: Tensor, path: Path, metadata: Mapping[str, Any] | None = None
) -> Exported:
    """Write ``network`` to ``path`` as ONNX, once onnxruntime gives the same logits.

    ``example``: images of the input size, ``(any, 3, S, S)``. ``metadata`` goes into the model's
    ``metadata_props``: strings as they are, all else as JSON.

    Raises UsageError, and writes nothing, where ONNX's packages are not installed, or the network
    cannot be exported or comes out different.
    """
    check_packages()
    classifier = _Classifier(network)
    try:
        content, opset = _onnx(_program(classifier, example), metadata or {})
        run = _onnxruntime(content)
    except Exception as error:  # exporters raise nearly anything
        raise _not_possible("ONNX", error) from error
    difference = _largest_difference(classifier, run, example, "ONNX")
    write_atomic(path, content)
    return Exported(path, len(content), difference, opset)


def export_pt2(
    network: Network, example: Tensor, path: Path, metadata: Mapping[str, Any] | None = None
) -> Exported:
    """Write ``network`` to ``path`` as an archive for ``torch.export.load``, once that gives the
    same logits.

    ``example``: as for ONNX. ``metadata`` becomes the archive's extra file ``metadata.json``:

        extra = {"metadata.json": ""}
        classifier = torch.export.load(path, extra_files=extra).module()

    Raises UsageError, and writes nothing, where the network cannot be exported or comes out
    different.
    """
    classifier = _Classifier(network)
    buffer = io.BytesIO()
    try:
        program = _program(classifier, example)
        with warnings.catch_warnings(action="ignore"):
            text = json.dumps(dict(metadata or {}), indent=1)
            torch.export.save(program, buffer, extra_files={METADATA: text})
            loaded = torch.export.load(io.BytesIO(buffer.getvalue())).module()
    except Exception as error:  # exporters raise nearly anything
        raise _not_possible("pt2", error) from error
    difference = _largest_difference(classifier, loaded, example, "pt2")
    write_atomic(path, buffer.getvalue())
    return Exported(path, len(buffer.getvalue()), difference, None)


def _program(classifier: _Classifier, example: Tensor) -> ExportedProgram:
    """The graph of ``classifier`` for any number of images of the size of ``example``."""
    # Two of them: a dimension of 1 would be taken for fixed.
    images = torch.zeros(2, *example.shape[1:])
    batch = {"images": {0: torch.export.Dim("batch")}}
    with warnings.catch_warnings(action="ignore"):
        program = torch.export.export(classifier, (images,), dynamic_shapes=batch)
    program.example_inputs = None  # else a pt2 archive carries them along
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # names this machine's folders
    return program


def check_packages() -> None:
    """Raise UsageError where a package that the format onnx needs is not installed."""
    for package in ("onnx", "onnxruntime", "onnxscript"):  # torch's exporter needs the last
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise UsageError(
                f"the format onnx needs the package {package}: pip install 'itmc-bench[onnx]'"
            ) from error


def _onnx(program: ExportedProgram, metadata: Mapping[str, Any]) -> tuple[bytes, int]:
    """``program`` as the content of an ONNX file, and the version of its operators."""
    from onnx.helper import set_model_props

    with warnings.catch_warnings(action="ignore"):
        made = torch.onnx.export(
            program, (), dynamo=True, verbose=False,
            input_names=["images"], output_names=["logits"],
            dynamic_shapes={"images": {0: "batch"}},  # which names the dimension
        )  # fmt: skip
    assert made is not None  # it is for dynamo=True
    model = made.model_proto
    for part in (model.graph, *model.graph.node):
        part.ClearField("metadata_props")  # the exporter's notes on itself, of no use to others
    set_model_props(model, {key: _text(value) for key, value in metadata.items()})
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    return model.SerializeToString(), opset


def _onnxruntime(content: bytes) -> Run:
    """What runs an ONNX file of that content."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        return torch.from_numpy(logits)

    return run


def _largest_difference(classifier: _Classifier, run: Run, example: Tensor, what: str) -> float:
    """The largest difference of the logits of ``run`` from those of ``classifier``.

    Raises UsageError where it is above the tolerance, or ``run`` does not run.
    """
    random = torch.Generator().manual_seed(0)
    largest = 0.0
    for count in BATCHES:
        images = torch.randn(count, *example.shape[1:], generator=random)
        with torch.no_grad():
            expected = classifier(images)
            try:
                found = run(images)
            except Exception as error:  # runtimes raise nearly anything
                raise UsageError(
                    f"nothing was written: as {what}, the network does not run on a batch of "
                    f"{count}: {first_line(error)}"
                ) from error
        if found.shape != expected.shape:
            raise UsageError(
                f"nothing was written: as {what}, the network gives logits of shape "
                f"{tuple(found.shape)} for a batch of {count}, instead of {tuple(expected.shape)}"
            )
        difference = (found - expected).abs().max().item()
        if not difference <= TOLERANCE:  # nor is NaN
            raise UsageError(
                f"nothing was written: as {what}, the network's logits differ by {difference:.2g} "
                f"on a batch of {count}, where they reach {expected.abs().max().item():.2g}; at "
                f"most {TOLERANCE:g} is allowed"
            )
        largest = max(largest, difference)
    return largest


def _not_possible(what: str, error: Exception) -> UsageError:
    return UsageError(
        f"the network cannot be exported as {what}: {type(error).__name__}: {first_line(error)}"
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
