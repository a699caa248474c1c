"""`python -m tests.incident`: a loop falls ill in several ways; rules, alerts and dashboards are watched meanwhile.

A real worker on an embedded log is scraped by a real Prometheus with the committed rules (minutes made seconds,
`hurry`); a real Alertmanager with the committed routes tells a webhook. Required at the end:
    1. every rule was evaluated without an error, and every recording rule has given numbers;
    2. every query of every panel of every dashboard has given numbers; every annotation can be parsed;
    3. every alert that a scene provokes fired, and was told as firing, where no other alert inhibits it;
    4. when all is well again no alert fires, and whatever was told as firing was told as resolved.
The scenes are real: processes are frozen, stores taken away, labels confused. What no loop can be made to do on demand,
such as to come to another digest, a second process tells through the product's own recorder (`teller`).
Ends with 1 when one of the four fails. Takes about three and a half minutes.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from tests.incident import teller
from tests.incident.boards import boards, filled, queries
from tests.incident.hurry import hurried
from tests.incident.loop import Producers, Worker
from tests.incident.servers import Alertmanager, Prometheus, Webhook, free_ports
from tests.incident.teller import Teller

S = TypeVar("S", Teller, Webhook, Alertmanager, Prometheus)
DEPLOYED: Final = Path(__file__).resolve().parents[2] / "deploy/prometheus"
RATE_INTERVAL: Final = "8s"
CALM_WITHIN_S: Final = 60.0
WELL_S: Final = 22.0
"""How long the loop runs before anything happens; as long as the longest window that needs a past."""

INHIBITED: Final = frozenset(
    {
        "TailraceProcessSilent",
        "TailraceLagHigh",
        "TailraceScoringBehind",
        "TailraceScoringHindered",
        "TailraceLearningBehind",
    }
)
"""Fire while something worse does, and are then not told."""

TOLD_ONLY: Final = frozenset({"TailraceDrift"})
"""May fire at any time: information, not trouble."""


@dataclass(frozen=True)
class Scene:
    """Something that goes wrong.

    Attributes:
        fires: Alerts that must fire, and be told, before it is undone.
        lasts_s: How long it lasts at least.
        within_s: How long they are waited for.
        after: Alerts that must fire when it is undone.
    """

    title: str
    begin: Callable[[], None]
    end: Callable[[], None]
    fires: frozenset[str]
    lasts_s: float = 0.0
    within_s: float = 40.0
    after: frozenset[str] = frozenset()


class Incident:
    """The stage: everything that runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        http, told, prometheus, alertmanager, webhook = free_ports(5)
        self.worker = Worker(folder, f"127.0.0.1:{http}")
        self.producers = Producers(folder)
        self._write([http, told], alertmanager, webhook)
        self.begun_s = time.time()  # noqa: TID251 - Prometheus dates by it
        self.fired: dict[str, str] = {}
        with ExitStack() as starting:  # whoever has started is stopped when a later one does not
            self.teller = _started(starting, Teller(told))
            self.webhook = _started(starting, Webhook(webhook))
            _started(starting, Alertmanager(folder, alertmanager))
            self.prometheus = _started(starting, Prometheus(folder, prometheus))
            self._stack = starting.pop_all()

    def _write(self, told_at: list[int], alertmanager: int, webhook: int) -> None:
        rules = self.folder / "rules"
        rules.mkdir(exist_ok=True)
        for path in (DEPLOYED / "rules").glob("*.yml"):
            (rules / path.name).write_text(hurried(path.read_text()))
        text = (DEPLOYED / "prometheus.yml").read_text().replace("15s", "1s")
        targets = ", ".join(f'"127.0.0.1:{port}"' for port in told_at)
        text = text.replace("alertmanager:9093", f"127.0.0.1:{alertmanager}").replace('"tailrace:8321"', targets)
        (self.folder / "prometheus.yml").write_text(text)
        text = re.sub(r"http://\S+", f"http://127.0.0.1:{webhook}/", (DEPLOYED / "alertmanager.yml").read_text())
        text = text.replace("group_wait: 30s", "group_wait: 1s").replace("group_interval: 5m", "group_interval: 1s")
        (self.folder / "alertmanager.yml").write_text(text)

    def stop(self) -> None:
        """End everything."""
        with self._stack:
            self.producers.stop()
            self.worker.stop()

    def watch(self, title: str, until: Callable[[set[str]], bool], within_s: float) -> bool:
        """Look at what fires until a condition holds; false when the time is over."""
        deadline_s = time.monotonic() + within_s
        while True:
            firing = self.prometheus.firing()
            for name in firing - self.fired.keys():
                self.fired[name] = title
            if self.producers.error is not None:
                raise SystemExit(f"the producers failed: {self.producers.error!r}")
            if until(firing):
                return True
            if time.monotonic() > deadline_s:
                return False
            time.sleep(0.5)

    # ── scenes ────────────────────────────────────────────────────────────────────────────────────────────────────

    def scenes(self) -> list[Scene]:
        """Return what goes wrong, in order."""
        mood, worker = self.producers.mood, self.worker
        usual = mood.rate_per_s

        def set_(**changes: float | bool) -> Callable[[], None]:
            def act() -> None:
                for name, value in changes.items():
                    setattr(mood, name, value)

            return act

        def run_as(*roles: str) -> Callable[[], None]:
            def act() -> None:
                worker.stop()
                worker.start(*roles)

            return act

        return [
            Scene(
                "a producer sends garbage",
                set_(garbage=0.3),
                set_(garbage=0.0),
                frozenset({"TailraceDeadLettersMany", "TailraceDeadLetterNewCode"}),
            ),
            Scene(
                "somebody confuses yes and no in the labels",
                set_(is_lying=True),
                set_(is_lying=False),
                frozenset({"TailraceModelWorseThanBaseline", "TailraceModelDegraded", "TailraceDrift"}),
            ),
            Scene(
                "the store cannot be written",
                self._take_store,
                self._give_store,
                frozenset({"TailraceLearningHindered", "TailraceSnapshotLate"}),
            ),
            Scene(
                "labels come after the horizon",
                set_(delay_s=12.0),
                set_(delay_s=0.0),
                frozenset({"TailraceLabelsMissing", "TailraceLabelsLate"}),
            ),
            Scene(
                "the process is frozen",
                lambda: worker.signal(signal.SIGSTOP),
                lambda: worker.signal(signal.SIGCONT),
                frozenset({"TailraceNoProcess", "TailraceProcessSilent"}),
                lasts_s=7.0,
                after=frozenset({"TailraceAnswersSlow", "TailraceLabelToInfluenceSlow", "TailraceEventLoopBlocked"}),
            ),
            Scene(
                "nobody joins and learns",
                run_as("score"),
                lambda: None,
                frozenset({"TailraceJoiningStopped", "TailraceLearningStopped"}),
            ),
            Scene("nobody scores", run_as("join", "learn"), run_as(), frozenset({"TailraceScoringStopped"})),
            Scene("no events come", set_(rate_per_s=0.0), set_(rate_per_s=usual), frozenset({"TailraceNoInput"})),
            Scene(
                "a second process tells of what no loop can be made to do",
                self.teller.begin,
                self.teller.end,
                teller.ALERTS,
            ),
        ]

    def _take_store(self) -> None:
        store = self.folder / "snapshots"
        store.rename(self.folder / "snapshots.away")
        store.write_text("a file where a folder should be")

    def _give_store(self) -> None:
        (self.folder / "snapshots").unlink()
        (self.folder / "snapshots.away").rename(self.folder / "snapshots")

    # ── what is required ──────────────────────────────────────────────────────────────────────────────────────────

    def rules_that_fail(self) -> list[str]:
        """Return rules with errors, and recording rules without numbers."""
        wrong = []
        for group in self.prometheus.ask("rules")["groups"]:
            for rule in group["rules"]:
                if rule["health"] != "ok":
                    wrong.append(f"rule {rule['name']}: {rule['health']} {rule.get('lastError', '')}")
                elif rule["type"] == "recording" and not self.prometheus.series_of(rule["name"], self.begun_s):
                    wrong.append(f"rule {rule['name']} gave no number")
        return wrong

    def panels_that_fail(self) -> list[str]:
        """Return queries of panels that gave no number, and annotations that cannot be parsed."""
        wrong = []
        for asked in queries(rate_interval=RATE_INTERVAL, metric="accuracy"):
            try:
                if not self.prometheus.series_of(asked.expr, self.begun_s):
                    wrong.append(f"{asked.board}, {asked.panel}: no number of {asked.expr}")
            except ValueError as refused:
                wrong.append(f"{asked.board}, {asked.panel}: {refused}")
        for uid, board in boards().items():
            for each in board["annotations"]["list"]:
                try:
                    self.prometheus.ask(
                        "query", query=filled(each["expr"], rate_interval=RATE_INTERVAL, metric="accuracy")
                    )
                except ValueError as refused:
                    wrong.append(f"{uid}, annotation {each['name']}: {refused}")
        return wrong


def _started(stack: ExitStack, server: S) -> S:
    stack.callback(server.stop)
    return server


def play(incident: Incident) -> list[str]:
    """Play it; return what was not as required."""
    incident.worker.start()
    incident.producers.start()
    wrong: list[str] = []
    if not incident.watch(
        "before", lambda _: bool(incident.prometheus.series_of("tailrace_ready == 1", incident.begun_s)), 40
    ):
        return ["the worker did not become ready; see worker.log"]
    incident.watch("before", lambda _: False, WELL_S)
    if not incident.watch("before", lambda firing: not firing - TOLD_ONLY, CALM_WITHIN_S):
        wrong.append(f"before anything happened, {sorted(incident.prometheus.firing())} fired")
    provoked = set(TOLD_ONLY)
    for scene in incident.scenes():
        provoked |= scene.fires | scene.after
        wrong += act(incident, scene)
    if not incident.watch("after all", lambda firing: not firing - TOLD_ONLY, CALM_WITHIN_S):
        wrong.append(f"when all was well again, {sorted(incident.prometheus.firing() - TOLD_ONLY)} still fired")
    wrong += incident.rules_that_fail()
    wrong += incident.panels_that_fail()
    wrong += told(incident, provoked)
    say(f"{len(provoked)} alerts were provoked; not: {', '.join(sorted(known_alerts() - provoked))}")
    return wrong


def known_alerts() -> set[str]:
    """Return the names of all alerts."""
    return {
        name for path in (DEPLOYED / "rules").glob("*.yml") for name in re.findall(r"- alert: (\w+)", path.read_text())
    }


def act(incident: Incident, scene: Scene) -> list[str]:
    """Play one scene."""
    say(scene.title)
    scene.begin()
    begun_s = time.monotonic()
    seen: set[str] = set()

    def enough(names: frozenset[str], least_s: float) -> Callable[[set[str]], bool]:
        # To be told may take longer than to fire: what is worse must have been resolved, or it inhibits.
        to_tell = {(name, "firing") for name in names - INHIBITED - TOLD_ONLY}

        def ask(firing: set[str]) -> bool:
            seen.update(firing)
            return names <= seen and to_tell <= incident.webhook.told and time.monotonic() - begun_s >= least_s

        return ask

    incident.watch(scene.title, enough(scene.fires, scene.lasts_s), scene.within_s)
    scene.end()
    incident.watch(scene.title, enough(scene.fires | scene.after, 0), scene.within_s if scene.after else 0)
    missing = sorted((scene.fires | scene.after) - seen)
    say(f"  {time.monotonic() - begun_s:.0f} s, fired: {', '.join(sorted(seen)) or 'nothing'}")
    return [f"{scene.title}: {name} did not fire" for name in missing]


def told(incident: Incident, provoked: set[str]) -> list[str]:
    """Wait until Alertmanager has told all it should; return what it did not."""
    wanted = {(name, "firing") for name in provoked - INHIBITED - TOLD_ONLY}
    wanted |= {(name, "resolved") for name in provoked - INHIBITED - TOLD_ONLY}
    incident.watch("after all", lambda _: wanted <= incident.webhook.told, CALM_WITHIN_S)
    wrong = [f"{name} was not told as {status}" for name, status in sorted(wanted - incident.webhook.told)]
    wrong += [
        f"{name}: annotation {key} is empty or was not filled in: {text!r}"
        for name, annotations in incident.webhook.annotations.items()
        for key, text in annotations.items()
        if not text or "{{" in text or "<no value>" in text or "<error" in text
    ]
    return wrong


def say(text: str) -> None:
    """Tell how it goes."""
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Play the incident in a folder that is removed unless it is to be kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.incident", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--keep", type=Path, help="folder for logs and Prometheus' data, which stays")
    options = parser.parse_args()
    folder = (options.keep or Path(tempfile.mkdtemp(prefix="tailrace-incident-"))).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    begun_s = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what was started is stopped then, too
    incident = Incident(folder)
    try:
        wrong = play(incident)
    finally:
        (folder / "ended").write_text(str(time.time()))  # noqa: TID251 - says which time Prometheus' data is of
        incident.stop()
        if options.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    asked = len(queries(rate_interval=RATE_INTERVAL, metric="accuracy"))
    say(
        f"{len(incident.fired)} alerts fired and were resolved, {asked} queries asked, {time.monotonic() - begun_s:.0f} s"
    )
    for line in wrong:
        say(f"WRONG {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
