"""docs/quality.ipynb, worked through against a worker that has learned River's phishing data.

Needs the dependency group `api`; `make api` has it, and there it must not be skipped.
`python -m tests.client.test_notebook` writes what the cells show into the document.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from river.datasets import Phishing
from tests.log_forms import REPOSITORY, LogForm
from tests.scenarios.api_ground import Served, served
from tests.scenarios.harness import now_ms, until

if os.environ.get("REQUIRE_API_TOOLS"):
    import nbformat
    from nbclient import NotebookClient
else:
    nbformat = pytest.importorskip("nbformat", reason="needs the dependency group `api`; see make api")
    NotebookClient = pytest.importorskip("nbclient").NotebookClient
    pytest.importorskip("pandas")

DOCUMENT = REPOSITORY / "docs" / "quality.ipynb"
EXAMPLES = 600
AT_ONCE = 100
PARAMETERS = "URL = "


@asynccontextmanager
async def phishing(folder: Path) -> AsyncIterator[Served]:
    """Run a worker and let it learn, so slowly that several heartbeats tell of it."""
    rows = list(Phishing().take(EXAMPLES))
    form = LogForm("embedded", f"embedded:{folder / 'log'}", folder / "log", prefix="phishing")
    async with served(form, folder, features=dict.fromkeys(sorted(rows[0][0]), "number")) as at:
        for start in range(0, EXAMPLES, AT_ONCE):
            part = [(f"page-{start + row}", x, y) for row, (x, y) in enumerate(rows[start : start + AT_ONCE])]
            events = [{"id": name, "at": now_ms(), **x} for name, x, _ in part]
            labels = [{"id": name, "at": now_ms(), "y": y} for name, _, y in part]
            await at.ask(lambda client, events=events: client.write_events(events))
            await at.ask(lambda client, labels=labels: client.write_labels(labels))
            await until(lambda count=start + AT_ONCE: at.scenario.learned(at.process) == count, "they are learned")
            await asyncio.sleep(0.7)

        async def kept() -> bool:
            versions = await at.ask(lambda client: client.versions("phishing"))
            return bool(versions) and versions[0]["counters"]["learned"] == EXAMPLES

        await until(kept, "a snapshot holds all")
        yield at


async def work_through(folder: Path) -> Any:
    """Run every cell; return the document with what the cells show."""
    document = nbformat.read(DOCUMENT, as_version=4)
    async with phishing(folder) as at:
        (folder / "token").write_text(at.token)
        (parameters,) = [cell for cell in document.cells if cell.source.startswith(PARAMETERS)]
        said = parameters.source
        parameters.source = said.replace("http://127.0.0.1:8321", f"http://{at.address}")
        runner = NotebookClient(document, timeout=60, resources={"metadata": {"path": str(folder)}})
        await runner.async_execute()
        parameters.source = said
    return document


def shown(document: Any) -> dict[str, list[Any]]:
    return {cell.source: cell.outputs for cell in document.cells if cell.cell_type == "code"}


async def test_every_cell_shows_what_the_text_says(tmp_path: Path):
    outputs = shown(await work_through(tmp_path))

    (sentence,) = [each for source, each in outputs.items() if "sentence" in source]
    assert "predictions are served from a state" in sentence[0].data["text/plain"]
    plots = [each for source, each in outputs.items() if "plot" in source]
    assert len(plots) == 3
    assert all(any("image/png" in output.get("data", {}) for output in each) for each in plots)
    (answered,) = [each for source, each in outputs.items() if "explain=True" in source]
    (rebuilt,) = [each for source, each in outputs.items() if "predict_proba_one" in source]
    assert rebuilt[0].data["text/plain"].strip() in answered[0].data["text/plain"]


def test_the_document_shows_what_its_cells_say():
    document = nbformat.read(DOCUMENT, as_version=4)

    assert not [
        cell.source
        for cell in document.cells
        if cell.cell_type == "code" and "predict" in cell.source and not cell.outputs
    ]
    assert "tailrace_" not in DOCUMENT.read_text()


if __name__ == "__main__":
    nbformat.write(asyncio.run(work_through(Path(sys.argv[1]).resolve())), DOCUMENT)
