"""What is released: one version, a wheel and an sdist of known contents, and the wheel alone in an empty environment."""

import datetime
import email
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import distributions
from pathlib import Path

import pytest
import yaml

import codi_bench
from codi_bench.models.registry import EMBEDDED

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REPOSITORY = PROJECT["urls"]["Repository"]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
# What of a checkout no release holds: it is of use to those who develop it.
NOT_IN_SDIST = ("tests/", "codi_bench/controls/", ".github/", ".ci/", ".pre-commit-config.yaml")
MB = 10**6


# One version


def test_changelog_and_citation_are_of_this_version():
    sections = re.findall(r"^## \[([^\]]+)\](?: - (\S+))?$", CHANGELOG, re.MULTILINE)
    assert sections[0] == ("Unreleased", "")
    (version, date), *earlier = sections[1:]
    assert version == codi_bench.__version__ == CITATION["version"]
    assert datetime.date.fromisoformat(date) == CITATION["date-released"]
    dates = [date, *(before for _, before in earlier)]
    assert earlier and dates == sorted(dates, reverse=True)


def test_the_citation_has_what_its_format_requires():
    assert CITATION["cff-version"] == "1.2.0" and CITATION.keys() >= {"message", "title", "authors"}
    assert all(author["name"] for author in CITATION["authors"])
    assert CITATION["license"] == PROJECT["license"] and CITATION["repository-code"] == REPOSITORY


def test_the_repository_has_one_address():
    owner, name = REPOSITORY.rsplit("/", 2)[1:]
    pages = [
        ROOT / "pyproject.toml",
        ROOT / "CITATION.cff",
        *ROOT.glob("*.yml"),
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
    ]
    address = re.compile(rf"(?:github\.com/|githubusercontent\.com/|uses: )([\w.-]+)/{name}\b")
    owners = {path.name: {*address.findall(path.read_text(encoding="utf-8"))} for path in pages}
    assert {path: others for path, others in owners.items() if others - {owner}} == {}
    assert owners["pyproject.toml"] and owners["CITATION.cff"]


def test_the_pythons_are_those_of_the_classifiers():
    pythons = [name.rpartition(" ")[2] for name in PROJECT["classifiers"] if re.search(r":: 3\.\d", name)]
    assert pythons[0] == PROJECT["requires-python"].removeprefix(">=") and "3.13" in pythons


# Wheel and sdist


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of an sdist and of the wheel built from it; before a release, of the files that will be published."""
    if ready := os.environ.get("CODI_BENCH_DIST"):
        return ROOT / ready
    target = tmp_path_factory.mktemp("dist")
    _build(ROOT, target)
    return target


def _build(source, target, *options):
    command = [sys.executable, "-m", "build", "--no-isolation", *options, "--outdir", target, source]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(folder):
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def sdist(folder):
    (path,) = folder.glob("*.tar.gz")
    return path


def contents(wheel):
    """Names of the files of a wheel with the sha256 of each."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}


def names(sdist):
    with tarfile.open(sdist) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


def listed(*options):
    """Files that git knows."""
    done = subprocess.run(["git", "ls-files", *options], cwd=ROOT, capture_output=True, text=True, check=True)
    return {*done.stdout.splitlines()}


def test_the_wheel_has_the_package_its_weights_and_its_records_and_nothing_else(wheel):
    info = f"codi_bench-{codi_bench.__version__}.dist-info/"
    inside = [name.removeprefix("codi_bench/") for name in contents(wheel) if not name.startswith(info)]
    files = [path for name in ("codi_bench", "benchmarks", "baselines") for path in (ROOT / name).rglob("*") if path.is_file()]
    expected = [path.relative_to(ROOT).as_posix().removeprefix("codi_bench/") for path in files if path.suffix != ".pyc"]
    expected = [name for name in expected if not name.startswith("controls/")]
    assert sorted(inside) == sorted(expected)
    weights = {f"embedded/{name}/model.safetensors" for name in EMBEDDED}
    assert len(weights) == 2
    assert weights | {
        "py.typed",
        "benchmarks/test_size.py",
        "baselines/gpt2-mini/size.json",
        "report/templates/page.html.jinja",
    } <= {*inside}
    assert not any(re.search(r"(^|/)(tests|controls|docs|\.\w+|__pycache__)(/|$)", name) for name in inside)
    assert {Path(name).suffix for name in inside} == {".py", ".typed", ".json", ".md", ".css", ".jinja", ".safetensors"}
    assert info + "licenses/LICENSE" in contents(wheel)


def test_neither_is_large(wheel, sdist):
    with zipfile.ZipFile(wheel) as archive:
        assert max(file.file_size for file in archive.filelist) < 6 * MB
    assert wheel.stat().st_size < 9 * MB and sdist.stat().st_size < 9 * MB


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="NOT A CHECKOUT: git does not tell what belongs to it")
def test_the_sdist_has_every_file_of_the_checkout_but_tests_controls_and_those_of_github(sdist):
    """Where this fails, name the new file in pyproject.toml, below the target sdist, or in NOT_IN_SDIST here."""
    tracked = {name for name in listed() if not name.startswith(NOT_IN_SDIST)}
    assert not any(name.startswith(("tests/", "codi_bench/controls/")) for name in names(sdist))
    assert len(tracked) > 500 and tracked <= names(sdist)
    assert names(sdist) - {"PKG-INFO"} - tracked <= listed("--others", "--exclude-standard")


def test_the_sdist_builds_the_wheel_that_the_checkout_builds(wheel, sdist, tmp_path):
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "sdist", filter="data")
    sources = {"checkout": ROOT, "sdist": next((tmp_path / "sdist").iterdir())}
    for name, source in sources.items():
        _build(source, tmp_path / name / "dist", "--wheel")
        (built,) = (tmp_path / name / "dist").glob("*.whl")
        assert contents(built) == contents(wheel), name


def test_pypi_takes_both_and_renders_the_readme(wheel, sdist):
    done = subprocess.run([sys.executable, "-m", "twine", "check", "--strict", wheel, sdist], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count("PASSED") == 2, done.stdout + done.stderr


def test_links_and_pictures_of_the_readme_lead_somewhere_from_pypi_too(wheel):
    with zipfile.ZipFile(wheel) as archive:
        metadata = email.message_from_bytes(archive.read(f"codi_bench-{codi_bench.__version__}.dist-info/METADATA"))
    output = metadata.get_payload(decode=True).decode()
    targets = re.findall(r"(!?)\[[^\]]*\]\(([^)\s]+)", output)
    raw = REPOSITORY.replace("github.com", "raw.githubusercontent.com") + f"/v{codi_bench.__version__}/"
    page = f"{REPOSITORY}/blob/v{codi_bench.__version__}/"
    paths = [target.removeprefix(raw if picture else page) for picture, target in targets if target.startswith((raw, page))]
    assert len(paths) > 5 and [path for path in paths if not (ROOT / path.partition("#")[0]).is_file()] == []
    targets += re.findall(r"""\b(src|href|srcset)=["']?([^"'\s>]+)""", output)  # HTML gets no address: write Markdown
    assert [target for _, target in targets if not target.startswith(("https://", "#"))] == []


# The wheel, installed


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A function (command, *arguments): what a command prints, in an environment of the wheel alone and in an empty folder.

    The versions are those of this environment, so that uv links what it has: seconds, and nothing is downloaded.
    """
    base = tmp_path_factory.mktemp("installed")
    programs, work = base / "venv" / ("Scripts" if os.name == "nt" else "bin"), base / "work"
    work.mkdir()
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST", "VIRTUAL_ENV"))}
    for name in ("FIND_LINKS", "INDEX_URL", "EXTRA_INDEX_URL"):  # tox.ini says the same to uv
        if value := os.environ.get(f"PIP_{name}"):
            variables.setdefault(f"UV_{name}", value)
    variables |= {
        "CODI_BENCH_CACHE": str(base / "cache"),
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "COLUMNS": "100",
        "CUDA_VISIBLE_DEVICES": "",
    }

    def call(command, *arguments, folder=work):
        words = [shutil.which(command, path=programs) or command, *map(str, arguments)]
        done = subprocess.run(words, cwd=folder, env=variables, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    same = base / "same.txt"
    versions = {package.name: package.version for package in reversed([*distributions()])}  # the first of a name is imported
    same.write_text("\n".join(f"{name}=={version}" for name, version in versions.items() if name != "codi-bench"))
    uv = [sys.executable, "-m", "uv"]
    call(*uv, "venv", "--python", sys.executable, base / "venv")
    call(*uv, "pip", "install", "--python", base / "venv", "--constraint", same, wheel)
    return call


def test_the_wheel_measures_a_claim_from_any_folder(installed):
    output = installed("codi-bench", "run", "--claim", "size")
    assert re.search(r"Parameters +124 M +1.2 B +0.57 M +2.45 M", output)
    assert "12 as recorded, 0 drifted, 0 unchecked, 0 blocked, 0 not run" in output and "2 passed" in output


def test_the_wheel_audits_a_table_of_outcomes(installed, tmp_path):
    rows = [f"{problem},{name},{int(name == 'clean' or problem < 20)}" for problem in range(40) for name in ("clean", "zero")]
    (tmp_path / "mine.csv").write_text("\n".join(["problem,condition,right", *rows]))
    output = installed("codi-bench", "audit", "outcomes", "mine.csv", folder=tmp_path)
    assert re.search(r"zero +50\.0 .*\+50\.0 .*SUPPORTED", output)


def test_the_wheel_has_its_command_and_nothing_of_the_checkout(installed):
    assert {"run", "audit", "report"} <= {*installed("codi-bench", "--help").split()}
    assert "site-packages" in installed("python", "-c", "import codi_bench; print(codi_bench.__file__)")


def test_other_test_suites_do_not_notice_the_wheel(installed, tmp_path):
    (tmp_path / "test_theirs.py").write_text("def test_theirs(): pass\n")
    output = installed("python", "-m", "pytest", "--co", "--trace-config", folder=tmp_path)
    assert "test_theirs" in output and "PLUGIN registered" in output
    assert "codi_bench" not in output.replace(str(tmp_path), "")
    assert "--claim" not in installed("python", "-m", "pytest", "--help", folder=tmp_path)
