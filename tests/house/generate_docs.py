"""Write docs/configuration.md and docs/metrics.md from the code; a test fails when they are out of date.

python tests/house/generate_docs.py
"""

from pathlib import Path

from tailrace.settings import field_table
from tailrace.telemetry import instruments

DOCS = Path(__file__).resolve().parents[2] / "docs"


def configuration() -> str:
    """Return docs/configuration.md."""
    lines = [
        "# Configuration",
        "",
        "`tailrace.toml`, or the file that `--config` or `TAILRACE_CONFIG` names. Every key can also be given as an",
        "environment variable: `TAILRACE_` and the key in capitals, parts joined by `__`, for example",
        "`TAILRACE_SNAPSHOTS__EVERY=1m` or `TAILRACE_LOOPS__PHISHING__HORIZON=2h`. With `_FILE` at the end the value is",
        "read from the file that the variable names: `TAILRACE_KAFKA__PASSWORD_FILE=/run/secrets/kafka`. The environment",
        "wins over the file. An unknown variable that begins with `TAILRACE_` is an error.",
        "",
        "`NAME` stands for the name of a loop (`[a-z][a-z0-9_]*`) or of a feature. Relative paths are relative to the file.",
        "`tailrace check` reports every problem at once.",
        "",
        "| key | what it is | default | allowed |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| `{row.key}` | {_cell(row.sentence)} | {_cell(row.default)} | {_cell(row.type)} |" for row in field_table()
    ]
    return "\n".join(lines) + "\n"


def metrics() -> str:
    """Return docs/metrics.md."""
    lines = [
        "# Metrics",
        "",
        "What `/metrics` exposes, for Prometheus. (In Tailrace's own words these are instruments; a metric is model quality.)",
        "",
        "| name | type | labels | meaning |",
        "|---|---|---|---|",
    ]
    for each in instruments.ALL:
        labels = ", ".join(_label(each, name) for name in each.labels) or "-"
        lines.append(f"| `{each.name}` | {each.type.value} | {labels} | {_cell(each.help)} |")
    return "\n".join(lines) + "\n"


def _label(each: instruments.Instrument, name: str) -> str:
    values = each.closed.get(name)
    return f"`{name}`" if not values else f"`{name}` ({', '.join(sorted(values))})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


FILES = {"configuration.md": configuration, "metrics.md": metrics}

if __name__ == "__main__":
    DOCS.mkdir(exist_ok=True)
    for name, content in FILES.items():
        (DOCS / name).write_text(content())
