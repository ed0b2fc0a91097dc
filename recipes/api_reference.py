"""The reference of the Python interface as HTML, from signatures and docstrings, by pdoc.

    python recipes/api_reference.py build/reference

Every link between the pages is followed; one that leads nowhere is an error.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from urllib.parse import unquote

import pdoc

import rescore

#: What users import; `rescore` itself comes first.
MODULES = [
    "rescore",
    "rescore.errors",
    "rescore.types",
    "rescore.interfaces",
    "rescore.registry",
    "rescore.formats",
    "rescore.formats.in_memory",
    "rescore.wer",
    "rescore.diffusion.masked",
    "rescore.diffusion.uniform",
    "rescore.diffusion.sequence",
    "rescore.scorers",
    "rescore.fusion",
    "rescore.fusion.pooling",
    "rescore.fusion.consensus",
    "rescore.pipeline",
    "rescore.experiment",
]


def build(folder: Path, modules: list[str]) -> list[str]:
    """Write the pages, and return the links in them that lead nowhere."""
    for name in rescore.__all__:  # pdoc sees what is there, not what is imported when it is used
        setattr(rescore, name, getattr(rescore, name))
    pdoc.render.configure(docformat="markdown", show_source=False)
    pdoc.pdoc(*modules, output_directory=folder)
    return broken_links(folder)


def broken_links(folder: Path) -> list[str]:
    pages = {path: path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.html"))}
    anchors = {
        path.resolve(): set(re.findall(r'\bid="([^"]+)"', page)) for path, page in pages.items()
    }
    broken = []
    for path, page in pages.items():
        for link in re.findall(r'\bhref="([^"]+)"', page):
            if re.match(r"[a-z]+:|\$", link):  # another site; a template of the search
                continue
            file, _, anchor = unquote(link).partition("#")
            target = (path.parent / file).resolve() if file else path.resolve()
            if not target.exists() or (anchor and anchor not in anchors.get(target, {anchor})):
                broken.append(f"{path.relative_to(folder)}: {link}")
    return broken


def main() -> None:
    folder = Path(sys.argv[1])
    broken = build(folder, MODULES)
    if broken:
        sys.exit("links that lead nowhere:\n" + "\n".join(broken))
    print(f"{folder / 'index.html'}: {len(MODULES)} modules")


if __name__ == "__main__":
    main()
