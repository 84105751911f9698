"""Seconds of commands that make nothing: digits.yaml with all artifacts in the store, its `plan`, and `--help`."""

from __future__ import annotations

import tempfile

from measure import Row, Scene, Side

from ratios.studies import AS_IT_WAS, TINY, command, sets


def commands(scene: Scene) -> Row:
    shrunk = [*AS_IT_WAS, *TINY, *scene.size((), ("seeds=[0]", "prune.levels=1"))]
    study = ("digits.yaml", *sets(shrunk), "--store", tempfile.mkdtemp(dir=scene.scratch))
    run = ("run", *study, "--device", scene.device)
    command(*run)
    return Row(
        "commands on a finished store of digits.yaml as it was, 1,049 artifacts",
        None,
        [
            Side("run, all hits", lambda: command(*run), 1.5),
            Side("plan", lambda: command("plan", *study)),
            Side("--help", lambda: command("--help")),
        ],
    )
