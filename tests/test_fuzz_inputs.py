"""Fuzzing of problem files and of checkpoints' JSON; and some of what was found, through the doors that users come in by."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
from checkpoints import official, same_weights
from damage import cases, changed_often, cut_or_flipped, damaged, read, text_of
from hypothesis import given
from hypothesis import strategies as st
from test_checkpoint_layouts import save_in_shards, weights_of
from test_decoded import attended, written
from test_problem_forms import PROSQA
from test_problem_sets import AUG, FILES

from codi_bench.models.loading import load
from codi_bench.problems import NAMES, generate, load_problems, problems_hash, read_problems, score
from codi_bench.problems.answers import gold_number
from codi_bench.problems.features import surface_table
from codi_bench.thoughts.decoded import load_decoded

OWN = [json.loads(problem.to_json()) for problem in generate(2)]
COCONUT = [{key: row[key] for key in ("question", "steps", "answer")} for row in OWN] + [
    {"question": "What of 3?", "steps": [""], "answer": ".5"}
]
GOLDS = [{"question": f"What of {i}?", "answer": text} for i, text in enumerate(("1e6", "-$1,234.50", "1/2", "5%", "18."))]
CODIS_COPY = [{"instruction": "Of 3 and 4?", "response": "7.0"}, {"instruction": "Of 5?", "response": "2.5e-06"}]
WORDED = [PROSQA, {"question": "Is Alex red?", "steps": [], "answer": "True"}]
SETS = FILES | {
    "generated": OWN,
    "training": AUG,
    "coconut": COCONUT,
    "golds": GOLDS,
    "gsm-hard copy": CODIS_COPY,
    "prosqa": WORDED,
}
FEW = 10  # latents: a model may be told to think longer, and then takes longer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One folder for all cases: each writes its own file anew."""
    return tmp_path_factory.mktemp("fuzz")


# --- problem files ---------------------------------------------------------------------------------------------------


@st.composite
def problem_files(draw):
    """(the set that is asked for, bytes): rows as one list, as lines, or as what is left of them."""
    name = draw(st.sampled_from(sorted(SETS)))
    asked = draw(st.sampled_from((name, name, *NAMES)))
    lines, table = b"\n".join(map(text_of, draw(changed_often(SETS[name])))), table_of(SETS[name])
    tables = cut_or_flipped(table) | st.just(table.replace(b",", draw(st.sampled_from((b",", b";", b",,", b'","'))), 1))
    return asked, draw(damaged(SETS[name]) | st.just(lines) | st.just(lines) | cut_or_flipped(lines) | tables)


def table_of(rows) -> bytes:
    text = io.StringIO()
    table = csv.DictWriter(text, sorted({key for row in rows for key in row}))
    table.writeheader()
    table.writerows(rows)
    return text.getvalue().encode()


def in_lines(rows) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@cases(300)
@given(problem_files())
def test_a_damaged_problem_file_is_refused_or_read_whole(folder, given_file):
    name, data = given_file
    path, again = folder / "problems.jsonl", folder / "again.jsonl"
    path.write_bytes(data)
    found = read(lambda: load_problems(name, path=path), path)
    if found is None:
        return
    again.write_text("".join(problem.to_json() + "\n" for problem in found), encoding="utf-8")
    assert read_problems(again) == found and problems_hash(read_problems(again)) == problems_hash(found)
    assert all(score(f"### {problem.answer}", problem.answer) for problem in found)
    assert all(gold_number(problem.answer) is None or "e" not in problem.answer for problem in found)
    assert len(surface_table(found).numeric["words"]) == len(found) and all(isinstance(p.operators, str) for p in found)


@cases(80)
@given(st.data())
def test_no_row_is_read_as_another_than_alone(folder, data):
    """Whatever stands beside it, in whatever form: a row that is read at all is the same problem."""
    rows = SETS[data.draw(st.sampled_from(sorted(SETS)))]
    beside = data.draw(changed_often(rows))
    path = folder / "rows"

    def problems(content):
        path.write_bytes(content)
        return read(lambda: read_problems(path, unanswered=True), path)

    alone = {text_of(row): problems(in_lines([row]))[0] for row in rows}
    forms = problems(in_lines(rows)), problems(json.dumps(rows).encode()), problems(table_of(rows))
    assert all(form == list(alone.values()) for form in forms)
    found = problems(b"\n".join(map(text_of, beside)))
    for row, problem in zip(beside, found or (), strict=found is not None):
        assert text_of(row) not in alone or problem == alone[text_of(row)]


# --- checkpoints' JSON -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoints(folder, tiny_folders):
    """Copies of our own folders and of published checkpoints with their bases: (model, base or None, fingerprint) of each."""
    held = []
    for family, own in tiny_folders.items():
        published = shutil.copytree(official(family)[0].parent, folder / family)
        held.append((Path(shutil.copytree(own, folder / f"own-{family}")), None))
        held.append((published / "codi-checkpoint", published / f"base-{family}"))
    return [(*where, loaded(*where).fingerprint) for where in held]


def loaded(model, base):
    settings = {} if base is None else {"num_latents": 2, "lora_alpha": 32}
    return load(model, base=base, device="cpu", **settings)


@cases(60)
@given(st.data())
def test_a_damaged_index_is_refused_or_the_same_model(folder, data):
    sharded = folder / "sharded"
    sharded.mkdir(exist_ok=True)
    save_in_shards(sharded, weights_of())
    index = sharded / "model.safetensors.index.json"
    before = index.read_bytes()
    whole = json.loads(before)
    few = {**whole, "weight_map": dict(list(whole["weight_map"].items())[:4])}  # where most damage hits a tensor
    index.write_bytes(data.draw(damaged(whole) | damaged(few) | cut_or_flipped(before)))
    found = read(lambda: loaded(sharded, official("gpt2")[1]), sharded)
    assert found is None or same_weights(found.codi, loaded(*official("gpt2")).codi)


# --- logs of decoded thoughts ----------------------------------------------------------------------------------------

ODD_LOG = (
    "9" * 5000,
    "[",
    "'",
    "\n",
    "\r",
    "\u2028",
    "Question",
    "...",
    "[[" * 3000,
    "'\\x",
    "*a",
    "nan",
    "1e999",
    "٣",
    "1_0",
    "<|eot_id|>",
    "Ġ",
)


@cases(250)
@given(st.data())
def test_a_damaged_log_is_refused_or_read(folder, data):
    text = attended(written(3))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(st.sampled_from(ODD_LOG)) + text[at + data.draw(st.sampled_from((0, 1, 40))) :]
    path = folder / "log.txt"
    path.write_bytes(data.draw(st.sampled_from([text.encode(), text.encode("utf-16")]) | cut_or_flipped(text.encode())))
    found = read(lambda: load_decoded(path), path)
    assert found is None or all(abs(float(p.answer)) < float("inf") for p in found.problems)


NOT_READ = "generation_config.json"  # how a library would decode: no part of a model here


@cases(80)
@given(st.data())
def test_a_damaged_json_file_of_a_model_is_refused_or_makes_another_model(checkpoints, data):
    model, base, fingerprint = data.draw(st.sampled_from(checkpoints))
    path = data.draw(st.sampled_from(sorted((base or model).glob("*.json"))))
    before = path.read_bytes()
    try:
        path.write_bytes(data.draw(damaged(json.loads(before))))
        found = read(lambda: loaded(model, base), path.parent)
        if found is not None:
            assert found.fingerprint != fingerprint or path.read_bytes() == before or path.name == NOT_READ
            if found.num_latents <= FEW:
                read(lambda: found.think(["Mia has 7 apples ."], max_new_tokens=2))
    finally:
        path.write_bytes(before)
