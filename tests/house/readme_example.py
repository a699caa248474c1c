"""Print the configuration that README shows: the first TOML block that sets `log`."""

import re
import sys
from pathlib import Path


def example(readme: str) -> str:
    """Return the example.

    Raises:
        LookupError: README shows none.
    """
    for block in re.findall(r"^```toml\n(.*?)^```", readme, re.DOTALL | re.MULTILINE):
        if re.search(r"^log\s*=", block, re.MULTILINE):
            return str(block)
    raise LookupError("README shows no configuration: a ```toml block with a line that begins with `log =`")


if __name__ == "__main__":
    sys.stdout.write(example(Path(sys.argv[1]).read_text()))
