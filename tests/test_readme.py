"""README shows what is recorded: the table and the figure of this repository, and that a changed record is noticed."""

import json
import shutil
from pathlib import Path

import pytest

from codi_bench.cli.readme import BEGIN, END, readme_of
from codi_bench.errors import CodiBenchError
from codi_bench.store.files import package_folder

ROOT = Path(__file__).parent.parent
FINDINGS = [f"findings/{name}.md" for name in ("first-study", "literature", "contradictions", "without-recurrence")]


def test_readme_and_its_figure_show_what_is_recorded():
    """Where this fails, `codi-bench baselines readme` writes both anew."""
    assert readme_of(ROOT / "README.md", package_folder("baselines")).outdated() == []


def test_the_readme_is_read_in_three_minutes():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    table = lines[lines.index("```text") + 1 : lines.index("```", lines.index("```text"))]
    assert len(lines) <= 120 and (ROOT / "README.md").stat().st_size <= 12_000 and 20 <= len(table) <= 26
    assert max(map(len, table)) <= 100


def test_a_finding_changes_with_its_number_and_needs_one(copies):
    readme, baselines = copies
    path = baselines / "gpt2" / "rel-probe-surface.json"
    data = json.loads(path.read_text())
    data["recorded"][0]["metrics"]["sound auc_held_out_1000"]["value"] = 0.7749
    path.write_text(json.dumps(data))
    assert readme in readme_of(readme, baselines).update()
    assert "AUC 0.77 [" in readme.read_text()
    path.write_text(json.dumps(data | {"recorded": []}))
    with pytest.raises(CodiBenchError, match="gpt2/rel-probe-surface: 'auc_held_out_1000' is not recorded"):
        readme_of(readme, baselines)


def test_the_readme_shows_a_claim_as_it_is_in_the_code(copies):
    readme, baselines = copies
    readme.write_text(readme.read_text().replace('"scratch-order"', '"scratch-disorder"'))
    assert readme_of(readme, baselines).outdated() == [readme]


@pytest.fixture
def copies(tmp_path):
    """README, its figure and the baselines, to be damaged."""
    shutil.copytree(package_folder("baselines"), tmp_path / "baselines")
    (tmp_path / "docs" / "findings").mkdir(parents=True)
    shutil.copy(ROOT / "README.md", tmp_path)
    for name in ("headline.svg", "released.md", *FINDINGS):
        shutil.copy(ROOT / "docs" / name, tmp_path / "docs" / name)
    return tmp_path / "README.md", tmp_path / "baselines"


def test_a_number_that_was_recorded_anew_makes_both_outdated_until_they_are_drawn_again(copies):
    readme, baselines = copies
    path = baselines / "gpt2-mini" / "probe-accuracy.json"
    baseline = json.loads(path.read_text())
    baseline["recorded"][0]["metrics"]["mean"]["value"] = 0.612
    path.write_text(json.dumps(baseline))
    drawn = readme_of(readme, baselines)
    study = readme.parent / "docs" / "findings" / "first-study.md"
    assert drawn.outdated() == [readme, study, drawn.picture]
    assert drawn.update() == [readme, study, drawn.picture]
    assert "61.2" in readme.read_text() and "61.2 %" in drawn.picture.read_text() and "| 61.2 [" in study.read_text()
    assert readme_of(readme, baselines).outdated() == []


def test_each_contradiction_shows_what_was_published_and_measured(copies):
    readme, baselines = copies
    path = baselines / "gpt2-mini" / "contra-most-important.json"
    baseline = json.loads(path.read_text())
    baseline["recorded"][0]["metrics"]["zero"]["value"] = 3
    path.write_text(json.dumps(baseline))
    page = readme.parent / "docs" / "findings" / "contradictions.md"
    assert page in readme_of(readme, baselines).update()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.read_text().splitlines()]
    lines = {(line[0], line[1]): line[2:4] for line in cells if len(line) == 7}
    assert lines["`contra-most-important` zero", "gpt2-mini"] == ["", "3"]
    assert lines["`contra-order` reversed, %", "gpt2"] == ["36.3", "not released"]
    assert lines["`gs-decode-numeric` number_2, %", "gpt2"] == ["14.0–29.0", "95.2 [93.1, 96.7]"]


def test_what_was_changed_by_hand_between_the_marks_is_noticed_and_text_outside_left_alone(copies):
    readme, baselines = copies
    readme.write_text("before\n" + readme.read_text() + "after\n")
    assert readme_of(readme, baselines).outdated() == []
    readme.write_text(readme.read_text().replace("Task accuracy, %", "Right answers, %"))
    assert readme_of(readme, baselines).outdated() == [readme]


def test_a_readme_without_marks_is_refused_by_name(copies):
    readme, baselines = copies
    for text in ("", f"{BEGIN} and no end", f"{END} {BEGIN}"):
        readme.write_text(text)
        with pytest.raises(CodiBenchError, match="README.md: has no lines"):
            readme_of(readme, baselines)
    with pytest.raises(CodiBenchError, match="cannot be read"):
        readme_of(readme.parent / "other.md", baselines)
