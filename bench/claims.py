"""The papers' claims, what would measure each here, and how it is judged; `claim_table.py` judges them.

A shrunk study is a claim of its own and never stands in for the full one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import cast

from regimes import FOLDER
from regimes import Record as RegimeMap
from verdicts import (
    Judge,
    ahead,
    beats,
    flattest,
    matching_alone,
    matching_to,
    only_stable_match,
    own_task_is_best,
    reached,
    stablest,
    universal,
    within,
)


@dataclass(frozen=True)
class Claim:
    """`records` are the files that it needs; `judge` puts them in words, and judges them."""

    what: str
    paper: str
    pipeline: str
    records: tuple[str, ...]
    judge: Judge


SMALL = tuple(f"mtt-cifar10-ipc10-small-{seed}" for seed in range(3))
MAP = FOLDER / "maps" / "digits-map.json"


def _of_map() -> tuple[Claim, ...]:
    """The papers' order in each cell that the map names, at the sparsity where the map has its largest margin."""
    if not MAP.exists():
        return ()
    candidates = cast("RegimeMap", json.loads(MAP.read_text(encoding="utf-8")))["candidates"]
    return tuple(
        Claim(
            f"The same order on 8x8 digits, six sets, in a cell that the [map](results/digits-map.md) named: {line['cell']}",
            "none: our question",
            "digits-confirm.yaml",
            (f"digits-confirm-{number}",),
            stablest("synthetic", ("real",), line["sparsity"]),
        )
        for number, line in enumerate(candidates, 1)
    )


CLAIMS = (
    Claim(
        "Trajectory matching, CIFAR-10, 10 images per class, ConvNet-3 of width 128",
        "65.3 ± 0.7% (Cazenavette et al. 2022; second-hand), 63.7% re-measured (DC-BENCH)",
        "mtt-cifar10-ipc10.yaml",
        ("mtt-cifar10-ipc10",),
        reached("synthetic"),
    ),
    Claim(
        "The same, 1 image per class",
        "46.3 ± 0.8% (second-hand)",
        "mtt-cifar10-ipc1.yaml",
        ("mtt-cifar10-ipc1",),
        reached("synthetic"),
    ),
    Claim(
        "The same, 50 images per class",
        "71.6 ± 0.2% (second-hand)",
        "mtt-cifar10-ipc50.yaml",
        ("mtt-cifar10-ipc50",),
        reached("synthetic"),
    ),
    Claim(
        "Shrunk to two CPU cores (width 32): 15 points above as many random real images, hard labels",
        "none at this scale",
        "mtt-cifar10-ipc10-small.yaml",
        SMALL,
        beats("synthetic", "subset", 15.0),
    ),
    Claim(
        "The same with learned soft labels",
        "none at this scale",
        "mtt-cifar10-ipc10-small.yaml",
        SMALL,
        beats("soft", "subset", 15.0),
    ),
    Claim(
        "Distilled pruning, AlexNet on CIFAR-10, 10 images per class, at 36 / 67 / 89 / 95.6% sparsity",
        "81.07 / 78.77 / 78.63 / 77.28% (McDermott and Cummings 2023, their published logs)",
        "distilled-pruning-cifar10.yaml",
        ("distilled-pruning-cifar10",),
        within("synthetic", (0.36, 0.672, 0.893, 0.956)),
    ),
    Claim(
        "Distilled pruning, ConvNet-3 on CIFAR-100, 10 images per class, at 36 / 67 / 89 / 95.6% sparsity",
        "50.40 / 47.26 / 46.44 / 42.34% (their published logs)",
        "distilled-pruning-cifar100.yaml",
        ("distilled-pruning-cifar100",),
        within("synthetic", (0.36, 0.672, 0.893, 0.956)),
    ),
    Claim(
        "Subnetworks found on distilled images are more stable than dense ones and real-data IMP's, ConvNet-3, CIFAR-10",
        "figures alone (McDermott and Cummings 2023, arXiv 2310.18769)",
        "stable-subnetworks-cifar10.yaml",
        ("stable-subnetworks-cifar10",),
        stablest("synthetic", ("real",), 0.893),
    ),
    Claim(
        "The same order, shrunk: a set of our own, width 32, 10,000 images",
        "none at this scale",
        "cifar10-small.yaml",
        ("cifar10-small",),
        stablest("synthetic", ("real",), 0.893),
    ),
    Claim(
        "The same order on 8x8 digits",
        "none",
        "digits.yaml",
        ("digits",),
        stablest("synthetic", ("real",), 0.893),
    ),
    Claim(
        "The same order on 8x8 digits, six initialisations, three copies",
        "none",
        "digits-controls.yaml",
        ("digits-controls",),
        stablest("synthetic", ("real",), 0.893),
    ),
    Claim(
        "They are flatter, too: on 8x8 digits, six initialisations",
        "figures alone, of the Hessian's diagonal (McDermott and Cummings 2023, arXiv 2310.18769)",
        "digits-controls.yaml",
        ("digits-controls",),
        flattest("synthetic", "real", 0.893),
    ),
    Claim(
        "The same, shrunk, on CIFAR-10",
        "none at this scale",
        "cifar10-small.yaml",
        ("cifar10-small",),
        flattest("synthetic", "real", 0.893),
    ),
    Claim(
        "Tickets of magnitude pruning are matching only where they are stable, over rewinding steps: digits, 83.2% sparsity",
        "ResNet-20, VGG-16, ResNet-50 (Frankle et al. 2020; second-hand)",
        "digits-instability.yaml",
        ("digits-instability",),
        only_stable_match("real"),
    ),
    Claim(
        "Tickets of ResNet-20 on CIFAR-10, rewound to k = 1,000, are matching and stable at 86.6% sparsity",
        "down to 13.4% of the weights (Frankle et al. 2020; second-hand)",
        "lottery-cifar10-resnet20.yaml",
        ("lottery-cifar10-resnet20",),
        matching_to("real", 0.866),
    ),
    Claim(
        "Tickets of LeNet-300-100 on MNIST at k = 0 are matching and stable at 96.5% sparsity",
        "down to 3.5% of the weights (Frankle et al. 2020; second-hand)",
        "lottery-mnist-lenet.yaml",
        ("lottery-mnist-lenet",),
        matching_to("real", 0.965),
    ),
    Claim(
        "The same, shrunk, on Fashion-MNIST, at 95.3% sparsity",
        "none at this scale",
        "lottery-mnist-lenet-small.yaml",
        ("lottery-mnist-lenet-small",),
        matching_to("real", 0.953),
    ),
    Claim(
        "LeNet-300-100 at k = 0: magnitude pruning lies above random masks and re-initialised networks, Fashion-MNIST, 95.3%",
        "the same order on MNIST (Frankle and Carbin 2019; Frankle et al. 2020)",
        "lottery-mnist-lenet-small.yaml",
        ("lottery-mnist-lenet-small",),
        ahead("real", ("random", "reinitialised"), 0.953),
    ),
    Claim(
        "Tickets of BERT-base on SST-2 from the pre-trained weights are matching at 60% sparsity, random masks and weights not",
        "91.9 ± 0.5% against 92.1 ± 0.1% dense; random masks 83.1%, random weights 80.2% (Chen et al. 2020, table 2)",
        "bert-tickets-glue.yaml",
        ("bert-tickets-glue",),
        matching_alone("real", ("random", "reinitialised"), 0.6),
    ),
    Claim(
        "The same order, shrunk: MiniLM, 2,000 phrases, at 50% sparsity, beside random masks",
        "none at this scale",
        "bert-tickets-sst2-small.yaml",
        ("bert-tickets-sst2-small",),
        matching_alone("real", ("random",), 0.5),
    ),
    Claim(
        "Tickets of MiniLM on SST-2 at 50% sparsity are matching, and two copies of one lie on a linear plateau",
        "none for transformers; vision tickets that are stable are matching (Frankle et al. 2020)",
        "bert-stability-sst2-small.yaml",
        ("bert-stability-sst2-small",),
        matching_to("real", 0.5),
    ),
    Claim(
        "On every task its own ticket lies above those of other tasks: SST-2, CoLA, MRPC, MiniLM, up to 2,000 examples, 50%",
        "at 70% of BERT-base for most tasks; only the ticket of masked language modelling is universal (Chen et al. 2020, "
        "section 4)",
        "bert-transfer-small.yaml",
        ("bert-transfer-small",),
        own_task_is_best(),
    ),
    Claim(
        "The ticket of masked language modelling is worth on SST-2, CoLA and MRPC what the task's own is, BERT-base, 70%",
        "universal, alone of all tickets (Chen et al. 2020, section 4)",
        "bert-transfer-mlm.yaml",
        ("bert-transfer-mlm",),
        universal("mlm"),
    ),
    Claim(
        "Masks found on 20 distilled samples of text lie above one-shot masks and those of as many real sentences, SST-2, "
        "MiniLM, 60% sparsity",
        "none: our question",
        "bert-distilled-sst2-small.yaml",
        ("bert-distilled-sst2-small",),
        ahead("distilled", ("sentences", "one_shot"), 0.6),
    ),
    Claim(
        "The same above one-shot masks that are trained as long as IMP takes",
        "none: our question",
        "bert-distilled-sst2-small.yaml",
        ("bert-distilled-sst2-small",),
        ahead("distilled", ("one_shot_long",), 0.6),
    ),
    *(
        Claim(f"{what}, {where}, six sets", "none: our question", f"{name}.yaml", (name,), judge)
        for name, where in (("digits-masks", "8x8 digits"), ("fashion-masks-small", "Fashion-MNIST, 14x14"))
        for what, judge in (
            (
                "Synthetic tickets are more stable than dense networks and than real tickets",
                stablest("synthetic", ("real",), 0.893),
            ),
            (
                "Masks found on 5 distilled images per class lie above those of 5 random real ones",
                ahead("synthetic", ("subset",), 0.893),
            ),
            (
                "The same above 5 real ones that were chosen",
                ahead("synthetic", ("herded", "easy", "moderate", "coverage"), 0.893),
            ),
            (
                "The same above SynFlow and random masks with the densities of ERK",
                ahead("synthetic", ("synflow", "random"), 0.893),
            ),
        )
    ),
    *_of_map(),
    *(
        Claim(
            f"{level} levels on distilled images, then IMP on real ones: tickets above those of real-data IMP, digits, 95.6%",
            "CIFAR-10: matching at higher sparsity than real-data IMP (McDermott and Parhi 2025)",
            "digits-begins.yaml",
            (f"digits-begins-{level}",),
            ahead("continued", ("real",), 0.956),
        )
        for level in (2, 5, 8)
    ),
    *(
        Claim(
            f"{what}, CIFAR-10, small, six sets",
            "none at this scale",
            "cifar10-sets-small.yaml",
            ("cifar10-sets-small",),
            judge,
        )
        for what, judge in (
            (
                "Synthetic tickets are more stable than dense networks and than real tickets",
                stablest("synthetic", ("real",), 0.893),
            ),
            ("They are flatter than real tickets", flattest("synthetic", "real", 0.893)),
            (
                "Masks found on 10 distilled images per class lie above those of 10 random real ones",
                ahead("synthetic", ("subset",), 0.893),
            ),
            ("The same above random masks", ahead("synthetic", ("random",), 0.893)),
        )
    ),
    Claim(
        "A distilled mask carries more than the densities of its layers, and needs its own weights: 8x8 digits, six sets",
        "of masks found on real data: Frankle et al. 2021, Frankle and Carbin 2019",
        "digits-carry.yaml",
        ("digits-carry",),
        ahead("synthetic", ("synthetic_shuffled", "synthetic_reinitialised"), 0.893),
    ),
    Claim(
        "A distilled mask with the signs of its trained weights is worth more on other magnitudes than re-initialised",
        "of masks found on real data: Oh et al. 2025",
        "digits-carry.yaml",
        ("digits-carry",),
        ahead("synthetic_signs", ("synthetic_reinitialised",), 0.893),
    ),
    Claim(
        "A distilled mask in the order that aligns two initialisations is worth more than re-initialised",
        "of masks found on real data: Adnan et al. 2025",
        "digits-carry.yaml",
        ("digits-carry",),
        ahead("synthetic_permuted", ("synthetic_reinitialised",), 0.893),
    ),
)
