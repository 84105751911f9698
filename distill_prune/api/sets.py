"""Distilled sets and data sets from files or a store, as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from distill_prune.artifacts import Images, Sentences, SyntheticSet
from distill_prune.data import DATASETS, prepare
from distill_prune.data.source import Source
from distill_prune.errors import StoreError, UserError, nearest
from distill_prune.interop import FORMATS, Origin
from distill_prune.plan.places import ARGUMENTS
from distill_prune.plan.validate import entry, validated
from distill_prune.run.reader import Reader
from distill_prune.store.place import store_at
from distill_prune.store.store import Store

Paths = str | Path | Sequence[str | Path]


def load_data(name: str, **settings: object) -> Images:
    """A data set of images, loaded, split and with its transform fitted; nothing is stored.

    Args:
        name: One of DATASETS: "digits", "npz", "folder", "cifar10", ...
        settings: As under `data:` in a pipeline file: path, rows, validation, transform ("normalize" or "zca").

    Returns:
        pixels (N, C, H, W), labels (N,), `classes`, `transform`; `examples("train")` are network input and labels.

    Raises:
        ConfigError: there is no such data set or setting.
        DataError: the source is missing, or does not hold what it should.
    """
    source = cast(Source, entry(DATASETS, {"name": name, **settings}, ["data"], ARGUMENTS))
    prepared = prepare(source)
    if isinstance(prepared, Sentences):
        raise UserError(f"data '{name}' are text", expected="a data set of images", fix='run(...) with until="data"')
    return prepared


def load_set(
    source: Paths,
    format: str | None = None,
    *,
    data: Images | None = None,
    store: str | Path | Store | None = None,
    **options: object,
) -> SyntheticSet:
    """A distilled set: out of files of a known format, or out of a store.

        load_set("digits-5ipc")                                             by name or key, from a store
        load_set("mtt/", "mtt", data=data, space="zca", lr=0.02)            from MTT's two files in a folder
        load_set(["images.pt", "labels.pt"], "mtt", data=data, space="zca", lr=None)

    Args:
        source: A name or the beginning of a key in a store; with a `format` the path of a file or folder, or several.
        format: One of FORMATS: "mtt", "datm", "dc", "idc", "ddranking", "png", "npz".
        data: The data set that the set was made from: its classes and its transform (`space`).
        store: The store to look in; None is $DISTILL_PRUNE_STORE, else ./artifacts.
        options: What the format does not say, as `import --set` takes it: lr, space, classes, factor, augment.

    Returns:
        images (N, C, H, W), labels (N,) classes or (N, K) soft, `lr`; `examples(data.transform)` are training examples.

    Raises:
        StoreError: the store has no such set.
        ConfigError: the format lacks something that was not given; the message names the option.
        DataError: a file is missing, hostile or damaged, or does not fit the data.
    """
    if format is None:
        return _stored(source, store, data, options)
    if store is not None:
        raise UserError("`store` means nothing to a file", fix="leave it out, or leave `format` out")
    module = FORMATS[format]
    if module.KIND != "set" or module.read is None:
        sets = [name for name in FORMATS if FORMATS[name].KIND == "set"]
        raise UserError(f"format '{format}' holds no distilled sets", got=module.KIND, expected=nearest(format, sets))
    settings = validated(module.Settings, {"name": format, **options}, (), ARGUMENTS)
    origin = Origin() if data is None else Origin(data.classes, data.transform, data.shape)
    paths = [source] if isinstance(source, str | Path) else source
    return cast(SyntheticSet, module.read(settings, [Path(path).expanduser() for path in paths], origin))


def _stored(source: Paths, store: str | Path | Store | None, data: Images | None, options: dict[str, object]) -> SyntheticSet:
    """The set of a store that `source` names.

    Raises:
        StoreError: there is none.
        UserError: something is given that only files need.
    """
    for_files = [*(["data"] if data is not None else []), *options]
    if for_files or not isinstance(source, str):
        got = f"{source!r}" + (f" with {', '.join(for_files)}" if for_files else "")
        raise UserError(
            "a set is read from a file only where its format is said",
            got=got,
            fix=f'format="mtt", or another: {", ".join(FORMATS)}',
        )
    place = store if isinstance(store, Store) else store_at(store)
    ref = place.find(source)
    if ref.stage != "distill":
        raise StoreError(
            f"'{source}' is not a synthetic set", got=f"{ref.stage}/{ref.key[:12]}", fix="`distill-prune ls distill`"
        )
    return Reader(place, "cpu").set(ref.key)
