"""What a run leaves to read: report.json for programs, JUnit XML for continuous integration, lines for people."""

from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from xmod_lab.errors import LabError
from xmod_lab.files import atomic_file, read_json, write_json
from xmod_lab.series import expected
from xmod_lab.series.run import Result

OK, FAILED, USAGE, DIFFERS, NOTHING = 0, 1, 2, 3, 4
"""Exit codes of the series commands."""

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def exit_code(results: list[Result], differences: list[str]) -> int:
    """0 all is well, 1 a notebook failed, 3 a score differs, 4 nothing ran."""
    if any(result.status == "fail" for result in results):
        return FAILED
    if not any(result.status == "pass" for result in results):
        return NOTHING
    return DIFFERS if differences else OK


def recorded(results: list[Result]) -> expected.Scores:
    """The scores that may be compared: of notebooks that passed with their own default parameters."""
    return {r.name: r.scores for r in results if r.status == "pass" and r.comparable}


def write(out: Path, results: list[Result], differences: list[str], about: dict[str, Any]) -> None:
    """Write report.json and junit.xml into `out`. `about`: profile, dataset, jobs, seconds, date and so on."""
    rows = [dataclasses.asdict(result) | {"slow": result.slow} for result in results]
    write_json(
        out / "report.json",
        about
        | {
            "notebooks": rows,
            "differences": differences,
            "versions": expected.versions(),
            "exit_code": exit_code(results, differences),
        },
    )
    _write_junit(out / "junit.xml", results, differences, about)


def read(path: Path) -> tuple[dict[str, Any], list[Result]]:
    """The report in `path` (a report.json, or the folder that holds one). Raises LabError if there is none."""
    file = path / "report.json" if path.is_dir() else path
    if not file.is_file():
        raise LabError("no report", where=file.name, mend="give the folder of a series run")
    about = read_json(file)
    try:
        rows = [{key: value for key, value in row.items() if key != "slow"} for row in about["notebooks"]]
        return about, [Result(**row) for row in rows]
    except (KeyError, TypeError) as error:
        raise LabError("not a report of a series run", where=file.name, mend="run the series again") from error


def _write_junit(path: Path, results: list[Result], differences: list[str], about: dict[str, Any]) -> None:
    suite = ElementTree.Element("testsuite", name=f"series.{about['profile']}", tests=str(len(results)))
    count = dict.fromkeys(("failures", "skipped"), 0)
    for result in results:
        case = ElementTree.SubElement(
            suite, "testcase", classname=f"series.{about['profile']}", name=result.name, time=f"{result.seconds:.2f}"
        )
        differing = [line for line in differences if line.startswith(f"{result.name} ")]
        if result.status == "not run":
            ElementTree.SubElement(case, "skipped", message=_xml(result.reason))
            count["skipped"] += 1
        elif result.status == "fail" or differing:
            kind = "notebook" if result.status == "fail" else "scores"
            text = result.detail if result.status == "fail" else "\n".join(differing)
            message = result.reason or f"{len(differing)} score(s) not as expected"
            ElementTree.SubElement(case, "failure", type=kind, message=_xml(message)).text = _xml(text)
            count["failures"] += 1
        lines = [f"{name} = {row['value']}" for name, row in result.scores.items()]
        ElementTree.SubElement(case, "system-out").text = _xml("\n".join(lines))
    suite.attrib |= {key: str(value) for key, value in count.items()}
    suite.set("errors", "0")
    suite.set("time", f"{about['seconds']:.2f}")
    root = ElementTree.Element("testsuites")
    root.append(suite)
    with atomic_file(path) as temporary:
        ElementTree.ElementTree(root).write(temporary, encoding="utf-8", xml_declaration=True)


def _xml(text: str) -> str:
    """Without the control characters that XML cannot hold, escaped or not."""
    return _NOT_XML.sub("?", text)


def line(result: Result) -> str:
    """One line: name, time, outcome, and a few scores or the reason."""
    word = {"pass": "PASS", "fail": "FAIL", "not run": "NOT RUN"}[result.status]
    scores = [f"{name}={expected.shown(row['value'], 4)}" for name, row in result.scores.items()]
    more = [f"+{len(scores) - 3} more"] if len(scores) > 3 else []
    text = "  ".join([*scores[:3], *more]) if result.status == "pass" else result.reason
    slow = f"  SLOW: over its {result.budget:g} s" if result.slow else ""
    return f"{word:<7} {result.seconds:6.1f} s  {result.name:<28} {text}{slow}".rstrip()
