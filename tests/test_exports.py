"""Tables and figures as files: what a page or a notebook shows arrives whole, in every format, and escaped."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from conftest import CHECKOUT
from notebook_tools import FIGURE, SCORE, tiny
from PIL import Image
from typer.testing import CliRunner

from xmod_lab import cli, kept, nb
from xmod_lab.bench.page import names
from xmod_lab.evaluate.tables import LONG, export_all, flat, from_markdown, slug, to_latex, to_markdown
from xmod_lab.series import run as runner
from xmod_lab.series.cli import app

RESULTS = CHECKOUT / "results"
SHOWN = ("paired-lesson", "sasan-lesson", "baselines-real-lesson")
NASTY = [r"50% & \a_b ~ ^ # $x$ {y}", "† ± ≥ → − Δγ µ²", "[0, 1] | *x* <y> `z`", "line\nbreak, Fréchet"]
START = "from xmod_lab.nb import show, start\n\nlab = start(profile, None, seed)"
TABLES = """import pandas as pd
from IPython.display import Markdown, display

frame = pd.DataFrame({"a_b": ["50% & †", "±"], "n": [0.123456789, 2]}, index=["x", "y"])
display(frame)
frame.attrs["caption"] = "Dice & more"
display(frame.reset_index(drop=True), frame.style.set_caption("a style"))
display(Markdown("Above\\n\\n| p | q |\\n|---|---|\\n| 1 | 2 |\\n"))
frame["n"]"""
PICTURES = """figure, axes = plt.subplots(figsize=(2, 1))
axes.imshow([[0, 1], [1, 0]])
show(figure, "α, seen twice")
from xmod_lab.methods.base import StepResult
from xmod_lab.progress import Progress

with Progress("of a fit", 3) as bar:
    bar.drawn = -9.0
    for step in range(3):
        bar.step(step, StepResult({"loss": 1.0 / (step + 1)}))
        bar.drawn = -9.0"""


def latex_problems(text: str) -> list[str]:
    """What would keep LaTeX from setting `text`: open groups, raw special characters, rows of unequal length."""
    code = re.sub(r"(?m)^%.*$", "", text)
    plain = re.sub(r"\\[&%$#_{}]", "", code)
    found = [f"{c} is open" for c in ("{}", "$$") if plain.count(c[0]) != plain.count(c[1]) or plain.count("$") % 2]
    found += re.findall(r"[#%~^_`|](?!\d\$)", re.sub(r"\$[^$]*\$|\\cline\{[^}]*\}", "", plain))
    letters = (c for c in code if ord(c) > 126)
    found += [c for c in letters if not unicodedata.name(c).startswith("LATIN")]
    begun = re.findall(r"\\begin\{(\w+)\}", code)
    found += [] if sorted(begun) == sorted(re.findall(r"\\end\{(\w+)\}", code)) else ["an environment is open"]
    (columns,) = re.findall(r"\\begin\{(?:tabular|longtable)\}\{(l+r*)\}", code)
    ends = (line for line in code.splitlines() if line.endswith(r"\\"))
    rows = [line for line in ends if not line.startswith((r"\caption", r"\multi"))]
    found += [row for row in rows if len(re.findall(r"(?<!\\)&", row)) != len(columns) - 1]
    return found + [row for row in rows if row.startswith(("[", "*"))]


def test_special_characters_survive(tmp_path: Path) -> None:
    table = pd.DataFrame({"a_b & c%": NASTY, "|n|": [0.123456789, 2.0, float("nan"), 1e-9]})
    export_all(table, tmp_path, "t", title="50 % of A & B_1 †")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "t.csv"), table)
    ((title, back),) = from_markdown((tmp_path / "t.md").read_text())
    assert title == "50 % of A & B_1 †" and list(back) == list(table)
    assert list(back.iloc[:, 0]) == [text.replace("\n", " ") for text in NASTY] and back.iloc[0, 1] == "0.1235"
    text = (tmp_path / "t.tex").read_text()
    assert latex_problems(text) == []
    assert text.startswith("% \\usepackage{booktabs}\n") and r"\caption{50 \% of A \& B\_1 $\dagger$}" in text
    assert r"50\% \& \textbackslash{}a\_b \textasciitilde{} \textasciicircum{} \# \$x\$ \{y\}" in text
    assert r"$\dagger$ $\pm$ $\geq$ $\rightarrow$ $-$ $\Delta$$\gamma$ $\mu$$^2$" in text
    assert r"{[}0, 1{]} \textbar{} {*}x{*} $<$y$>$ \textasciigrave{}z\textasciigrave{}" in text


def test_a_table_longer_than_a_page_is_broken_over_pages() -> None:
    long = to_latex(pd.DataFrame({"n": range(LONG + 1)}), "many")
    assert r"\begin{longtable}" in long and long.startswith("% \\usepackage{booktabs,longtable}")
    assert r"\begin{table}" in to_latex(pd.DataFrame({"n": range(LONG)}), "few")


def test_the_check_of_latex_finds_what_it_should() -> None:
    frame = "\\begin{{tabular}}{{ll}}\n{}\n\\end{{tabular}}\n"
    assert latex_problems(frame.format(r"a\_b & $\pm$ \\")) == []
    for row in (r"a_b & c \\", r"a & {c \\", r"a & $c \\", r"a & b & c \\", r"a & † \\", r"[a] & b \\", r"a & 5% \\"):
        assert latex_problems(frame.format(row)), row


def test_a_frame_is_flattened() -> None:
    wide = pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("CT", "Dice"), ("CT", "")]), index=["unet"])
    assert flat(wide).to_dict("list") == {"": ["unet"], "CT Dice": [1], "CT": [2]}
    named = pd.DataFrame({"x": [1]}, index=pd.Index([7], name="x"))
    assert list(flat(named)) == ["x", "x"] and flat(named).iloc[0].tolist() == [7, 1]
    assert list(flat(pd.DataFrame({"x": [1, 2]}))) == ["x"]


def test_slugs() -> None:
    assert slug("Dice in %, Hausdorff: ± sd (Fréchet)") == "dice-in-hausdorff-sd-frechet"
    assert slug("a " * 99, most=9) == "a-a-a-a-a" and slug("x" * 99, most=9) == "x" * 9 and slug("±") == ""


def test_text_without_a_table_holds_none() -> None:
    assert from_markdown("a | b\n\n| x | y |\n| z | w |\n") == []


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tables")
    (out / "sasan-lesson").mkdir()
    (out / "sasan-lesson" / "07-of-old.tex").touch()
    (out / "sasan-lesson" / "notes.md").touch()
    words = [word for name in SHOWN for word in ("--suite", name)]
    done = CliRunner().invoke(cli.app, ["bench", "export", "--out", str(out), "--results", str(RESULTS), *words])
    assert done.exit_code == 0 and "baselines-real-lesson: 1 table\n" in done.output, done.output
    return out


@pytest.mark.parametrize("name", ["paired-lesson", "sasan-lesson"])
def test_every_table_of_a_page_is_exported_with_its_numbers(exported: Path, name: str) -> None:
    page = from_markdown((RESULTS / f"{name}.md").read_text())
    files = sorted((exported / name).glob("[0-9]*.csv"))
    assert len(files) == len(page) + 1, "the verdicts come on top"
    for path, (title, table) in zip(files, page, strict=False):
        ((said, written),) = from_markdown(path.with_suffix(".md").read_text())
        pd.testing.assert_frame_equal(written, table)
        assert title == "Claims" or said.endswith(title)
        if title != "Claims":  # whose numbers have all their digits
            pd.testing.assert_frame_equal(pd.read_csv(path, dtype=str, keep_default_na=False), table)
        assert latex_problems(path.with_suffix(".tex").read_text()) == []
    assert files[-2].stem.endswith("-claims") and files[-1].stem.endswith("-verdicts")
    assert "direction seen" in files[-1].read_text()


def test_a_suite_without_a_page_has_its_summary_and_old_files_go(exported: Path) -> None:
    (path,) = (exported / "baselines-real-lesson").glob("*.csv")
    assert path.name == "01-dice-mean-over-structures-mean-sd-over-seeds-and-folds.csv"
    assert "±" in path.with_suffix(".md").read_text() and latex_problems(path.with_suffix(".tex").read_text()) == []
    assert not (exported / "sasan-lesson" / "07-of-old.tex").exists() and (exported / "sasan-lesson/notes.md").exists()


def test_export_refuses_what_is_not_recorded(tmp_path: Path) -> None:
    for words, said in [
        (["--results", str(tmp_path)], "no recorded results"),
        (["--results", str(RESULTS), "--suite", "gone"], "suite 'gone' is not recorded"),
    ]:
        done = CliRunner().invoke(cli.app, ["bench", "export", "--out", str(tmp_path / "out"), *words])
        assert done.exit_code == 1 and said in str(done.exception)
    assert not (tmp_path / "out").exists() and set(SHOWN) < set(names(RESULTS))


@pytest.fixture(scope="module")
def kept_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder export/ of a tiny notebook that ran in a series."""
    folder = tmp_path_factory.mktemp("series")
    tiny(folder / "notebooks" / "01_tiny.ipynb", START, FIGURE, TABLES, PICTURES, SCORE)
    (folder / "out" / "01_tiny" / "export").mkdir(parents=True)
    (folder / "out" / "01_tiny" / "export" / "09-old.png").touch()
    words = ["run", "--notebooks", str(folder / "notebooks"), "--out", str(folder / "out"), "--export"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0 and "figures and tables: " in done.output, done.output
    return folder / "out" / "01_tiny" / "export"


def test_a_notebook_leaves_every_figure_twice_and_every_table_thrice(kept_files: Path) -> None:
    figures = ["01-figure", "06-seen-twice", "07-of-a-fit"]
    tables = ["02-a-b-n", "03-dice-more", "04-a-style", "05-above"]
    wanted = {f"{n}.{end}" for n in figures for end in ("png", "svg")}
    wanted |= {f"{n}.{end}" for n in tables for end in ("csv", "md", "tex")}
    assert {path.name for path in kept_files.iterdir()} == wanted
    assert Image.open(kept_files / "06-seen-twice.png").size[0] > 200, "two inches at 200 dpi, less its margins"
    drawn = (kept_files / "07-of-a-fit.svg").read_text()
    assert re.search(r"<text[^>]*>of a fit</text>", drawn) and "<dc:date>" not in drawn


def test_tables_of_a_notebook_are_whole(kept_files: Path) -> None:
    assert (kept_files / "02-a-b-n.csv").read_text() == ",a_b,n\nx,50% & †,0.123456789\ny,±,2.0\n"
    ((title, table),) = from_markdown((kept_files / "03-dice-more.md").read_text())
    assert title == "Dice & more" and table.iloc[0].tolist() == ["50% & †", "0.123457"]
    assert (kept_files / "05-above.csv").read_text() == "p,q\n1,2\n"
    for path in kept_files.glob("*.tex"):
        assert latex_problems(path.read_text()) == []


@pytest.fixture
def off(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is kept, and what `start` sets of the whole process is set back."""
    monkeypatch.setattr(kept, "_kept", None)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def _show() -> None:
    figure, axes = plt.subplots(figsize=(1, 1))
    axes.plot([1, 2])
    nb.show(figure, "a line")


@pytest.mark.usefixtures("off")
def test_nothing_is_kept_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XMOD_EXPORT", str(tmp_path / "of another"))
    of_a_run = runner.environment(tmp_path, tmp_path, tmp_path, 1, True, False)
    assert of_a_run["XMOD_EXPORT"] == "", "nor by a variable of the reader's"
    monkeypatch.setenv("XMOD_EXPORT", of_a_run["XMOD_EXPORT"])
    nb.start("smoke")
    _show()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("off")
def test_the_same_figure_has_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        nb.export(tmp_path / name)
        _show()
    a, b = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "ab")
    assert a == b and set(a) == {"01-a-line.png", "01-a-line.svg"}


def test_markdown_is_as_it_was_without_a_title() -> None:
    table = pd.DataFrame({"x": [1.5]})
    assert to_markdown(table) == "| x |\n| --- |\n| 1.5 |\n"
    assert to_markdown(table, "T") == "T\n\n| x |\n| --- |\n| 1.5 |\n"
