"""Write every generated page and every generated part of a page; `--check` says what is stale (exit 1).

A part stands between `<!-- begin NAME -->` and `<!-- end NAME -->`. Pages and parts come from the
code and from committed records, so that the documents cannot lie.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from command_help import command_help
from methods_page import methods_page
from model_card import PARTS as CARD_PARTS
from readme_parts import PICTURE, demo_page, demo_table, draw_picture, picture_is_stale, record_line
from recipe_pages import recipe_pages
from schema_page import schema_page

ROOT = Path(__file__).parents[1]
PAGES: dict[str, Callable[[], str]] = {
    "docs/schema.md": schema_page,
    "docs/methods.md": methods_page,
    "docs/commands.md": command_help,
    "reports/demo/index.html": demo_page,
    **recipe_pages(),
}
PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"demo table": demo_table, "demo record": record_line},
    "tokprof/demo/MODEL_CARD.md": CARD_PARTS,
}


def built() -> dict[Path, str]:
    """Every generated file as it should be."""
    found = {ROOT / page: make() for page, make in PAGES.items()}
    for page, parts in PARTS.items():
        text = (ROOT / page).read_text(encoding="utf-8")
        for name, make in parts.items():
            text = _replaced(text, name, make(), page)
        found[ROOT / page] = text
    return found


def _replaced(text: str, name: str, content: str, page: str) -> str:
    pattern = re.compile(rf"(<!-- begin {re.escape(name)} -->\n).*?(<!-- end {re.escape(name)} -->)", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise SystemExit(f"{page} needs exactly one part {name!r}")
    return pattern.sub(lambda match: f"{match.group(1)}{content.strip()}\n{match.group(2)}", text)


def stale() -> list[Path]:
    """Generated files that are not what they should be."""
    texts = [path for path, text in built().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    return [*texts, *([PICTURE] if picture_is_stale() else [])]


def main() -> None:
    if "--check" in sys.argv[1:]:
        old = stale()
        for path in old:
            print(f"stale: {path.relative_to(ROOT)} (run `make docs`)")
        sys.exit(1 if old else 0)
    for path, text in built().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))
    if picture_is_stale():
        draw_picture()
        print(PICTURE.relative_to(ROOT))


if __name__ == "__main__":
    main()
