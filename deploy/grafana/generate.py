"""Write the dashboards (`make dashboards`), or end with 1 when one is out of date (`make dashboards ARGS=--check`).

The JSON in `dashboards/` is what people import and provision; nobody needs this program for that.
"""

from __future__ import annotations

import sys
from pathlib import Path

from boards import BOARDS
from panels import as_json

FOLDER = Path(__file__).resolve().parent / "dashboards"


def main(*, is_check: bool) -> int:
    """Write or compare all of them; return the exit code."""
    stale = []
    for board in BOARDS:
        path, text = FOLDER / f"{board.uid}.json", as_json(board)
        if path.exists() and path.read_text() == text:
            continue
        stale.append(path.name)
        if not is_check:
            path.write_text(text)
    if stale:
        print(f"{'out of date, run make dashboards' if is_check else 'written'}: {', '.join(stale)}", file=sys.stderr)
    return 1 if stale and is_check else 0


if __name__ == "__main__":
    sys.exit(main(is_check="--check" in sys.argv[1:]))
