"""A folder of pages, one a policy, with an index that shows each at work and says how good and how large it is."""

import html
import shutil
from pathlib import Path

from tfsac.deploy import artefact
from tfsac.deploy.demo.page import WEB
from tfsac.deploy.facts import environment
from tfsac.deploy.show import CLIP, PAGE, show
from tfsac.errors import require
from tfsac.trust import check_trusted

POLICY = "policy.tflite"
REPORTS = ("report.md", "report.png", "report.json")


def write_gallery(policies, out, trusted=()):
    """Writes a page and a clip of every policy, and index.html.

    Args:
        policies: a folder of folders, each written by `tfsac.export` or released with tfsac.
        out: the folder to write; what lies there under the same names is replaced.
        trusted: modules that the policies may name.

    Returns:
        What was left out and why: a list of lines.

    Raises:
        UserError: no policy there.
    """
    files = sorted(Path(policies).glob(f"*/{POLICY}"))
    require(files, f"no */{POLICY} in {policies}: expected a folder of exported policies")
    cards, left_out = [], []
    for file in files:
        name = file.parent.name
        folder = Path(out) / name
        folder.mkdir(parents=True, exist_ok=True)
        _, facts = artefact.load(file)
        settings = environment(facts, file)
        check_trusted(settings.modules(), trusted, file)
        reasons = show(file, settings.make(unit_actions=False), settings, folder)
        left_out += [f"{name}: {reason}" for reason in reasons]
        for report in REPORTS:
            if (file.parent / report).is_file():
                shutil.copy(file.parent / report, folder)
        cards.append(_card(name, folder, file, facts, reasons))
    _write_index(Path(out) / "index.html", cards)
    return left_out


def _card(name, folder, file, facts, reasons):
    """One policy in the index."""

    def link(target, text):
        return f'<a href="{html.escape(name)}/{target}">{text}</a>' if (folder / target).is_file() else ""

    page = folder / PAGE
    sizes = [f"{path.name} {path.stat().st_size / 1000:,.0f} kB" for path in sorted(file.parent.glob("policy*.tflite"))]
    picture = f'<img src="{html.escape(name)}/{CLIP}" alt="{html.escape(name)} at work" loading="lazy">'
    rows = {
        "environment": facts["environment"]["id"],
        "return": "{mean:.2f} ± {std:.2f}, {episodes} episodes".format(**facts["return"]),
        "trained for": f"{facts['training']['steps']:,} steps",
        "files": ", ".join(sizes),
        "page": f"{page.stat().st_size / 1e6:.1f} MB" if page.is_file() else "none",
    }
    listed = "".join(f"<dt>{key}</dt><dd>{html.escape(str(value))}</dd>" for key, value in rows.items())
    links = [link(PAGE, "Open the page"), link("report.md", "report"), link("report.png", "its picture")]
    notes = "".join(f"<p>{html.escape(reason)}</p>" for reason in reasons)
    shown = picture if (folder / CLIP).is_file() else ""
    linked = " · ".join(filter(None, links))
    return f"<article>{shown}<h2>{html.escape(name)}</h2><dl>{listed}</dl><p>{linked}</p>{notes}</article>"


def _write_index(path, cards):
    text = (WEB / "index.html").read_text(encoding="utf-8")
    path.write_text(text.replace("{{cards}}", "\n".join(cards)), encoding="utf-8")
