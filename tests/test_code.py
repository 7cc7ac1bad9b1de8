"""The code hash: what a function does, wherever it stands and whatever it is called; and what it must see."""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

import codi_bench
from codi_bench.claims import CLAIMS
from codi_bench.measures.ablation import position_effects
from codi_bench.models.registry import entry
from codi_bench.store.code import code_of
from codi_bench.store.units import Sources
from codi_bench.suite.bench import ModelBench
from codi_bench.suite.engine import claim_code, judge

PACKAGE = Path(codi_bench.__file__).parent
PYTHONS = [sys.executable, *filter(None, map(shutil.which, ("python3.12", "python3.13")))]

MAIN = '''"""Module."""
import math
from house import sums
from house.sums import scale as scaled

SIZE = 3
WORDS = (
    "first",
    "second",
)
UNUSED = 1


class Table:
    """A class."""

    rows: int = 2
    name: str

    def total(self, values: list) -> float:
        """What it does."""
        found = [scaled(each) for each in values if each]  # why
        return sums.add(found) / SIZE

    def other(self, a, b):
        if a is None:
            raise ValueError(f"{a} is missing")
        return math.floor(a - b), WORDS


def measure(bench):
    table = Table()
    return table.total(bench) + helper(1) - twice(1)


def helper(x):
    return sums.first(x)


def twice(x):
    return sums.last(x)
'''
SUMS = """FACTOR = 2.5


def scale(x):
    return FACTOR * x


def add(values):
    return sum(values)


def first(x):
    return x + 1


def last(x):
    return x + 2
"""


def house(tmp_path, main=MAIN, sums=SUMS, **more):
    """Digest of `measure` in a package of its own."""
    folder = tmp_path / f"p{len(list(tmp_path.iterdir()))}" / "house"
    for name, text in {"__init__": "", "main": main, "sums": sums, **more}.items():
        path = folder.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def code(folder, root="house.main:measure"):
    return code_of(root, sources=Sources({"house": folder}))


def changed(text, old, new):
    assert text.count(old) >= 1, old
    return text.replace(old, new)


NOTHING = {
    "a remark": ("  # why", ""),
    "the module's docstring": ('"""Module."""', "'''Other\nlines.'''\n# a remark"),
    "a docstring": ('        """What it does."""\n', ""),
    "layout": ('"first",\n    "second",\n', '"first", "second",\n'),
    "a local": ("found", "numbers"),
    "a loop's name": ("scaled(each) for each in values if each", "scaled(v) for v in values if v"),
    "a parameter": ("bench", "given"),
    "a function": ("helper", "adds_one"),
    "a constant's name": ("SIZE", "COUNT"),
    "a class": ("Table", "Ledger"),
    "an alias": ("scaled", "times"),
    "an annotation": ("values: list", "values"),
    "a function nobody calls": ("def measure", "def unused():\n    return 4\n\n\ndef measure"),
    "a constant nobody reads": ("UNUSED = 1", "UNUSED = 2"),
    "what an error says": ("is missing", "must be given"),
    "an assert": ("        return sums.add", "        assert found\n        return sums.add"),
    "an import": ("import math\n", "import math\nimport json\n"),
    "the order of functions": (
        MAIN[MAIN.index("def helper") :],
        "def twice(x):\n    return sums.last(x)\n\n\ndef helper(x):\n    return sums.first(x)\n",
    ),
    "how a module is named": ("from house import sums\n", "import house.sums as sums\n"),
}
SOMETHING = {
    "a number": ("SIZE = 3", "SIZE = 4"),
    "a text": ('"second"', '"third"'),
    "an operator": ("+ helper", "- helper"),
    "a call": ("sums.add(found)", "sums.first(found)"),
    "two functions of one shape": ("helper(1) - twice(1)", "twice(1) - helper(1)"),
    "two parameters": ("a - b", "b - a"),
    "a field's default": ("rows: int = 2", "rows: int = 3"),
    "the order of fields": ("    rows: int = 2\n    name: str\n", "    name: str\n    rows: int = 2\n"),
    "a method": ("def total", "def sum"),
    "a block": ("        return sums.add", "        if found:\n            return sums.add"),
    "another library's function": ("math.floor", "math.ceil"),
}  # fmt: skip


@pytest.mark.parametrize("what", NOTHING)
def test_what_does_nothing_changes_no_hash(tmp_path, what):
    assert code(house(tmp_path, changed(MAIN, *NOTHING[what]))).digest == code(house(tmp_path)).digest


@pytest.mark.parametrize("what", SOMETHING)
def test_what_does_something_changes_it(tmp_path, what):
    assert code(house(tmp_path, changed(MAIN, *SOMETHING[what]))).digest != code(house(tmp_path)).digest


def test_a_constant_of_another_module_changes_it_and_the_module_is_named(tmp_path):
    before, after = code(house(tmp_path)), code(house(tmp_path, sums=changed(SUMS, "2.5", "2.6")))
    assert after.differs(before.text) and after.changed(before.text) == ["house.sums"]
    assert not after.differs(after.text) and after.changed("0" * 64) == []  # an older record names no modules


def test_a_module_or_a_function_may_move(tmp_path):
    """Digests of units are sorted, and what a package passes on is followed to its home: where a unit stands is no part of it."""
    before = code(house(tmp_path))
    elsewhere = changed(MAIN, "from house import sums", "from house.room import adding as sums")
    elsewhere = house(
        tmp_path, changed(elsewhere, "house.sums", "house.room.adding"), **{"room.__init__": "", "room.adding": SUMS}
    )
    (elsewhere / "sums.py").unlink()
    assert code(elsewhere).changed(before.text) == []
    through = changed(MAIN, "from house.sums import scale", "from house.room import scale")
    add = "def add(values):\n    return sum(values)\n"
    own = changed(MAIN, "sums.add(found)", "own.add(found)").replace("import math", "import math\nfrom house import own")
    folders = [
        elsewhere,
        house(tmp_path, through, **{"room.__init__": "from house.sums import scale"}),
        house(tmp_path, through, **{"room.__init__": "from house.new import scale", "new": SUMS}),
        house(tmp_path, own, changed(SUMS, add + "\n\n", ""), own=add),
    ]
    assert {code(folder).digest for folder in folders} == {before.digest}


def test_a_statement_that_changes_a_table_counts_with_the_table(tmp_path):
    text = "TABLE = {}\n\n\ndef measure(bench):\n    return TABLE\n\n\n"
    digests = {
        code(house(tmp_path, text + more)).digest
        for more in ("", "TABLE.update(a=1)\n", "TABLE['a'] = 1\n", "for x in (1, 2):\n    TABLE[x] = x\n")
    }
    assert len(digests) == 4 and code(house(tmp_path, text + "print(1)\n")).digest in digests


def test_a_module_used_as_a_value_counts_whole(tmp_path):
    text = changed(MAIN, "+ helper(1)", "+ helper(sums)")
    assert code(house(tmp_path, text)).digest != code(house(tmp_path, text, SUMS + "\n\nMORE = 1\n")).digest


def test_imports_inside_functions_and_circles_are_followed(tmp_path):
    text = "def measure(x):\n    from house.sums import even\n    return even(x)\n"
    circle = "def even(n):\n    return n == 0 or odd(n - 1)\n\n\ndef odd(n):\n    return n != 0 and even(n - 1)\n"
    before = code(house(tmp_path, text, circle))
    assert before.changed(code(house(tmp_path, text, circle.replace("n - 1", "n - 2"))).text) == ["house.sums"]
    assert before.digest == code(house(tmp_path, text.replace("even", "is_even"), circle.replace("even", "is_even"))).digest


def test_a_root_without_source_is_refused(tmp_path):
    with pytest.raises(LookupError, match="no source that defines nothing"):
        code(house(tmp_path), "house.main:nothing")


def outer(k):
    def inner(bench):
        return k

    return inner


def test_what_a_closure_or_a_partial_holds_counts():
    assert code_of(outer(1)).digest == code_of(outer(1)).digest != code_of(outer(2)).digest
    assert code_of(partial(judge, permutations=1)).digest != code_of(partial(judge, permutations=2)).digest


TRICKY = '''def measure(x: int) -> str:
    """Doc."""
    with open(x) as file, file as other:
        match x:
            case {"a": [first, *rest], **more} if (n := len(rest)):
                return f"{x!r:>{len(f'{x}')}} and {x + 1:.2f}" "b" f"{first}{more}{n}"
            case str() as text:
                return lambda a, /, b=2, *c, d, e=3, **f: (a, b, c, d, e, f, text, other)
    try:
        return {k: v async for k, v in x} if x else [*x, (yield x)]
    except* (OSError, ValueError) as error:
        return error, 1e6, 10**20, b"\\x00", ..., -0.0
'''


@pytest.mark.parametrize("python", PYTHONS)
def test_every_python_finds_the_same_hash(tmp_path, python):
    """Records are compared across versions: f-strings come in parts since 3.12, and nodes have other fields."""
    folder = house(tmp_path, TRICKY.replace("async for", "for"))
    script = (
        "from pathlib import Path; from codi_bench.store.code import code_of; from codi_bench.store.units import Sources\n"
        f"print(code_of('house.main:measure', sources=Sources({{'house': Path({str(folder)!r})}})).digest)"
    )
    said = subprocess.run([python, "-c", script], capture_output=True, text=True, check=False, cwd=PACKAGE.parent)
    if said.returncode == 127 or "not found" in said.stderr:
        pytest.skip(f"NO SUCH PYTHON: {python}")
    assert said.stdout[:16] == GOLDEN, said.stderr


GOLDEN = "46afcc86caeeeec2"


# The claims of this package


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """A copy of the package's sources; `claims_code(edit)` gives the digest of every claim after a file was edited."""
    folder = tmp_path_factory.mktemp("copy") / "codi_bench"
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("*.safetensors", "*.json", "__pycache__"))

    def claims_code(file="__init__.py", edit=lambda text: text):
        path = folder / file
        before = path.read_text()
        path.write_text(edit(before))
        own = Sources({"codi_bench": folder})
        try:
            roots = {each.id: (each.function, ModelBench, judge) for each in CLAIMS.values()}
            return {name: code_of(*each, sources=own) for name, each in roots.items()}
        finally:
            path.write_text(before)

    return claims_code


def replaced(old, new):
    def edit(text):
        assert text.count(old) == 1, (old, text.count(old))
        return text.replace(old, new)

    return edit


def moved_claims(copied, *edit):
    before, after = copied(), copied(*edit)
    return {name for name in before if before[name].digest != after[name].digest}


def file_of(thing) -> str:
    return str(Path(sys.modules[thing.__module__].__file__).relative_to(PACKAGE))


def test_a_copy_has_the_hashes_of_the_package(copied):
    assert {name: each.text for name, each in copied().items()} == {
        each.id: claim_code(each, ModelBench).text for each in CLAIMS.values()
    }


def test_a_sentence_or_a_function_more_in_a_claims_file_changes_no_hash(copied):
    for name in ("ablation", "scratch-single", "log-parity"):
        file = file_of(CLAIMS[name].function)
        assert not moved_claims(
            copied, file, lambda text: text + '\n\ndef unused(bench):\n    """A sentence."""\n    return []\n'
        )


OWN = {
    "cap-batch-effect": ("BATCH_FLOOR, VALUE_FLOOR = 0.01", "BATCH_FLOOR, VALUE_FLOOR = 0.02"),
    "contra-none": ('OTHER = "the other protocol"', 'OTHER = "the other"'),
    "lens": ('FAMILIES["decoding"].n, 200, 20', 'FAMILIES["decoding"].n, 200, 30'),
    "ablation": ("HETEROGENEOUS = 0.05", "HETEROGENEOUS = 0.04"),  # of its measure
}


@pytest.mark.parametrize("name", OWN)
def test_a_constant_changes_the_claims_that_use_it(copied, name):
    where = position_effects if name == "ablation" else CLAIMS[name].function
    moved = moved_claims(copied, file_of(where), replaced(*OWN[name]))
    assert name in moved and not {"probe-accuracy", "size", "log-parity"} & moved and len(moved) < len(CLAIMS) / 4


def test_a_constant_of_the_bench_changes_every_claim_and_another_registered_model_none(copied):
    moved = moved_claims(copied, file_of(ModelBench), replaced("PUBLISHED_BATCH = 128", "PUBLISHED_BATCH = 64"))
    assert moved == CLAIMS.keys()
    assert not moved_claims(copied, file_of(entry), replaced("width=3072,", "width=3073,"))


def test_threads_that_ask_at_once_get_the_hash_that_one_gets():
    roots = [claim.function for claim in list(CLAIMS.values())[:8]]
    alone = [code_of(root, sources=Sources()).digest for root in roots]
    sources = Sources()
    with ThreadPoolExecutor(8) as pool:
        assert [code.digest for code in pool.map(lambda root: code_of(root, sources=sources), roots)] == alone
