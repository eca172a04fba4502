"""From rows (one a patient, structure, seed) to tables: mean ± sd over patients, with the counts that belong there."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xmod_lab.errors import LabError
from xmod_lab.files import atomic_file

if TYPE_CHECKING:
    import pandas as pd

GROUPS = ("profile", "dataset", "task", "fold", "method", "variant", "network", "source", "modality", "unit")
"""columns that keep rows apart, where a table has them"""
NOT_METRICS = frozenset({*GROUPS, "patient", "structure", "region", "seed", "missing", "slice", "index"})
MEAN = "mean over structures"
DECIMALS = {"ravd": 1, "psnr": 1, "ssim": 3, "mae": 3, "rmse": 3, "nmse": 3}
"""in text tables; 2 for every other metric"""
DIGITS = 4
"""significant digits of other numbers in text tables"""
LONG = 40
"""rows that a page of paper holds: a LaTeX table of more is broken over pages"""
_GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "ζ": "zeta", "η": "eta", "θ": "theta",
    "ι": "iota", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi", "π": "pi", "ρ": "rho", "σ": "sigma",
    "τ": "tau", "υ": "upsilon", "φ": "phi", "χ": "chi", "ψ": "psi", "ω": "omega", "Γ": "Gamma", "Δ": "Delta",
    "Θ": "Theta", "Λ": "Lambda", "Ξ": "Xi", "Π": "Pi", "Σ": "Sigma", "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega",
}  # fmt: skip
_SIGNS = {
    "±": "pm", "<": "<", ">": ">", "≤": "leq", "≥": "geq", "≈": "approx", "×": "times", "·": "cdot", "−": "-",
    "→": "rightarrow", "←": "leftarrow", "†": "dagger", "∞": "infty", "µ": "mu", "²": "^2", "³": "^3",
}  # fmt: skip
_SPECIAL = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "`": r"\textasciigrave{}",
    "|": r"\textbar{}", "–": "--", "—": "---", "°": r"\textdegree{}", "…": r"\ldots{}", "\n": " ",
    "[": "{[}", "]": "{]}", "*": "{*}",  # at the beginning of a row they would be an argument of the line before
} | {c: "\\" + c for c in "&%$#_{}"} | {
    c: f"${chr(92) * name.isalpha()}{name}$" for c, name in (_SIGNS | _GREEK).items()
}  # fmt: skip
"""characters that LaTeX reads as something else, or has no letter for"""


def metrics_of(rows: pd.DataFrame) -> list[str]:
    """The columns of `rows` that hold a metric: numbers that are neither keys nor counts."""
    return [name for name in rows.columns if name not in NOT_METRICS and rows[name].dtype.kind in "fiu"]


def patient_values(rows: pd.DataFrame, metrics: Sequence[str] | None = None) -> pd.DataFrame:
    """Average over seeds: one row a patient, structure and group (GROUPS), with `seeds`, and `missing` summed.

    A metric that is NaN for some seeds is the mean of the others. Raises LabError if one patient has several rows for
    one seed: slices are not patients.
    """
    metrics = metrics_of(rows) if metrics is None else list(metrics)
    if absent := [name for name in ("patient", *metrics) if name not in rows.columns]:
        raise LabError(f"the rows have no column {absent[0]!r}", mend=f"they have {', '.join(map(str, rows.columns))}")
    keys = [name for name in (*GROUPS, "structure", "region", "patient") if name in rows.columns]
    unique = [*keys, "seed"] if "seed" in rows.columns else keys
    repeated = rows[rows.duplicated(unique)]
    if len(repeated):
        where = ", ".join(f"{name} {repeated.iloc[0][name]}" for name in unique)
        raise LabError(f"several rows for {where}",
                       mend="score whole volumes, one row a patient; slices are not patients")
    grouped = rows.groupby(keys, sort=False, dropna=False, observed=True)
    values = grouped[metrics].mean()
    values.insert(0, "seeds", grouped.size())
    values.insert(1, "missing", grouped["missing"].sum() if "missing" in rows.columns else 0.0)
    return values.reset_index()


def summarise(rows: pd.DataFrame, metrics: Sequence[str] | None = None, *, ddof: int = 1) -> pd.DataFrame:
    """Mean and sd over patients of every structure and metric, then the mean over structures: one row a number.

    rows: `patient`, metrics, and any of `structure`, `modality`, `method`, `seed` and the other GROUPS. Seeds are
    averaged within a patient first, so the unit of replication is the patient. Columns of the answer: the groups,
    `structure`, `metric`, `mean`, `sd` (with `ddof`: 1 is the sample's; SIFA prints 0), `n` (patients with a value),
    `missed` (rows where a structure is in one mask only), `nan` (patients without a value, left out of mean and sd),
    `ddof`.

    The row MEAN averages the means of the structures; rows marked `region` (unions of them) stay out of it, and it is
    NaN if a structure has no value at all. Its sd is that of the patients' own means over structures.
    """
    import pandas as pd

    metrics = metrics_of(rows) if metrics is None else list(metrics)
    values = patient_values(rows, metrics)
    groups = [name for name in GROUPS if name in values.columns]
    found = []
    for key, group in values.groupby(groups, sort=False, dropna=False) if groups else [((), values)]:
        head = dict(zip(groups, key, strict=True))
        parts = list(group.groupby("structure", sort=False)) if "structure" in group.columns else [("", group)]
        plain = [(name, part) for name, part in parts if not ("region" in part.columns and part["region"].any())]
        for metric in metrics:
            lines = {name: _line(part, metric, ddof) for name, part in parts}
            if len(plain) > 1:
                members = [lines[name] for name, _ in plain]
                own = pd.concat([part for _, part in plain]).groupby("patient")[metric].mean()
                lines[MEAN] = {
                    "mean": float(sum(line["mean"] for line in members) / len(members)),
                    "sd": float(own.std(ddof=ddof)), "n": int(own.notna().sum()),
                    "missed": sum(line["missed"] for line in members), "nan": sum(line["nan"] for line in members),
                }
            for name, line in lines.items():
                found.append(head | {"structure": name, "metric": metric} | line | {"ddof": ddof})
    return pd.DataFrame(found)


def _line(part: pd.DataFrame, metric: str, ddof: int) -> dict[str, float]:
    values = part[metric]
    return {"mean": float(values.mean()), "sd": float(values.std(ddof=ddof)), "n": int(values.notna().sum()),
            "missed": int(part["missing"].sum()), "nan": int(values.isna().sum())}


def cell(mean: float, sd: float, n: int, missed: int = 0, nan: int = 0, decimals: int = 2) -> str:
    """``0.82 ± 0.05 (n=8, 1 missed)``; a mean without values is a dash, never 0."""
    text = "–" if mean != mean else f"{mean:.{decimals}f}"
    if sd == sd:
        text += f" ± {sd:.{decimals}f}"
    notes = [f"n={n:d}", *([f"{missed:d} missed"] if missed else []), *([f"{nan:d} without a value"] if nan else [])]
    return f"{text} ({', '.join(notes)})"


def text_table(table: pd.DataFrame, digits: int = DIGITS) -> pd.DataFrame:
    """A summary as text: one row a group and structure, one column a metric. Other tables: numbers of `digits`."""
    import pandas as pd

    if not {"metric", "mean", "sd", "n", "missed", "nan"} <= set(table.columns):
        return table.map(lambda value: f"{value:.{digits}g}" if isinstance(value, float) else str(value))
    keys = [name for name in (*GROUPS, "structure") if name in table.columns]
    rows: dict[tuple, dict[str, str]] = {}
    for entry in table.to_dict("records"):
        row = rows.setdefault(tuple(entry[k] for k in keys), {k: str(entry[k]) for k in keys})
        counts = (int(entry["n"]), int(entry["missed"]), int(entry["nan"]))
        row[entry["metric"]] = cell(entry["mean"], entry["sd"], *counts, DECIMALS.get(entry["metric"], 2))
    return pd.DataFrame(list(rows.values())).fillna("")


def caption(table: pd.DataFrame) -> str:
    """What the numbers of a summary are; empty for another table."""
    if "ddof" not in table.columns or table.empty:
        return ""
    return f"Mean ± standard deviation over patients (ddof {int(table['ddof'].iloc[0])})."


def flat(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` as files hold it: one line of names, and its index as columns unless that only counts rows."""
    import pandas as pd

    names = [" ".join(filter(None, map(str, n))) if isinstance(n, tuple) else str(n) for n in frame.columns]
    table = frame.set_axis(names, axis=1)
    if isinstance(frame.index, pd.RangeIndex) and frame.index.name is None:
        return table.reset_index(drop=True)
    index = frame.index.to_frame(index=False).set_axis([str(n or "") for n in frame.index.names], axis=1)
    return pd.concat([index, table.reset_index(drop=True)], axis=1)


def to_markdown(table: pd.DataFrame, title: str = "", digits: int = DIGITS) -> str:
    """A pipe table below its title, with the caption of a summary below it."""
    text = text_table(table, digits)
    lines = [[str(name) for name in text.columns], ["---"] * len(text.columns), *text.astype(str).to_numpy().tolist()]
    body = "\n".join("| " + " | ".join(map(_field, line)) + " |" for line in lines)
    return "\n\n".join(filter(None, (title, body, caption(table)))).rstrip() + "\n"


def _field(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def from_markdown(text: str) -> list[tuple[str, pd.DataFrame]]:
    """The pipe tables of `text`, their fields as text, each with the last line above it as its title."""
    import pandas as pd

    found = []
    for above, block in re.findall(r"(?:^([^|\n]*)\n\n?)?^((?:\|.*\|[ ]*(?:\n|\Z))+)", text, re.M):
        lines = [re.split(r"(?<!\\)\|", line.strip()[1:-1]) for line in block.splitlines()]
        head, rule, *rows = ([field.strip().replace("\\|", "|") for field in line] for line in lines)
        if all(re.fullmatch(":?-+:?", mark) for mark in rule):
            found.append((above.strip(" *#"), pd.DataFrame(rows, columns=head)))
    return found


def to_latex(table: pd.DataFrame, title: str = "", digits: int = DIGITS) -> str:
    """A ``tabular`` with booktabs rules, special characters escaped; with a title a ``table`` below its caption, or a
    ``longtable`` if a page does not hold it."""
    text = text_table(table, digits).map(_latex)
    text.columns = [_latex(name) for name in text.columns]
    below = f"% {caption(table)}\n" if caption(table) else ""
    if not title:
        return text.to_latex(index=False) + below
    long = len(text) > LONG
    needs = f"% \\usepackage{{booktabs{',longtable' * long}}}\n"
    return needs + text.to_latex(index=False, caption=_latex(title), longtable=long) + below


def _latex(value: object) -> str:
    return "".join(_SPECIAL.get(character, character) for character in str(value))


def to_csv(table: pd.DataFrame) -> str:
    """The table as it is, in full precision."""
    return table.to_csv(index=False)


WRITERS = {".csv": lambda table, title, digits: to_csv(table), ".md": to_markdown, ".tex": to_latex}


def export(table: pd.DataFrame, path: str | Path, title: str = "", digits: int = DIGITS) -> Path:
    """Write `table` to `path` as its suffix says: .csv (full precision), .md or .tex; LabError for another one."""
    path = Path(path)
    if path.suffix not in WRITERS:
        raise LabError(f"no table format {path.suffix!r}", where=path, mend=f"use one of {', '.join(WRITERS)}")
    with atomic_file(path) as temporary:
        temporary.write_text(WRITERS[path.suffix](table, title, digits), encoding="utf-8")
    return path


def export_all(table: pd.DataFrame, folder: Path, name: str, title: str = "", digits: int = DIGITS) -> None:
    """Write `table` three times: ``<folder>/<name>.csv``, ``.md`` and ``.tex``."""
    for suffix in WRITERS:
        export(table, folder / f"{name}{suffix}", title, digits)


def slug(text: str, most: int = 60) -> str:
    """`text` as part of a file's name: small letters, figures and hyphens, cut behind a word."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    words = re.sub("[^a-z0-9]+", "-", plain).strip("-")
    return words if len(words) <= most else words[: most + 1].rpartition("-")[0] or words[:most]
