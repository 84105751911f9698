"""Input that was once taken for something else without a word, or took all memory, or ended in a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from distill_prune.artifacts import Examples
from distill_prune.data import folder as folders
from distill_prune.data import npz
from distill_prune.data.labels import check_names, check_numbers
from distill_prune.errors import DataError, StoreError, UserError
from distill_prune.interop.networks import ticket_of_zeros
from distill_prune.models import MODELS, build_model
from distill_prune.recipe import Recipe
from distill_prune.rng import Streams
from distill_prune.store.store import Store
from distill_prune.training import train


def archive(path: Path, labels: np.ndarray) -> str:
    np.savez(path, x=np.zeros((len(labels), 4, 4, 1), np.uint8), y=labels)
    return str(path)


@pytest.mark.parametrize("largest", [20_000_000, 10**12, 2000])
def test_an_identifier_among_labels_is_no_class(largest: int, tmp_path: Path) -> None:
    labels = np.arange(200) % 4
    path = archive(tmp_path / "x.npz", np.where(labels == 3, largest, labels))
    with pytest.raises(DataError, match=rf"(?s)no numbers of classes.*4 distinct labels, the largest {largest}"):
        npz.load(npz.Settings(path=path))


def test_numbers_may_have_gaps() -> None:
    for distinct, lowest, highest in ((4, 0, 999), (1, 0, 0), (200, 0, 1500), (4, 1, 5), (4, 0, 3)):
        check_numbers(distinct, lowest, highest, "here")


def test_labels_from_one_on_say_so(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", x=np.zeros((40, 8, 8), np.uint8), y=np.arange(40) % 4 + 1)
    with pytest.raises(DataError, match=r"(?s)the labels of .*one.npz' begin at 1.*1 \.\. 4.*expected: 0 \.\. 3.*save y - 1"):
        npz.load(npz.Settings(path=str(tmp_path / "one.npz")))


@pytest.mark.parametrize(
    ("one", "other"), [("0", "0 "), ("caf\u00e9", "cafe\u0301"), ("dog", "d\u200bog"), ("a b", "a\u00a0b"), ("x", "\ufeffx")]
)
def test_classes_that_look_alike_are_refused(one: str, other: str) -> None:
    with pytest.raises(DataError, match="look alike"):
        check_names([one, "else", other], "here")
    check_names(["a", "A", "a b", "ab", "1", "10"], "here")


def test_labels_of_a_table_that_look_alike_are_refused(cli: tiny.Cli, tmp_path: Path) -> None:
    import tiny_text

    places = tiny_text.places(tmp_path / "places")
    for part in ("train", "dev"):
        path = places["data"] / f"{part}.tsv"
        path.write_text(path.read_text().replace("\t1\n", "\t1 \n", 1))
    pipeline = tmp_path / "mine.yaml"
    pipeline.write_text(tiny.TINY)
    words = f"data={{name: tsv, path: {places['data']}, tokenizer: {places['words']}}}"
    result = cli("data", pipeline, "--store", tmp_path / "store", "--set", words, "--executor", "serial",
                 "--set", "distill.synthetic=false", "--set", "distill.subset=false",
                 "--set", "arms.synthetic=false", "--set", "arms.subset=false", "--set", "compare.evaluation=null")  # fmt: skip
    assert result.code == 2 and "look alike" in result.err and "'1 '" in result.err


@pytest.mark.parametrize("begin", ["_orig_mod.", "module.", "a.b."])
def test_names_with_a_common_beginning_are_paired_by_name(begin: str) -> None:
    """In alphabetical order too, where layers of equal shapes would change places."""
    model = build_model(MODELS["lenet"].Settings(hidden=[6] * 12), (1, 2, 3), 6)
    state = model.fresh(0)
    names = sorted(state)
    assert names != list(state)
    ticket = ticket_of_zeros(Path("x"), {begin + name: state[name] for name in names}, model)
    assert all(torch.equal(tensor, ticket.state[name]) for name, tensor in state.items())


def test_a_cased_vocabulary_that_says_nothing_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    from distill_prune.data.tokens import Tokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "polish", "people"]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    assert Tokenizer.read(str(tmp_path)).encoder.encode("Polish").ids == [2, 5, 3]
    (tmp_path / "vocab.txt").write_text("\n".join([*words, "Polish"]) + "\n")
    for said in (None, "{}"):
        if said:
            (tmp_path / "tokenizer_config.json").write_text(said)
        with pytest.raises(DataError, match=r"(?s)does not say whether it lowers.*with 'Polish'.*\"do_lower_case\": false"):
            Tokenizer.read(str(tmp_path))
    for lower, number in (("false", 7), ("true", 5)):
        (tmp_path / "tokenizer_config.json").write_text(f'{{"do_lower_case": {lower}}}')
        assert Tokenizer.read(str(tmp_path)).encoder.encode("Polish").ids == [2, number, 3]


def images(root: Path) -> Path:
    draws = np.random.default_rng(0)
    for part in ("train", "test"):
        for number, name in enumerate((os.fsdecode(b"caf\xe9"), "dog")):
            place = root / part / name
            place.mkdir(parents=True)
            for i in range(8):
                pixels = draws.integers(0, 90, (8, 8, 3), dtype=np.uint8)
                pixels[..., number] += 120
                with (place / f"{i}.png").open("wb") as file:
                    Image.fromarray(pixels).save(file, format="PNG")
    return root


def test_names_of_folders_that_are_no_text_reach_the_page(cli: tiny.Cli, tmp_path: Path) -> None:
    root = images(tmp_path / "images")
    assert folders.load(folders.Settings(path=str(root))).classes == ("caf\udce9", "dog")
    pipeline = tmp_path / "mine.yaml"
    pipeline.write_text(tiny.TINY)
    words = ("--set", f"data={{name: folder, path: {root}}}", "--set", "seeds=[0]", "--executor", "serial")
    result = cli("run", pipeline, "--store", tmp_path / "store", *words)
    assert result.code == 0, result.err
    assert "caf\\udce9" in (tmp_path / "store" / "reports" / "mine" / "report.html").read_text(encoding="utf-8")


def test_a_store_whose_path_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not UTF-8"):
        Store(tmp_path / os.fsdecode(b"st\xe9"), create=True)


def test_a_stream_of_ascii_is_enough(file: str, tmp_path: Path) -> None:
    words = ["run", file, "--store", str(tmp_path / "store"), "--executor", "serial", "--set", "seeds=[0]"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "distill_prune", *words]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert b"report: " in done.stdout and b"\\xb1" in done.stdout


@pytest.mark.parametrize(("batch", "fits"), [(4, False), (5, True), (1, False)])
def test_batch_norm_of_one_value_is_refused_before_the_first_step(batch: int, fits: bool) -> None:
    model = build_model(MODELS["resnet"].Settings(depth=10, width=2), (3, 8, 8), 3)
    examples = Examples(torch.zeros(9, 3, 8, 8), torch.arange(9) % 3)
    recipe = Recipe(length="1ep", batch=batch, lr=0.1)  # type: ignore[arg-type]
    if fits:
        train(model, model.fresh(0), examples, recipe, Streams(0))
        return
    with pytest.raises(UserError, match=rf"(?s)no statistics.*got: +9 examples in batches of {batch}\n"):
        train(model, model.fresh(0), examples, recipe, Streams(0))
