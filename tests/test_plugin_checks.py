"""What an entry asks for is checked by `plan`, before anything runs; what it leaves out has its table's default."""

from __future__ import annotations

import pytest
from reference_plugins import ANALYSIS, LOUD, SCORE, Write, written
from tiny import Cli, pipeline

from distill_prune.analyze import ANALYSES, check_takes
from distill_prune.errors import ConfigError
from distill_prune.plan.graph import build
from distill_prune.plan.roles import keys_of, numbered
from distill_prune.plugins import TABLES, load, table_of
from distill_prune.prune import CRITERIA, check_needs
from distill_prune.report.words import described
from distill_prune.store.store import Store

write = pytest.fixture(written)

FORM = "  expected: {}(settings, given), a {} of distill_prune.{}.inputs\n  fix:      read what it needs as given.{},"
COPIES = FORM.format("measure", "Copies", "analyze", "model")
WEIGHTS = FORM.format("scores", "LevelWeights", "prune", "state")
KINDS = "  expected: copies or tickets or pair or set\n"


@pytest.mark.parametrize(
    ("code", "old", "new", "said"),
    [
        (
            ANALYSIS,
            "settings, copies",
            "settings, model, copies, masks",
            f"measure is given its settings and one record\n  got:      measure(settings, model, copies, masks)\n{COPIES}",
        ),
        (
            ANALYSIS,
            "len(copies.states)",
            "len(copies)",
            f"got:      measure(settings, copies), which takes the record for a sequence\n{COPIES}",
        ),
        (ANALYSIS, "len(copies.states)", "sum(1 for c in copies)", "for a sequence\n"),
        (ANALYSIS, "len(copies.states)", "copies[0]", "for a sequence\n"),
        (
            ANALYSIS,
            "copies.states",
            "copies.stats",
            "measure asks for what there is not\n  got:      copies.stats\n  expected: did you mean 'states'? one of: ",
        ),
        (ANALYSIS, "copies.states", "copies.distilled", "got:      copies.distilled\n  expected one of: "),
        (ANALYSIS, "copies.states", "copies.distilled", "  fix:      DISTILLED = True in its module\n"),
        (ANALYSIS, '"copies"\nclass', '"pair"\nclass', "got:      copies.states\n  expected one of: a, b\n"),
        (ANALYSIS, '"copies"\nclass', '"copy"\nclass', f"TAKES\n  got:      'copy'\n{KINDS}"),
        (ANALYSIS, '"copies"\nclass', '"study"\nclass', f"TAKES\n  got:      'study'\n{KINDS}"),
        (
            LOUD,
            "settings, level",
            "state, mask, streams",
            f"scores is given its settings and one record\n  got:      scores(state, mask, streams)\n{WEIGHTS}",
        ),
        (LOUD, "print", "level.examples\n    print", "got:      level.examples\n  expected one of: state, mask, streams\n"),
        (LOUD, "print", "level.examples\n    print", "  fix:      NEEDS_IMAGES = True in its module\n"),
        (LOUD, "print", "level.model\n    print", "  fix:      NEEDS_MODEL = True in its module\n"),
        (
            LOUD,
            "import Criterion",
            "import Entry as Criterion",
            "Settings derive from\n  got:      Entry\n  expected: Criterion of distill_prune.prune",
        ),
        (LOUD, "level.mask", "level.masks", "got:      level.masks\n  expected: did you mean 'mask'?"),
    ],
)
def test_plan_refuses_what_there_is_not(cli: Cli, write: Write, file: str, empty: Store, code, old, new, said) -> None:
    name, asked = ("analysis", "compare={analysis: {}}") if code is ANALYSIS else ("loud", "arms.real.criterion={name: loud}")
    assert old in code
    write(name, code.replace(old, new))
    done = cli("plan", file, "--store", empty.root, "--set", asked, "--plugin", name)
    assert done.code == 2 and not list(empty.all()) and "Traceback" not in done.err
    what = "analysis" if code is ANALYSIS else "pruning criterion"
    assert f"the {what} '{name}' of module '{name}'" in done.err.splitlines()[0] and said in done.err, done.err


@pytest.mark.parametrize(
    "body",
    [
        "return Measurements('analysis', {'n': sum(len(copies.values()) for copies in copies.states)})",
        "copies = copies.states\n    return Measurements('analysis', {'n': len(copies)})",
        "return Measurements('analysis', {'n': (lambda copies: len(copies))(copies.states)})",
    ],
)
def test_a_name_that_stands_for_something_else_too_is_not_judged(write: Write, body: str) -> None:
    head = ANALYSIS[: ANALYSIS.index("def measure")]
    write("analysis", f"{head}def measure(settings, copies):\n    {body}\n")
    load("analysis")
    check_takes(ANALYSES["analysis"], "the analysis")


def test_functions_without_a_name_of_their_own_are_judged_by_their_parameters(write: Write) -> None:
    write("loud", LOUD + "import functools\nscores = functools.partial(scores)\n")
    load("loud")
    check_needs(CRITERIA["loud"], "the criterion")


def test_plan_takes_what_is_declared(cli: Cli, write: Write, file: str, empty: Store) -> None:
    write(
        "analysis", ANALYSIS.replace("copies.states", "copies.distilled").replace('"copies"\n', '"copies"\nDISTILLED = True\n')
    )
    write(
        "loud",
        LOUD.replace("print", "level.examples, level.model\n    print", 1).replace("= False", "= False\nNEEDS_IMAGES = True"),
    )
    options = [
        "--set",
        "compare={analysis: {}}",
        "--set",
        "arms.real.criterion={name: loud}",
        "--plugin=analysis",
        "--plugin=loud",
    ]
    done = cli("plan", file, "--store", empty.root, *options)
    assert done.code == 0, done.err


def test_a_refused_entry_is_looked_at_again(write: Write) -> None:
    """A process that goes on after the refusal does not take the entry for checked."""
    write("score", SCORE.replace("level.mask", "level.masks"))
    CRITERIA.register("score", "score")
    load("score")
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"level\.masks"):
            _ = CRITERIA["score"]


def test_an_edited_file_is_not_the_code_that_was_imported(write: Write) -> None:
    path = write("score", SCORE)
    load("score")
    assert CRITERIA["score"].NEEDS_TRAINING
    path.write_text(SCORE.replace("level.mask", "level.masks"))
    assert CRITERIA["score"].NEEDS_TRAINING


def test_the_package_s_own_entries_keep_to_the_form() -> None:
    for name in ANALYSES.own:
        if ANALYSES[name].TAKES != "study":
            check_takes(ANALYSES[name], name)
    for name in CRITERIA.own:
        check_needs(CRITERIA[name], name)


# -- what entries declare


def test_what_is_left_out_has_the_table_s_default(write: Write) -> None:
    write("analysis", ANALYSIS)
    load("analysis")
    for table in map(table_of, TABLES):
        for name in table.own:
            assert table.defaults.keys() <= vars(table[name]).keys(), name
    entry, own = ANALYSES["analysis"], ANALYSES["connectivity"]
    assert (entry.MIN_COPIES, own.MIN_COPIES) == (1, 2) and not entry.DISTILLED and ANALYSES["landscape"].DISTILLED
    assert CRITERIA["random"].cost is None and CRITERIA["snip"].cost is not None and not CRITERIA["synflow"].NEEDS_IMAGES
    declared = {t: set(table_of(t).defaults) for t in TABLES}
    assert declared["models"] == {"STEP_SECONDS", "resolved", "pretrained"} and declared["formats"] == {"read", "write"}
    assert declared["methods"] == {"NEEDS_MODEL", "REAL_IMAGES", "KINDS"} and declared["data"] == {"look"}


def test_a_plugin_says_how_many_copies_it_needs(cli: Cli, write: Write, file: str, empty: Store) -> None:
    write("analysis", ANALYSIS.replace('"copies"\n', '"copies"\nMIN_COPIES = 3\n'))
    done = cli("plan", file, "--store", empty.root, "--set", "compare={analysis: {}}", "--plugin=analysis")
    assert done.code == 2 and "'compare.analysis' in --set compare:" in done.err and "it needs at least 3 copies" in done.err


@pytest.mark.parametrize("declares", [True, False])
def test_the_learned_images_are_an_input_of_an_analysis_that_looks_at_them(write: Write, empty: Store, declares) -> None:
    write("analysis", ANALYSIS.replace('"copies"\n', f'"copies"\nDISTILLED = {declares}\n'))
    load("analysis")
    graph = build(pipeline("compare={analysis: {}}"), empty)
    inputs = [n.inputs for n in graph.nodes.values() if n.kind == "compare analysis"]
    assert inputs and all(("distilled" in i) is declares for i in inputs)


def test_a_criterion_is_described_in_its_own_words(write: Write) -> None:
    write("score", SCORE.replace("NEEDS", 'WORDS = "weights with the largest squares"\nNEEDS'))
    load("score")
    assert described({"criterion": "score"}, {}) == "weights with the largest squares, level by level"
    assert described({"criterion": "gone"}, {}) == "weights chosen by the criterion gone, level by level"
    assert all(CRITERIA[name].WORDS for name in CRITERIA.own)


def test_inputs_of_one_role_keep_their_order() -> None:
    keys = tuple(f"key{i}" for i in reversed(range(12)))
    inputs = {"data": "d", "ticket": "t", **dict(sorted(numbered("copy", keys).items()))}
    assert list(inputs)[2:5] == ["copy0", "copy1", "copy10"] and keys_of("copy", inputs) == keys
    assert keys_of("expert", inputs) == keys_of("a_copy", inputs) == ()
