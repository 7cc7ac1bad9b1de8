"""Change control: what a proposal would change, in the suite's own words, and when it may be recorded."""

import json
import os
import shutil
import subprocess
import sys
from itertools import product

import numpy as np
import pytest

from codi_bench.records.baseline import (
    Band,
    Baseline,
    Environment,
    Record,
    Recorded,
    Tolerance,
    load_baseline,
    pack_bits,
    unpack_bits,
)
from codi_bench.records.changes import changes, weak_reason
from codi_bench.report.proposals import terminal
from codi_bench.rules.stats import stream
from codi_bench.store.files import package_folder

HERE = Environment(device="cpu", instructions="AVX512", torch="2.13", dtype="float32")
GPU = Environment(device="H100", instructions="AVX512", torch="2.13", dtype="float32")
RIGHT = stream(0, "changes").random(1000) < 0.6
BY_OUTCOMES = Tolerance(kind="outcomes", deterministic=1e-6, device=0.0, why="a test")
BY_VALUE = Tolerance(kind="value", deterministic=1e-6, device=0.02, why="a test")


def number(bits=RIGHT, **fields):
    """An accuracy with its outcomes, unless another value is given."""
    return Recorded(**{"value": float(np.mean(bits)), "unit": "fraction", "n": len(bits), "outcomes": pack_bits(bits)} | fields)


def plain(value, **fields):
    return Recorded(**{"value": value, "unit": "fraction", "n": 100} | fields)


def record(metrics, environment=HERE, **fields):
    given = {"protocols": {"reported": "as told"}, "seeds": {"fold": 0}, "weights": "w" * 64, "problems": "p" * 64}
    given |= {"code": "c" * 64, "date": "2026-01-01", "reason": "held for a test"} | fields
    return Record(environment=environment, metrics=metrics, **given)


def baseline(metrics, *more, tolerance=None):
    held = {name: BY_VALUE if each.outcomes is None else BY_OUTCOMES for name, each in metrics.items()}
    return Baseline(
        schema=1, model="m", claim="c", recorded=[record(metrics), *more], tolerance=held if tolerance is None else tolerance
    )


def turned(lost, gained):
    """RIGHT with that many right ones wrong and wrong ones right."""
    bits = RIGHT.copy()
    bits[np.flatnonzero(RIGHT)[:lost]] = False
    bits[np.flatnonzero(~RIGHT)[:gained]] = True
    return bits


def only(before, proposed, **told):
    found = changes(before, proposed, **told)
    (move,) = found.moves
    assert move in found.listed or (move.word, not move.also) == ("SAME", True)
    return move


# The word is the suite's own.

OLD = (
    number(verdict="SUPPORTED"),
    number(verdict="SUPPORTED", fragile=True),
    plain(0.5),
    plain(0.5, outcomes=None, verdict=None),
)
NEW = (
    *(number(turned(*flips), verdict=word) for flips in ((0, 0), (1, 0), (3, 3), (40, 5)) for word in ("SUPPORTED", "ARTEFACT")),
    *(plain(value) for value in (0.5, 0.5 + 5e-7, 0.51, 0.53, float("nan"))),
    number(RIGHT[:900], verdict="SUPPORTED"),
    number(verdict="SUPPORTED", outcomes=None),
    number(verdict="SUPPORTED", cell={"layer": 1, "latent_pos": 2}),
    number(verdict="SUPPORTED", unit="points"),
)


@pytest.mark.parametrize("same", (True, False))
def test_the_word_is_the_one_that_the_suite_gives(same):
    from codi_bench.claims import Measured
    from codi_bench.rules.validity import Validity, Verdict
    from codi_bench.suite.engine import compare_numbers

    words = []
    for old, new, tolerance in product(OLD, NEW, (BY_OUTCOMES, BY_VALUE, None)):
        before = baseline({"x": old}, tolerance={} if tolerance is None else {"x": tolerance})
        bits = None if new.outcomes is None else unpack_bits(new.outcomes, new.n)
        verdict = new.verdict and Verdict(Validity(new.verdict), "")
        measured = Measured("x", new.value, new.n, new.unit, cell=new.cell, outcomes=bits, verdict=verdict)
        word = only(before, record({"x": new}, HERE if same else GPU)).word
        assert word == compare_numbers("x", measured, old, tolerance, same=same, total=1)[0], (old, new, tolerance)
        words.append(word)
    assert {"SAME", "DRIFTED"} == set(words)


def test_one_flip_is_drift_here_and_noise_elsewhere_and_both_say_what_turned():
    before, new = baseline({"accuracy": number()}), {"accuracy": number(turned(1, 0))}
    here, there = only(before, record(new)), only(before, record(new, GPU))
    assert (here.word, there.word) == ("DRIFTED", "SAME")
    assert here.also["flips"] == there.also["flips"] == "flips b 1, g 0 of 1000, p = 1"
    assert (there.flips.lost, there.flips.gained, there.flips.n, there.flips.p) == (1, 0, 1000, 1.0)
    assert here.units == pytest.approx(-0.001 / 1e-6) and there.units is None
    lost = only(before, record({"accuracy": number(turned(50, 5))}, GPU))
    assert lost.word == "DRIFTED" and lost.flips.p < 1e-6 and lost.difference["value"] == pytest.approx(-0.045)


def test_units_of_noise_are_those_of_the_environment():
    before = baseline({"mean": plain(0.5)})
    assert only(before, record({"mean": plain(0.51)})).units == pytest.approx(1e4)
    assert only(before, record({"mean": plain(0.47)}, GPU)).units == pytest.approx(-1.5)
    listed = [changes(before, record({"mean": plain(0.5 + step)}, GPU)).listed for step in (1e-9, 1e-3)]
    assert [len(moves) for moves in listed] == [0, 1]  # what moved within its tolerance is looked at too


def test_other_problems_are_not_paired_and_other_weights_only_where_the_problems_stay():
    before, new = baseline({"accuracy": number()}), {"accuracy": number(turned(1, 1))}
    problems = only(before, record(new, GPU, problems="q" * 64))
    assert problems.flips is None and problems.word == "DRIFTED"
    weights = record(new, GPU, weights="v" * 64)
    assert only(before, weights).flips.lost == 1 and only(before, weights, own_problems=True).flips is None


@pytest.mark.parametrize(
    ("held", "proposed", "told"),
    [
        ({}, {"problems": "q" * 64}, "problems: pppppppppppp… → qqqqqqqqqqqq…"),
        ({}, {"protocols": {"reported": "other"}}, "protocols, reported: as told → other"),
        ({}, {"seeds": {"fold": 1}}, "seeds, fold: 0 → 1"),
        ({}, {"weights": "d" * 64}, "weights: wwwwwwwwwwww… → dddddddddddd…"),
        ({}, {"partner": "w" * 64}, "partner: none → wwwwwwwwwwww…"),
        ({"partner": "w" * 64}, {}, "partner: wwwwwwwwwwww… → none"),
    ],
)
def test_inputs_that_changed_are_named_old_to_new_and_shown_once_for_all_claims(held, proposed, told):
    before = Baseline(schema=1, model="m", claim="c", recorded=[record({"x": plain(1.0)}, **held)], tolerance={"x": BY_VALUE})
    found = changes(before, record({"x": plain(1.0)}, **proposed))
    assert found.inputs == (told,) and not found.listed
    said = terminal([found] * 3)
    assert said.count(told) == 1 and f"! all claims: {told}" in said and "x" not in said.split()


COMES, GOES = plain(1.0, verdict="SUPPORTED"), plain(1.0, verdict="REFUTED")
FRAGILE = plain(1.0, verdict="SUPPORTED", fragile=True)


@pytest.mark.parametrize(
    ("old", "new", "verdicts", "words"),
    [
        ({"old": GOES}, {"new": COMES}, ("new none → SUPPORTED", "old REFUTED → none"), ["DRIFTED", "DRIFTED"]),
        ({"x": FRAGILE}, {"x": GOES}, ("x SUPPORTED → REFUTED (recorded fragile)",), ["SAME"]),
        (None, {"x": COMES}, (), ["UNCHECKED"]),  # a first record changes no verdict
    ],
)
def test_verdicts_that_change_come_or_go_are_named(old, new, verdicts, words):
    found = changes(baseline(old) if old else Baseline(schema=1, model="m", claim="c"), record(new))
    assert found.verdicts == tuple(f"m c {text}" for text in verdicts)
    assert [move.word for move in found.listed] == words and (found.held is None) == (old is None)


def test_a_word_that_noise_elsewhere_makes_too_is_no_drift_there_and_is_drift_here():
    noisy = BY_OUTCOMES.model_copy(update={"words": ("ARTEFACT",)})
    before = baseline({"x": number(verdict="SUPPORTED")}, tolerance={"x": noisy})
    for where, word in ((GPU, "SAME"), (HERE, "DRIFTED")):
        move = only(before, record({"x": number(verdict="ARTEFACT")}, where))
        assert move.word == word and "verdict SUPPORTED became ARTEFACT" in move.why
    assert only(before, record({"x": number(verdict="REFUTED")}, GPU)).word == "DRIFTED"


def test_the_nearest_record_is_used_and_named_where_the_environment_has_none():
    far = Environment(device="A100", instructions="AVX2", torch="2.9", dtype="bfloat16")
    before = baseline({"x": plain(0.5)}, record({"x": plain(0.9)}, far))
    other = HERE.model_copy(update={"torch": "2.14"})
    found = changes(before, record({"x": plain(0.52)}, other))
    assert (found.same, found.held.environment) == (False, HERE)
    assert "nearest record: cpu, AVX512, torch 2.13, float32" in " ".join(terminal([found]).split())


def test_nulls_cells_and_intervals_that_move_alone_are_listed():
    old, new = Band(value=0.5, p=0.04), Band(value=0.52, p=0.2)
    metrics = {"null": plain(1.0, null=old), "ends": plain(1.0, low=0.9, high=1.1), "kept": plain(1.0, null=old)}
    moved = metrics | {"null": plain(1.0, null=new), "ends": plain(1.0, low=0.8, high=1.1)}
    listed = {move.name: tuple(move.also.values()) for move in changes(baseline(metrics), record(moved)).listed}
    assert listed == {
        "ends": ("interval [0.9, 1.1] → [0.8, 1.1]",),
        "null": ("null 0.5 → 0.52", "null p 0.04 → 0.2"),
    }


@pytest.mark.parametrize("reason", ("", "fixed", "a b", "ok then", "..... ..... .....", "regenerated"))
def test_reasons_that_say_nothing(reason):
    assert weak_reason(reason)
    assert weak_reason("probes fold by story now") is None


# The commands, in a scratch copy outside git unless said.


@pytest.fixture
def scratch(tmp_path):
    """baselines/ with a few real files, report/ with proposals that are equal to them."""
    for name in ("size", "ablation", "probe-best"):
        target = tmp_path / "baselines" / "gpt2-mini" / f"{name}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(package_folder("baselines") / "gpt2-mini" / f"{name}.json", target)
        propose(tmp_path, name, lambda proposed: None)
    return tmp_path


def propose(scratch, claim, change, model="gpt2-mini"):
    """The recorded record, changed, as a proposal."""
    held = json.loads((scratch / "baselines" / "gpt2-mini" / f"{claim}.json").read_text())["recorded"][0] | {"reason": ""}
    change(held)
    path = scratch / "report" / "proposals" / model / f"{claim}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(held))


@pytest.fixture
def command(scratch, monkeypatch, capsys):
    """`codi-bench baselines …` on the scratch folders: (exit status, stdout, stderr)."""
    from codi_bench.cli import main

    def run(*arguments):
        folders = ["--report", str(scratch / "report"), "--baselines", str(scratch / "baselines")]
        monkeypatch.setattr(sys, "argv", ["codi-bench", "baselines", *arguments, *folders])
        with pytest.raises(SystemExit) as stopped:
            main()
        said = capsys.readouterr()
        return stopped.value.code or 0, said.out, said.err

    return run


def held_bytes(scratch):
    return {path: path.read_bytes() for path in sorted((scratch / "baselines").rglob("*")) if path.is_file()}


def layers(to):
    return lambda proposed: proposed["metrics"]["layers"].update(value=to)


def verdict(metric, to):
    return lambda proposed: proposed["metrics"][metric].update(verdict=to)


WHY = "layers are counted with the projection now"


def test_diff_lists_what_changed_and_counts_the_rest(command, scratch):
    propose(scratch, "size", layers(5))
    propose(scratch, "ablation", verdict("drop_4", "ARTEFACT"))
    status, out, err = command("diff")
    said = " ".join(out.split())
    assert (status, err) == (0, "") and max(map(len, out.splitlines())) <= 100 and "\x1b" not in out
    assert "layers 4 5 +1 +1e+06 DRIFTED" in said and "drop_4 11 11 0 0 DRIFTED verdict SUPPORTED → ARTEFACT" in said
    assert "width" not in said and "probe-best" not in said
    total = sum(len(json.loads(p.read_text())["recorded"][0]["metrics"]) for p in (scratch / "baselines").rglob("*.json"))
    assert (
        f"{total} numbers of 3 claims: {total - 2} as recorded, 2 DRIFTED; changed verdicts: 1; claims with changed inputs: 0"
        in said
    )
    assert "sound width 104 104 0 0 SAME" in " ".join(command("diff", "--all")[1].split())
    assert "drop_4" not in command("diff", "--claim", "size")[1]


def test_accept_writes_date_and_reason_and_then_nothing_differs(command, scratch):
    propose(scratch, "size", layers(5))
    status, out, err = command("accept", "--reason", f"  {WHY}\n")
    assert status == 0 and len(out.splitlines()) == 3 and "is in no git repository" in err
    held = load_baseline(scratch / "baselines", "gpt2-mini", "size").recorded[0]
    assert (held.reason, held.metrics["layers"].value) == (WHY, 5) and held.date > "2026-01-01"
    assert command("diff")[1].count("DRIFTED") == 0 and not list((scratch / "baselines").glob(".*"))


def by_hand():
    """The reported part of a file that people wrote: integers, and a layout of its own."""
    text = (package_folder("baselines") / "gpt2" / "size.json").read_text()
    return text[text.index('"reported": {') :].split('"schema"')[0]


ODD = """"reported": {"layers": {"case": "fact", "value": 12.50, "unit": "count", "n": null,
   "protocol": "\\"reported\\": {", "source": "s", "place": "p"}},
 """


@pytest.mark.parametrize("reported", (by_hand(), ODD), ids=("a real one", "an odd one"))
def test_the_reported_part_stays_byte_for_byte(command, scratch, reported):
    path = scratch / "baselines" / "gpt2-mini" / "size.json"
    path.write_text(path.read_text().replace('"reported": {},\n ', reported))
    before = load_baseline(scratch / "baselines", "gpt2-mini", "size")
    propose(scratch, "size", layers(5))
    assert before.reported and command("accept", "--reason", WHY)[0] == 0
    after = load_baseline(scratch / "baselines", "gpt2-mini", "size")
    assert reported.encode() in path.read_bytes() and after.reported == before.reported and after.recorded != before.recorded


REFUSED = {
    "no reason": (("--reason", ""), "needs at least 2 words"),
    "one word": (("--reason", "regenerated"), "needs at least 2 words"),
    "verdict": (("--reason", WHY), "1 verdict would change: gpt2-mini ablation drop_4 SUPPORTED → ARTEFACT; look at"),
    "model": (("--reason", WHY, "--model", "gpt2-mimi"), "did you mean 'gpt2-mini'?"),
    "claim": (("--reason", WHY, "--claim", "sise"), "did you mean 'size'?"),
}


def refused(command, scratch, *arguments):
    """What accept says where it writes nothing."""
    before = held_bytes(scratch)
    status, out, err = command("accept", *arguments)
    assert (status, out) == (2, "") and held_bytes(scratch) == before
    return err


@pytest.mark.parametrize("what", REFUSED)
def test_accept_refuses_in_one_line_and_writes_nothing(command, scratch, what):
    propose(scratch, "size", layers(5))
    propose(scratch, "ablation", verdict("drop_4", "ARTEFACT"))
    arguments, message = REFUSED[what]
    err = refused(command, scratch, *arguments)
    assert message in err and err.count("\n") == 1


def test_records_of_an_installed_package_are_left_and_a_folder_of_ones_own_is_named(monkeypatch, capsys, scratch):
    from codi_bench.cli import baselines, main

    monkeypatch.setattr(baselines, "is_installed", lambda: True)
    for own, status in ((), 2), (("--baselines", str(scratch / "baselines")), 0):
        arguments = ["accept", "--reason", WHY, "--report", str(scratch / "report"), *own]
        monkeypatch.setattr(sys, "argv", ["codi-bench", "baselines", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert (stopped.value.code or 0) == status
        assert ("--baselines" in capsys.readouterr().err) == bool(status)


def test_verdicts_that_appear_or_vanish_are_refused_too_unless_told(command, scratch):
    def change(proposed):
        proposed["metrics"]["drop_9"] = proposed["metrics"].pop("drop_4")

    propose(scratch, "ablation", change)
    status, _, err = command("accept", "--reason", WHY)
    assert status == 2 and "drop_9 none → SUPPORTED" in err and "drop_4 SUPPORTED → none" in err
    assert command("accept", "--reason", WHY, "--claim", "size")[0] == 0  # another claim is not held up by it
    assert command("accept", "--reason", WHY, "--verdicts-changed")[0] == 0
    after = load_baseline(scratch / "baselines", "gpt2-mini", "ablation")
    assert "drop_9" in after.recorded[0].metrics and "drop_4" not in after.tolerance


DAMAGE = {
    "proposal is no JSON": ("report/proposals/gpt2-mini/size.json", "{", "the file: "),
    "proposal lacks a field": ("report/proposals/gpt2-mini/size.json", '{"code": ""}', "environment: Field required"),
    "baseline is damaged": ("baselines/gpt2-mini/size.json", "{}", "model: Field required"),
    "a number is NaN": (
        "report/proposals/gpt2-mini/size.json",
        lambda text: text.replace('"value": 5}', '"value": NaN}'),
        "NaN is not a finite number",
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_all_files_or_none(command, scratch, what):
    """ablation, which comes first, is sound, and is not written either."""
    propose(scratch, "size", layers(5))
    propose(scratch, "ablation", lambda proposed: proposed["metrics"]["drop_4"].update(decide=12))
    file, text, message = DAMAGE[what]
    path = scratch / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(text(path.read_text()) if callable(text) else text)
    err = refused(command, scratch, "--reason", WHY)
    assert message in err and path.name in err
    assert [line for line in err.splitlines() if line.startswith("codi-bench: ")][-1] == err.splitlines()[-1]


def test_a_write_that_fails_leaves_every_file_as_it_was(command, scratch, monkeypatch):
    """The disk is full when the third file is written: the first two have not taken their places yet."""
    from codi_bench.records import proposals

    calls = []

    def full(folder, held):
        calls.append(held.claim)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        return save(folder, held)

    save = proposals.save_baseline
    monkeypatch.setattr(proposals, "save_baseline", full)
    assert "No space left on device" in refused(command, scratch, "--reason", WHY) and len(calls) == 3


def test_only_the_record_of_the_same_environment_is_replaced(command, scratch):
    def on_gpu(proposed):
        proposed["environment"] = GPU.model_dump()
        proposed["metrics"]["layers"]["value"] = 6

    before = load_baseline(scratch / "baselines", "gpt2-mini", "size").recorded
    propose(scratch, "size", on_gpu)
    assert "nearest record: cpu" in " ".join(command("diff")[1].split())
    assert command("accept", "--reason", WHY, "--claim", "size")[0] == 0
    both = load_baseline(scratch / "baselines", "gpt2-mini", "size").recorded
    assert len(both) == len(before) + 1 and all(record in both for record in before)
    assert {r.environment.device for r in both} == {"cpu", "H100"}
    assert command("accept", "--reason", f"{WHY}, again", "--claim", "size")[0] == 0
    again = load_baseline(scratch / "baselines", "gpt2-mini", "size").recorded
    assert len(again) == len(both) and all(record in again for record in before)
    assert any(record.reason.endswith("again") for record in again)


def test_nothing_proposed_and_no_such_folder_are_said(command, scratch):
    shutil.rmtree(scratch / "report")
    assert command("diff")[0] == 2 and "there are no proposals" in command("accept", "--reason", WHY)[2]
    shutil.rmtree(scratch / "baselines")
    assert "no such folder" in command("diff")[2]


# Around a git tree.


@pytest.fixture
def tree(scratch, monkeypatch):
    """The scratch folder as a git repository with everything but the report committed; git commands by words."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)

    def git(*arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(scratch), *who, *arguments], check=True, capture_output=True)

    git("init", "-q")
    (scratch / "code.py").write_text("x = 1\n")
    git("add", "baselines", "code.py")
    git("commit", "-q", "-m", "first")
    return git


def test_a_tree_with_changes_only_in_the_baselines_is_clean(command, scratch, tree):
    (scratch / "baselines" / "note.txt").write_text("untracked, but inside")
    propose(scratch, "size", layers(5))
    status, _, err = command("accept", "--reason", WHY)
    assert (status, err) == (0, "")
    assert command("accept", "--reason", WHY)[0] == 0  # what was just accepted does not stand in the way


@pytest.mark.parametrize("how", ("changed", "staged", "untracked", "beside a like name"))
def test_a_dirty_tree_is_refused_unless_told(command, scratch, tree, how):
    names = {"untracked": "new.py", "beside a like name": "baselines-old/x.json"}
    path = scratch / names.get(how, "code.py")
    path.parent.mkdir(exist_ok=True)
    path.write_text("x = 2\n")
    if how == "staged":
        tree("add", "code.py")
    err = refused(command, scratch, "--reason", WHY)
    assert err.count("\n") == 1 and path.relative_to(scratch).parts[0] in err and "--dirty" in err
    assert command("accept", "--reason", WHY, "--dirty")[0] == 0


def test_without_git_nothing_is_checked_and_that_is_said(command, scratch, tree, monkeypatch):
    (scratch / "code.py").write_text("x = 2\n")
    monkeypatch.setenv("PATH", str(scratch))
    status, _, err = command("accept", "--reason", WHY)
    assert status == 0 and "changes were not checked: git cannot be run" in err


def test_a_repository_that_git_refuses_to_read_stops_accept(command, scratch, tree):
    (scratch / ".git" / "config").write_text("[core\n")
    err = refused(command, scratch, "--reason", WHY)
    assert "git cannot list its changes" in err and "--dirty" in err


def test_the_record_of_an_installed_package_is_not_held_to_the_tree_around_it(command, scratch, tree):
    tree("rm", "-r", "-q", "--cached", "baselines")
    (scratch / ".gitignore").write_text("baselines/\n")
    status, _, err = command("accept", "--reason", WHY)
    assert status == 0 and "git ignores" in err
