"""Released files: recognised by content, measured without weights, and named where they are missing."""

import shutil

import pytest

import codi_bench
from codi_bench.claims import CLAIMS
from codi_bench.claims.claim import claim
from codi_bench.claims.on_files import on_released
from codi_bench.errors import ProblemError, UnknownNameError
from codi_bench.records.baseline import RELEASED, Environment, load_baseline, save_baseline
from codi_bench.store.files import file_hash, package_folder
from codi_bench.suite.released_bench import released_in
from codi_bench.suite.suite import Suite
from codi_bench.thoughts.decoded import decoded_latent
from codi_bench.thoughts.released import RELEASED as KNOWN
from codi_bench.thoughts.released import Repository, released
from tests.test_decoded import written

SUM = decoded_latent.sha256


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with other files and one that is taken for the released log, whatever it is called."""
    path = tmp_path / "theirs" / "deep" / "renamed.bin"
    path.parent.mkdir(parents=True)
    path.write_text(written(40), encoding="utf-8")
    (tmp_path / "theirs" / "README.md").write_text("about it")
    monkeypatch.setitem(KNOWN, file_hash(path), decoded_latent)
    return tmp_path / "theirs"


def test_a_released_file_is_known_by_its_content(folder):
    assert released_in([folder]) == {decoded_latent: folder / "deep" / "renamed.bin"}
    copy = shutil.copy(folder / "deep" / "renamed.bin", folder / "again.txt")
    assert released_in([folder / "again.txt"]) == {decoded_latent: folder / "again.txt"}
    with open(copy, "a") as file:
        file.write(" ")
    with pytest.raises(ProblemError, match="none of 1 file there is a released one as it was published"):
        released_in([folder / "again.txt"])


@pytest.mark.parametrize(("encoding", "newline"), [("utf-8-sig", "\n"), ("utf-8", "\r\n"), ("utf-16", "\r\n")])
def test_a_copy_with_another_encoding_or_line_ends_is_called_one(folder, tmp_path, encoding, newline):
    (tmp_path / "copy.txt").write_text(written(40), encoding=encoding, newline=newline)
    what = "copy.txt is outputs/decoded_latent.txt of github.com/zhenyi4/codi with a different encoding or different line ends"
    with pytest.raises(ProblemError, match=what):
        released_in([tmp_path / "copy.txt"])
    with pytest.raises(ProblemError, match=what):
        Suite(models=["codi-gpt2"], logs=[f"codi-gpt2={tmp_path / 'copy.txt'}"], report=tmp_path)
    (tmp_path / "copy.txt").write_text(written(39))
    with pytest.raises(ProblemError, match="published; docs/released.md lists"):
        released_in([tmp_path / "copy.txt"])


def test_a_path_that_is_not_there_is_said(tmp_path):
    with pytest.raises(ProblemError, match="--released .*nowhere: no such file or folder"):
        Suite(released=[tmp_path / "nowhere"], report=tmp_path)


def test_a_file_that_cannot_be_read_is_named(folder, monkeypatch):
    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("codi_bench.suite.released_bench.file_hash", refused)
    with pytest.raises(ProblemError, match=r"--released .*theirs: .*README.md: cannot be read \(Permission denied\)"):
        released_in([folder])


def test_released_files_ask_for_the_models_and_claims_that_they_tell_of(folder, tmp_path):
    suite = Suite(released=[folder], report=tmp_path)
    assert [model.name for model in suite.asked_models] == ["gpt2-mini", "llama-mini", "gpt2"]
    gpt2 = suite.asked_models[-1]
    assert suite.names(gpt2, CLAIMS["log-count"]) and not suite.names(gpt2, CLAIMS["scratch-single"])
    named = Suite(models=["codi-gpt2"], released=[folder], report=tmp_path)
    assert [model.name for model in named.asked_models] == ["gpt2"]


def test_numbers_of_a_file_say_where_they_come_from_and_are_compared_with_records_of_files(folder):
    found = codi_bench.run("gpt2", "log-count", released=folder, progress=False)
    assert {(row.model, row.origin, row.status) for row in found.rows} == {("gpt2", "released", "ok")}
    assert {row.detail["files"][0] for row in found.rows} == {decoded_latent.where}
    assert {row.detail["unknown"] for row in found.rows} == {decoded_latent.unknown}
    assert {row.regression for row in found.rows} == {"DRIFTED"}  # 40 made-up answers are not the 582 recorded ones


def test_without_the_file_a_row_says_which_it_needs_and_what_was_recorded():
    found = codi_bench.run("gpt2", "log-count", device="cuda", progress=False)
    assert {row.status for row in found.rows} == {"not-run"}
    assert all("outputs/decoded_latent.txt of github.com/zhenyi4/codi, given with --released" in row.reason for row in found.rows)
    assert {row.metric: row.recorded["value"] for row in found.rows if row.protocol == "reported"}["right_float"] == 576


def test_what_was_run_and_what_was_released_are_never_compared():
    baseline = load_baseline(package_folder("baselines"), "gpt2", "log-count")
    (record,) = baseline.recorded
    assert record.environment.device == RELEASED and record.files == {decoded_latent.where: SUM}
    assert baseline.nearest(record.environment) == (record, True)
    assert baseline.nearest(Environment(device="cpu", instructions="AVX2", torch="2.13", dtype="float32")) == (None, False)


def test_a_run_has_nothing_to_be_compared_with_where_only_a_released_record_is(tmp_path):
    """gpt2-mini's own record goes under `released`: an embedded model without a record is red."""
    folder = shutil.copytree(package_folder("baselines"), tmp_path / "baselines")
    baseline = load_baseline(folder, "gpt2-mini", "size")
    theirs = baseline.recorded[0].environment.model_copy(update={"device": RELEASED})
    record = baseline.recorded[0].model_copy(update={"environment": theirs, "files": {"a": "b"}})
    save_baseline(folder, baseline.model_copy(update={"recorded": [record]}))
    suite = Suite(models=["gpt2-mini"], baselines=folder, report=tmp_path / "report")
    outcome = suite.measure(suite.asked_models[0], CLAIMS["size"])
    assert outcome.word == "red" and "nothing is recorded for this embedded model" in outcome.lines[0]


def test_a_claim_on_files_alone_has_no_row_of_a_model_that_they_do_not_tell_of(tmp_path, monkeypatch):
    suite = Suite(models=["gpt2-mini", "gpt2", "sim-cot-gpt2"], report=tmp_path)
    monkeypatch.setattr("codi_bench.claims.claim.CLAIMS", dict(CLAIMS))
    words = {"family": "size", "kind": "fact", "n": 1, "protocol": "p", "sound": "s"}

    @claim("planted", "test", **words, files={"sim-cot-gpt2": (decoded_latent,)}, runs=False)
    def planted(bench, published):
        """It is so."""

    from codi_bench.claims import claim as module

    assert [model.name for model in suite.asked_models if suite.takes(model, module.CLAIMS["planted"])] == ["sim-cot-gpt2"]
    outcome = suite.measure(suite.asked_models[2], module.CLAIMS["planted"])
    assert outcome.word == "not-run" and outcome.lines[0].startswith(
        "needs outputs/decoded_latent.txt of github.com/zhenyi4/codi"
    )


def test_a_released_file_and_a_second_way_to_read_a_claim_are_registered_once():
    with pytest.raises(ValueError, match="decoded_latent has that sha256 already"):
        released(Repository("a/b"), "c", SUM)(print)
    with pytest.raises(ValueError, match="'log-count': it is measured on released files already"):
        on_released("log-count", {}, protocol="p", sound="s")(print)


def test_a_model_of_which_only_outcomes_are_known_is_known_by_name(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'sim-cot-gpt2'"):
        Suite(models=["sim-cot-gtp2"], report=tmp_path)
