"""``python -m suites.zoo``: one small network of each family through all of the pruning core.

Importance, surgery, training, saving, loading and export, at random weights: whether a backbone
can be pruned does not depend on what it has learnt. What comes out is a page of Markdown.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from itmc.errors import UsageError
from itmc.files import write_atomic
from itmc.networks.backbones import resolve
from itmc.networks.export import check_packages
from suites.command import DONE, FAILED, Parser, exit_code
from suites.outputs import check_file
from suites.zoo_check import EXPORTS, apart, examine
from suites.zoo_page import page, summary

PAGE = Path("results/zoo.md")
"""Where the page of all backbones lies."""
_SMALLEST = 8
"""Pixels that ``NetworkConfig`` takes."""
# Backbones by family; NAME@SIZE where 64 pixels are not enough.
FAMILIES: dict[str, tuple[str, ...]] = {
    "DigitsConvNet": ("digits_convnet@32",),
    "AlexNet": ("alexnet",),
    "VGG": ("vgg11", "vgg16", "vgg11_bn", "vgg16_bn"),
    "ResNet": ("resnet18", "resnet50", "timm/resnet26d", "timm/seresnet50", "timm/gernet_s"),
    "Wide ResNet": ("wide_resnet50_2",),
    "ResNeXt": ("resnext50_32x4d", "timm/seresnext26t_32x4d"),
    "ResNet V2": ("timm/resnetv2_50",),
    "ResNet, GroupNorm": ("timm/resnet50_gn",),
    "DenseNet": ("densenet121", "densenet161"),
    "MobileNet": (
        "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large",
        "timm/mobilenetv4_conv_small", "timm/lcnet_050",
    ),
    "MnasNet": ("mnasnet0_5", "mnasnet1_0", "timm/fbnetc_100", "timm/semnasnet_075"),
    "EfficientNet": ("efficientnet_b0", "efficientnet_v2_s", "timm/tf_efficientnetv2_b0"),
    "RegNet": ("regnet_x_400mf", "regnet_y_400mf", "timm/regnetz_005"),
    "ConvNeXt": ("convnext_tiny", "timm/convnext_atto", "timm/convnextv2_atto"),
    "SqueezeNet": ("squeezenet1_0", "squeezenet1_1"),
    "Inception": ("googlenet", "inception_v3@128", "timm/inception_v4@96"),
    "Xception": ("timm/xception41",),
    "ShuffleNet": ("shufflenet_v2_x0_5", "shufflenet_v2_x1_0"),
    "GhostNet": ("timm/ghostnet_100",),
    "DarkNet": ("timm/darknet53",),
    "HRNet": ("timm/hrnet_w18_small",),
    "DLA": ("timm/dla34",),
    "VoVNet": ("timm/ese_vovnet19b_slim", "timm/vovnet39a"),
    "RepVGG": ("timm/repvgg_a0", "timm/mobileone_s0"),
    "RepViT": ("timm/repvit_m1",),
    "ConvMixer": ("timm/convmixer_768_32",),
    "StarNet": ("timm/starnet_s1",),
    "ViT": ("timm/vit_tiny_patch16_224@224", "vit_b_16@224"),
    "DeiT": ("timm/deit_tiny_patch16_224@224", "timm/deit_tiny_distilled_patch16_224@224"),
    "Swin": ("timm/swin_tiny_patch4_window7_224@224", "swin_t@224"),
    "MLP-Mixer": ("timm/mixer_s32_224@224",),
    "Res2Net": ("timm/res2net50_26w_4s",),
    "MixNet": ("timm/mixnet_s",),
    "CoAtNet": ("timm/coatnet_pico_rw_224@224",),
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code: 1 where something failed that was not refused."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = shlex.join(["python", "-m", "suites.zoo", *words])
    return exit_code("suites.zoo", lambda: _run(_parser().parse_args(words), command))


def _run(options: argparse.Namespace, command: str) -> int:
    out = options.out or (None if options.only else PAGE)
    check_file("--out", out)
    if not 0 < options.compression < 1:
        raise UsageError(f"--compression {options.compression} is not allowed; give 0 < c < 1")
    formats = _listed(options.export, EXPORTS, "--export")
    if "onnx" in formats:
        check_packages()
    chosen = list(_chosen(options.only))
    outcomes = []
    for number, (family, name) in enumerate(chosen, 1):
        outcome = apart(examine, family, name, options.compression, formats)
        print(f"[{number}/{len(chosen)}] {outcome.backbone}: {outcome.result}", file=sys.stderr)
        outcomes.append(outcome)
    text = page(outcomes, formats, command)
    if out is None:
        print(text)
    else:
        write_atomic(out, text.encode())
        print(f"{summary(outcomes)}\n{out}")
    return FAILED if any(outcome.error for outcome in outcomes) else DONE


def _chosen(only: str) -> Iterator[tuple[str, str]]:
    """Families and backbones that ``only`` names, all where it is empty."""
    every = [(family, name) for family, names in FAMILIES.items() for name in names]
    if not only:
        yield from every
        return
    for wanted in only.split(","):
        found = [(f, name) for f, name in every if wanted in (f, name, name.partition("@")[0])]
        if not found:  # any other backbone can be tried as well
            backbone, _, size = wanted.partition("@")
            resolve(backbone)
            if size and not (size.isdecimal() and int(size) >= _SMALLEST):
                raise UsageError(
                    f"--only {wanted!r}: {size!r} is no size; write NAME@PIXELS, at least "
                    f"{_SMALLEST}"
                )
            found = [("(asked for)", wanted)]
        yield from found


def _listed(text: str, allowed: Collection[str], option: str) -> tuple[str, ...]:
    names = () if text == "none" else tuple(text.split(","))
    for name in names:
        if name not in allowed:
            raise UsageError(f"{option} {name!r} is unknown; allowed: {', '.join(allowed)}, none")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m suites.zoo",
        description="Prune one small network of each family at random weights; train, save, load "
        "and export it; write what came out as a page.",
    )
    parser.add_argument(
        "--only", default="", metavar="A,B",
        help="families of the page, or backbones, NAME or NAME@SIZE (default: all of the page)",
    )  # fmt: skip
    parser.add_argument(
        "--compression", type=float, default=0.5, metavar="C",
        help="the share of MACs to remove (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--export", default=",".join(EXPORTS), metavar="FORMATS",
        help="onnx, pt2, both (the default, separated by a comma) or none",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, metavar="FILE",
        help=f"the page (default: {PAGE}; with --only, standard output)",
    )  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())
