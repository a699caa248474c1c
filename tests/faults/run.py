"""Tries one fault in this process: `python -m tests.faults.run F05 --size ci --seed 1 --out FILE`.

Writes what it came to as JSON: a failure, and whether that was a wait in vain. Ends with 1 when it failed; the folder
with the logs of its processes is kept then.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.faults.catalog import Fault, Size, Trial, load_cases
from tests.scenarios.harness import InVain


def try_fault(fault: Fault, size: Size, seed: int, out: Path | None) -> bool:
    """Try it, write what it came to, and return whether it passed."""
    folder = Path(tempfile.mkdtemp(prefix=f"tailrace-{fault.number}-"))
    trial = Trial(fault.times(size), seed, size, folder)
    began_s = time.monotonic()
    found: dict[str, object] = {"number": fault.number, "title": fault.title, "size": size, "seed": seed}
    try:
        found |= asyncio.run(fault.story(trial)).as_dict()
        shutil.rmtree(folder)
        failure, is_in_vain = "", False
    except Exception as error:  # whatever it is, it is told in the table
        traceback.print_exc()
        failure, is_in_vain = f"{type(error).__name__}: {error}".partition("\n")[0], isinstance(error, InVain)
        print(f"its logs are in {folder}", file=sys.stderr)
    found |= {"failure": failure, "in_vain": is_in_vain, "seconds": time.monotonic() - began_s}
    if out is not None:
        out.write_text(json.dumps(found))
    return not failure


def main() -> int:
    """Try one fault; return the exit code."""
    faults = load_cases()
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("fault", choices=list(faults))
    parser.add_argument("--size", type=Size, choices=list(Size), default=Size.CI)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.ERROR, format="%(levelname)s %(name)s %(message)s")
    return 0 if try_fault(faults[arguments.fault], arguments.size, arguments.seed, arguments.out) else 1


if __name__ == "__main__":
    sys.exit(main())
