"""The day on a GPU, tried without one: every block on tiny shapes, and a day of planted blocks that fail, hang and go on."""

import json
import os
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import pytest

from benchmarks.gpu_day import __main__ as day
from benchmarks.gpu_day import blocks, runner
from benchmarks.gpu_day.enlarged import SIZES
from benchmarks.gpu_day.runner import DONE, FAILED, LATE, MET, NOT_JUDGED, NOT_MEASURED, NOT_RUN, SHORT, Bar, Block
from codi_bench.models.loading import load
from codi_bench.problems import generate
from codi_bench.records.proposals import read_proposals
from codi_bench.store.files import package_folder

H200, OTHER = "NVIDIA H200", "NVIDIA A100-SXM4-80GB"


def results(out):
    return {path.stem: json.loads(path.read_text()) for path in (out / "results").glob("*.json")}


def has_ended(pid):
    return not Path(f"/proc/{pid}").exists() or "State:\tZ" in Path(f"/proc/{pid}/status").read_text()


def until(happened, seconds):
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


# Every block, on tiny shapes


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A day on tiny shapes, as `tox -e gpu-day -- --tiny --device cpu` has it, on a machine without `datasets`; its arguments."""
    out, without = tmp_path_factory.mktemp("day"), tmp_path_factory.mktemp("without")
    (without / "datasets.py").write_text("raise ImportError('not installed')")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PYTEST_XDIST")]:
            patch.delenv(name)  # pytest-benchmark times nothing in a worker, and these tests run in some
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(without), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]))
        arguments = ["--tiny", "--device", "cpu", "--out", str(out)]
        assert day.main(arguments) == 0, {name: result["reason"] for name, result in results(out).items()}
        yield out, arguments


def test_every_block_is_done_and_says_where(tiny):
    found = results(tiny[0])
    assert {"facts", "pair", "shape-gpt2", "study-llama-3.2-1b", "probes", "training", "adapter", "records"} < found.keys()
    assert {result["state"] for result in found.values()} == {DONE} and all(result["figures"] for result in found.values())
    for result in found.values():
        assert {"device", "instructions", "torch", "cuda", "code", "threads"} <= result["environment"].keys()
        assert result["environment"]["device"] == "cpu" and result["options"]["tiny"] is True
    assert found["pair"]["figures"]["UNCHECKED"] == 16  # eight problems are no record
    assert found["probes"]["figures"]["differ from CPU"] == found["probes"]["figures"]["differ from scikit-learn"] == 0
    assert found["facts"]["figures"]["broken"] == "nothing"


def test_no_bar_is_met_that_was_not_measured_on_a_gpu(tiny):
    words = [word for result in results(tiny[0]).values() for word in result["bars"].values()]
    assert words == [NOT_JUDGED] * 5


def test_what_is_done_is_shown_again_and_not_measured(tiny, monkeypatch, capsys):
    monkeypatch.setattr(runner, "run", lambda *_: pytest.fail("measured again"))
    assert day.main(tiny[1]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 50 and {"facts", "training", "records"} <= {line.partition(" ")[0] for line in lines}


def test_proposals_lie_where_baselines_diff_finds_them(tiny):
    records, (speeds,) = read_proposals(tiny[0], package_folder("baselines"))
    assert {record.record.environment.device for record in records} == {"cpu"}
    assert {record.before.model for record in records} == {"gpt2-mini", "llama-mini", "smollm2-135m"}
    assert [line.partition(":")[0] for line in speeds.changes] == ["UNCHECKED"] * 2


@pytest.mark.parametrize("name", SIZES)
def test_an_enlarged_model_answers_as_the_small_one(tiny, name):
    published = next(full for full, (mini, _) in blocks.FULL_SIZE.items() if mini == name)
    large, small = load(tiny[0] / f"study-{published}" / "model", device="cpu"), load(name, device="cpu")
    assert large.codi.width == 2 * small.codi.width and large.codi.num_layers == 8
    questions = [problem.question for problem in generate(40)]
    answers, expected = (model.think(questions, max_new_tokens=8).answers.tokens for model in (large, small))
    assert answers == expected and len(set(expected)) > 10


# A day of planted blocks


@pytest.fixture
def planted(monkeypatch, tmp_path):
    """A function (blocks, code, *arguments) → exit status and results of a day with these blocks under that code."""

    def run(planted, code="one", *arguments, device="cpu"):
        monkeypatch.setattr(day, "blocks", lambda *_: planted)
        monkeypatch.setattr(day, "environment", lambda _: {"device": device, "code": code})
        return day.main(["--out", str(tmp_path / "day"), "--minutes", "0.05", *arguments]), results(tmp_path / "day")

    return run


def block(name, source, read=lambda *_: {"seconds": 5.0}, **fields):
    return Block(name, [(sys.executable, "-I", "-S", "-c", source)], read, **fields)


def counting(path, then=""):
    """Source that adds a letter to a file, and then does something."""
    return f"open({str(path)!r}, 'a').write('x'); {then}"


def test_one_that_fails_or_hangs_is_recorded_with_its_reason_and_the_next_goes_on(planted, tmp_path):
    child = "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
    hangs = child + f"open({str(tmp_path / 'pid')!r}, 'w').write(str(p.pid)); p.wait()"
    status, found = planted(
        [
            block("fails", "print('no weights'); raise SystemExit(3)", bars=[Bar("seconds", 10, -1)]),
            block("hangs", hangs),
            block("empty", "", read=lambda folder, _: json.loads((folder / "none.json").read_text())),
            block("ends with 1", "raise SystemExit(1)", codes=(0, 1)),
        ],
        device=H200,
    )
    states = {name: result["state"] for name, result in found.items()}
    assert status == 1 and states == {"fails": FAILED, "hangs": LATE, "empty": FAILED, "ends with 1": DONE}
    assert found["fails"]["reason"] == "status 3: no weights" and found["fails"]["bars"] == {"seconds ≤ 10": NOT_MEASURED}
    assert "limit of 3 s; give more --minutes" in found["hangs"]["reason"] and "none.json" in found["empty"]["reason"]
    until(lambda: has_ended(int((tmp_path / "pid").read_text())), 5)  # what it had started, as soon as init has noticed


def test_only_what_is_missing_is_measured_again_and_all_of_it_under_other_code_or_options(planted, tmp_path):
    good, bad = tmp_path / "good", tmp_path / "bad"
    two = [block("good", counting(good)), block("bad", counting(bad, "raise SystemExit(2)"))]

    def starts():
        return good.stat().st_size, bad.stat().st_size

    planted(two)
    assert planted(two)[0] == 1 and starts() == (1, 2)
    planted(two, "another")
    assert starts() == (2, 3)
    planted(two, "another", "--train", "more.jsonl")
    assert starts() == (3, 4)
    planted(two, "another", "--train", "more.jsonl", device=OTHER)
    assert starts() == (4, 5)
    (tmp_path / "day" / "results" / "good.json").write_text("{}]")
    planted(two, "another", "--train", "more.jsonl", "--only", "good", device=OTHER)
    assert starts() == (5, 5)
    mended = [two[0], block("bad", counting(bad))]
    assert planted(mended, "another", "--train", "more.jsonl", device=OTHER)[0] == 0 and starts() == (5, 6)


def test_what_goes_on_by_itself_gets_several_slices(planted, tmp_path):
    tries = tmp_path / "tries"
    source = counting(tries, f"import time; time.sleep(60 * (len(open({str(tries)!r}).read()) < 3))")
    assert planted([block("two", source, slices=2)], "one", "--minutes", "0.02")[1]["two"]["state"] == LATE
    assert planted([block("two", source, slices=2)], "one", "--minutes", "0.02")[0] == 0 and tries.read_text() == "xxx"


def test_what_reads_the_files_of_another_block_is_measured_again_after_it(planted, tmp_path):
    first, last = tmp_path / "first", tmp_path / "last"

    def day_of(source):
        return [block("first", counting(first, source)), block("other", ""), block("last", counting(last), after=["first"])]

    planted(day_of("raise SystemExit(2)"))
    assert planted(day_of(""))[0] == 0 and (first.read_text(), last.read_text()) == ("xx", "xx")
    assert planted(day_of(""))[0] == 0 and (first.read_text(), last.read_text()) == ("xx", "xx")
    (tmp_path / "day" / "results" / "other.json").unlink()
    assert planted(day_of(""))[0] == 0 and last.read_text() == "xx"


def test_what_goes_on_by_itself_keeps_its_folder_but_not_its_last_result(planted, tmp_path):
    """A training that fails must leave no model of before, which the next block would measure."""
    source = "from pathlib import Path; Path('work').touch(); Path('model').mkdir(); Path('model', 'weights').touch()"
    planted([block("training", source, slices=2, cleared="model")])
    folder = tmp_path / "day" / "training"
    assert {"work", "model"} < {path.name for path in folder.iterdir()}
    planted([block("training", "raise SystemExit(2)", slices=2, cleared="model")], "another")
    assert (folder / "work").is_file() and not (folder / "model").exists()
    planted([block("training", "raise SystemExit(2)")], "another")
    assert not (folder / "work").exists()


@pytest.mark.parametrize(
    ("statuses", "reason", "words"),
    [
        (("ok", "blocked"), "a control fails", {"SAME": 1, "blocked": 1}),
        (("blocked", "blocked"), "preflight: 3 % is too little", "3 % is too little"),
        (("not-run", "not-run"), "not downloaded", "not downloaded"),
        (("ok", "blocked"), "CUDA out of memory. Tried to allocate 2 GiB", "out of memory"),
    ],
)
def test_a_study_that_measured_nothing_is_not_fast(planted, tmp_path, statuses, reason, words):
    table = [
        {"claim": "lens", "model": "gpt2", "status": status, "regression": "SAME", "reason": "" if status == "ok" else reason}
        for status in statuses
    ]
    source = f"open('results.json', 'w').write({json.dumps({'rows': table})!r})"
    (result,) = planted([block("study", source, read=blocks.rows, bars=[Bar("seconds", 60, -1)])], device=H200)[1].values()
    if isinstance(words, dict):
        assert result["state"] == DONE and words.items() < result["figures"].items() and result["bars"]["seconds ≤ 60"] == MET
    else:
        assert result["state"] == FAILED and words in result["reason"] and result["bars"]["seconds ≤ 60"] == NOT_MEASURED


def test_a_day_that_is_ended_ends_what_it_had_started(tmp_path):
    child = [
        sys.executable,
        "-S",
        "-c",
        f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)",
    ]
    here = [sys.executable, "-S", "-c", "print('{}')"]
    source = f"""
import runpy, sys
from benchmarks.gpu_day import blocks, runner
blocks.PARTS, blocks.blocks = {here!r}, lambda *_: [runner.Block("long", [{child!r}], None)]
sys.argv = ["gpu_day", "--out", {str(tmp_path / "day")!r}]
runpy.run_module("benchmarks.gpu_day.__main__", run_name="__main__")
"""
    process = subprocess.Popen([sys.executable, "-c", source], cwd=runner.ROOT)
    until(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text(), 60)
    process.terminate()
    assert process.wait(30) == 143 and not results(tmp_path / "day")
    until(lambda: has_ended(int((tmp_path / "pid").read_text())), 5)


@pytest.mark.parametrize(
    ("device", "tiny", "seconds", "word"),
    [
        ("NVIDIA H100 80GB HBM3", False, 10.0, MET),
        (H200, False, 9.9, MET),
        (H200, False, 10.1, SHORT),
        (H200, False, None, NOT_MEASURED),
        (H200, True, 1.0, NOT_JUDGED),
        (OTHER, False, 1.0, NOT_JUDGED),
        ("cpu", False, 1.0, NOT_JUDGED),
    ],
)
def test_bars_are_judged_on_an_h100_class_gpu_alone(device, tiny, seconds, word):
    figures = {} if seconds is None else {"seconds": seconds}
    assert Bar("seconds", 10, -1).word(figures, device, tiny=tiny) == word
    ratios = {"ratio": 1000 / seconds} if seconds else {}
    assert Bar("ratio", 100).word(ratios, device, tiny=tiny) == word


def test_a_block_without_a_result_is_not_run(planted, capsys):
    two = [block("one", ""), block("two", "")]
    assert planted(two, "one", "--only", "two")[0] == 1
    one, two = capsys.readouterr().out.splitlines()[1:]
    assert NOT_RUN in one and DONE in two


def test_what_is_given_goes_to_the_blocks_that_take_it(tmp_path):
    options = {"device": "cuda", "tiny": False, "train": ["last.jsonl"], "problems": ["gsm8k=/test.jsonl"]}
    options |= {"model": ["gpt2=/codi"], "base": ["gpt2=/base", "llama-3.2-1b=/other"]}
    commands = {each.name: each.commands for each in blocks.blocks(Namespace(**options), tmp_path)}
    (command,) = commands["study-gpt2"]
    assert {"gpt2=/codi", "gpt2=/base", "gsm8k=/test.jsonl", "1000"} < {*command} and "llama-3.2-1b=/other" not in command
    assert commands["study-llama-3.2-1b"][0][3] == "enlarge"
    assert {"llama-3.2-1b=/other", "gsm8k=/test.jsonl"} < {*commands["shape-llama-3.2-1b"][0]}
    train = commands["training"][-1]
    assert [train[i + 1] for i, word in enumerate(train) if word == "--steps"] == ["4000", "8000", "1200"]
    assert [Path(train[i + 1]).name for i, word in enumerate(train) if word == "--problems"] == [
        *("generated-train-200000.jsonl", "gsm-symbolic-train-80000.jsonl", "last.jsonl"),
    ]
