"""What ops people are given: rules, dashboards and runbooks name only what is there, and leave nothing unexplained."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext
from threading import Thread

import pytest
import yaml
from tests.certificates import make_certificate
from tests.house.commands import check_command, commands_in
from tests.incident.boards import boards, panels
from tests.incident.hurry import hurried
from tests.settings.toml_builders import make_toml

from tailrace.demo.place import Place
from tailrace.domain.headlines import ADVICE
from tailrace.domain.status import Condition
from tailrace.domain.verdicts import LATE_SNAPSHOTS, STALLED_MS
from tailrace.settings import Settings, load
from tailrace.telemetry import instruments
from tailrace.telemetry.instruments import Type

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"
RUNBOOKS = ROOT / "docs/runbooks"
RULES = [
    rule
    for path in sorted((PROMETHEUS / "rules").glob("*.yml"))
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
COMPOSE_TEXT = (ROOT / "deploy/compose.yaml").read_text()
COMPOSE = yaml.safe_load(COMPOSE_TEXT)
IMAGE = (ROOT / "deploy/Dockerfile").read_text()
PAGES = {path.stem: path.read_text() for path in sorted(RUNBOOKS.glob("*.md"))}
BOARDS = boards()
PANELS = [
    pytest.param(panel, id=f"{uid}: {panel['title']}") for uid, board in BOARDS.items() for panel in panels(board)
]


def code_of(alert: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", alert.removeprefix("Tailrace")).lower()


def exposed() -> set[str]:
    """Every name that /metrics can have."""
    names = set()
    for each in instruments.ALL:
        suffixes = ("_bucket", "_sum", "_count") if each.type is Type.HISTOGRAM else ("",)
        names |= {each.name + suffix for suffix in suffixes}
    return names


def names_in(promql: str) -> set[str]:
    """Names of ours in a query: recorded ones have colons."""
    return set(re.findall(r"(?<![\w:])(?:[a-z_]+:)?tailrace_\w+(?::\w+)?", promql))


# ── rules ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert", rule.get("record")))
def test_a_rule_names_only_instruments_and_rules_that_are_there(rule):
    assert names_in(rule["expr"]) <= exposed() | RECORDED


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_how_bad_it_is_what_it_means_and_what_to_do(alert: str):
    rule = ALERTS[alert]

    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert {"summary", "description", "runbook_url", "dashboard_url"} == set(rule["annotations"])
    assert f"docs/runbooks/{code_of(alert)}.md" == rule["annotations"]["runbook_url"]
    assert rule["annotations"]["dashboard_url"].removeprefix("/d/") in BOARDS
    for command in commands_in(rule["annotations"]["description"]):
        check_command(command)


@pytest.mark.parametrize("alert", [name for name in ALERTS if code_of(name) in set(Condition)])
def test_an_alert_about_a_condition_of_status_speaks_as_status_does(alert: str):
    advice = ADVICE[Condition(code_of(alert))]

    assert advice.action[1:] in ALERTS[alert]["annotations"]["description"]


def test_a_snapshot_is_late_for_the_alert_when_it_is_for_status():
    assert (
        f"{LATE_SNAPSHOTS} * max by (job, loop) ({instruments.SNAPSHOT_INTERVAL.name})"
        in (ALERTS["TailraceSnapshotLate"]["expr"])
    )


def test_the_runbooks_say_how_much_sooner_than_an_alert_status_calls_a_partition_stalled():
    for name in ("Scoring", "Joining", "Learning", "Following"):
        rule = ALERTS[f"Tailrace{name}Stalled"]
        (limit_s,) = re.findall(r"progress_timestamp_seconds\{.+?\} > (\d+)", rule["expr"])

        assert f"calls a partition stalled after {STALLED_MS // 1_000} s" in PAGES["README"]
        assert f"wait for {limit_s} s and tell it when that lasts another {rule['for'].removesuffix('m')} minutes" in (
            " ".join(PAGES["README"].split())
        )
        assert f"`tailrace status` says so after {STALLED_MS // 1_000} s" in PAGES[f"{name.lower()}_stalled"]


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_is_quiet(alert: str):
    cases = Counter(
        bool(query["exp_samples"])
        for path in (PROMETHEUS / "tests").glob("*.yml")
        for case in yaml.safe_load(path.read_text())["tests"]
        for query in case["promql_expr_test"]
        if f'"{alert}"' in query["expr"]
    )

    assert cases[True]
    assert cases[False]


def test_the_incident_knows_every_duration_and_limit_that_it_shortens():
    for path in (PROMETHEUS / "rules").glob("*.yml"):
        assert not re.findall(r"(?:\[|offset |for: )\d+[mhd]", hurried(path.read_text()))


def inhibited_by(source: dict[str, str]) -> list[dict[str, str]]:
    """Return which alerts of two installations are not told while one alert fires."""
    others = [{"alertname": name, "job": job, "loop": "phishing"} for name in ALERTS for job in ("one", "two")]
    rules = yaml.safe_load((PROMETHEUS / "alertmanager.yml").read_text())["inhibit_rules"]
    return [
        other
        for other in others
        if any(
            matches(source, rule["source_matchers"])
            and matches(other, rule["target_matchers"])
            and all(source.get(label) == other.get(label) for label in rule.get("equal", ()))
            for rule in rules
        )
    ]


def matches(labels: dict[str, str], matchers: list[str]) -> bool:
    """Decide as Alertmanager does; a label that is not there is empty."""
    for matcher in matchers:
        name, operator, value = re.fullmatch(r'(\w+) *(=~|!~|!=|=) *"?([^"]*)"?', matcher).groups()
        found = labels.get(name, "")
        is_same = re.fullmatch(value, found) is not None if "~" in operator else value == found
        if is_same == operator.startswith("!"):
            return False
    return True


def test_matchers_of_several_alerts_in_one_are_read_as_alertmanager_reads_them():
    assert matches({"alertname": "TailraceDrift"}, ['alertname =~ "Tailrace.+"', "alertname != TailraceNoProcess"])
    assert not matches({"alertname": "TailraceDrift"}, ['alertname !~ "TailraceDrift|TailraceNoInput"'])


def test_an_installation_that_is_not_ready_silences_itself_alone():
    silenced = inhibited_by({"alertname": "TailraceNotReady", "job": "one", "severity": "critical"})

    assert {"one"} == {each["job"] for each in silenced}
    assert set(ALERTS) - {"TailraceNoProcess", "TailraceNotReady"} == {each["alertname"] for each in silenced}


def test_where_nothing_runs_that_alone_is_told():
    silenced = inhibited_by({"alertname": "TailraceNoProcess", "severity": "critical"})

    assert {"one", "two"} == {each["job"] for each in silenced}
    assert set(ALERTS) - {"TailraceNoProcess"} == {each["alertname"] for each in silenced}


# ── runbooks ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_alert_and_every_condition_has_a_page_and_no_page_is_about_nothing():
    assert {code_of(alert) for alert in ALERTS} | {each.value for each in Condition} - {"all_well"} == set(PAGES) - {
        "README"
    }


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_is_there(page: str):
    for command in commands_in(PAGES[page]):
        check_command(command)


def test_a_command_that_is_not_there_is_noticed():
    for command in ("tailrace statsu", "tailrace status --watchful", "tailrace dlq list --code nonsense"):
        with pytest.raises(Exception, match="."):
            check_command(command)


@pytest.mark.parametrize("page", PAGES)
def test_every_query_of_a_page_names_what_is_there_and_every_link_leads_somewhere(page: str):
    for block in re.findall(r"```promql\n(.*?)```", PAGES[page], re.DOTALL):
        assert names_in(block) <= exposed() | RECORDED
    for target in re.findall(r"\]\(([^)#\s]+)\)", PAGES[page]):
        assert (RUNBOOKS / target).exists(), target


@pytest.mark.parametrize("page", sorted(set(PAGES) - {"README"}))
def test_a_page_says_who_notices_where_to_look_and_when_to_call(page: str):
    for words in ("**Who notices.** ", "## Look first", "## Likely causes", "## Call somebody when"):
        assert words in PAGES[page]


# ── dashboards ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_has_a_unit_legends_and_says_what_is_good_and_what_to_do(panel):
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert re.fullmatch(r".+\. Good: .+ If not: .+", panel["description"], re.DOTALL)
    assert all(target["legendFormat"] for target in panel["targets"] if panel["type"] != "table")
    assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    for command in commands_in(panel["description"]):
        check_command(command)


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_asks_only_for_what_is_there(panel):
    for target in panel["targets"]:
        assert names_in(target["expr"]) <= exposed() | RECORDED


@pytest.mark.parametrize("uid", BOARDS)
def test_a_dashboard_can_be_imported_anywhere(uid: str):
    board, text = BOARDS[uid], json.dumps(BOARDS[uid])
    defined = {each["name"] for each in board["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", text)) - {"__rate_interval", "__all"}
    ids = [panel["id"] for panel in board["panels"]]
    sources = {json.dumps(panel.get("datasource")) for panel in panels(board)}

    assert uid == board["uid"]
    assert used <= defined
    assert len(ids) == len(set(ids))
    assert {'{"type": "prometheus", "uid": "${datasource}"}'} == sources
    assert_nothing_overlaps(board)


def assert_nothing_overlaps(board) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_the_loop_fits_on_one_screen():
    assert max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in BOARDS["tailrace-loop"]["panels"]) <= 20


# ── compose and image ─────────────────────────────────────────────────────────────────────────────────────────────


def test_what_compose_mounts_is_there():
    for service in COMPOSE["services"].values():
        for volume in service["volumes"]:
            source = volume.partition(":")[0]
            if source.startswith("."):
                assert (ROOT / "deploy" / source).exists(), source
            else:
                assert source in COMPOSE["volumes"] or "${" in source, source


def test_compose_listens_on_loopback_alone_and_names_versions():
    for service in COMPOSE["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"]) if "image" in service else "build" in service


def test_tailrace_runs_without_root_and_writes_nowhere_but_where_it_must():
    service = COMPOSE["services"]["tailrace"]

    assert service["read_only"]
    assert ["ALL"] == service["cap_drop"]
    assert IMAGE.index("USER 10001") < IMAGE.index("ENTRYPOINT")
    check_command(f"tailrace {unless_said(service['command'])}")


def unless_said(value: str) -> str:
    """Return what compose puts in place of a variable that nobody sets."""
    return re.sub(r"^\$\{\w+:-(.*)\}$", r"\1", value)


def option_of(command: str, name: str) -> str:
    words = shlex.split(command)
    return words[words.index(name) + 1]


def own_loop(folder: Path, environ: dict[str, str], command: str) -> Settings:
    """Read the settings of somebody's loop on compose's Kafka, as `tailrace run --http …` does."""
    file = folder / "tailrace.toml"
    file.write_text(make_toml(log="kafka://kafka:9092"))
    return load(file, environ={**environ, "TAILRACE_HTTP": option_of(command, "--http")})


def test_the_demo_of_compose_can_listen_where_it_is_told_to(tmp_path: Path):
    command = unless_said(COMPOSE["services"]["tailrace"]["command"])
    log, http = f"kafka://{option_of(command, '--bootstrap')}", option_of(command, "--http")

    settings = Place.make(tmp_path).settings(log, http, "a1b2c3")

    assert (log, http) == (settings.log, settings.http)


def test_a_loop_of_ones_own_can_listen_where_compose_says(tmp_path: Path):
    environ = {name: unless_said(value) for name, value in COMPOSE["services"]["tailrace"]["environment"].items()}
    (command,) = re.findall(r'# +LOOP_COMMAND="(.+?)" docker compose', COMPOSE_TEXT)

    settings = own_loop(tmp_path, environ, command)

    assert not settings.is_local
    assert not settings.api.enabled


def test_the_image_can_listen_where_it_does_with_what_its_comment_says(tmp_path: Path):
    (variable,) = re.findall(r"# +docker run .+ --env (\S+) tailrace$", IMAGE, re.MULTILINE)
    (command,) = re.findall(r"^CMD (\[.+\])$", IMAGE, re.MULTILINE)

    settings = own_loop(tmp_path, dict([variable.split("=")]), shlex.join(json.loads(command)))

    assert not settings.is_local
    assert not settings.api.enabled


@contextmanager
def livez(status: int, tls: tuple[Path, Path] | None) -> Iterator[int]:
    """Serve one answer, by TLS or not; yield the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/livez" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing of every request."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        context = SSLContext(PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    serving = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    serving.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


@pytest.mark.parametrize("by_tls", [False, True], ids=["http", "tls"])
@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_image_knows_who_lives_however_it_serves(status: int, code: int, by_tls: bool, tmp_path: Path):
    (check,) = re.findall(r'CMD \["python", "/usr/local/lib/tailrace/(\w+\.py)", "8321"\]', IMAGE)
    with livez(status, make_certificate(tmp_path) if by_tls else None) as port:
        done = subprocess.run([sys.executable, ROOT / "deploy" / check, str(port)], check=False, capture_output=True)

    assert (code, b"", b"") == (done.returncode, done.stdout, done.stderr)
    assert f"!deploy/{check}" in (ROOT / ".dockerignore").read_text().splitlines()
    assert f"COPY --chmod=444 deploy/{check} /usr/local/lib/tailrace/{check}" in IMAGE


def test_kafka_keeps_its_log_in_the_volume_that_stays():
    kafka = COMPOSE["services"]["kafka"]

    assert [f"kafka:{kafka['environment']['KAFKA_LOG_DIRS']}"] == kafka["volumes"]


def test_prometheus_keeps_the_exemplars_that_a_panel_shows_beside_their_histogram():
    asking = [target for board in BOARDS.values() for panel in panels(board) for target in panel["targets"]]
    shown = [target["expr"] for target in asking if target.get("exemplar")]

    assert shown
    assert all(f"{instruments.END_TO_END.name}_bucket" in expr for expr in shown)
    assert "--enable-feature=exemplar-storage" in COMPOSE["services"]["prometheus"]["command"]


def test_compose_scrapes_where_tailrace_listens():
    (job,) = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    name, _, port = target.partition(":")

    assert "tailrace" in job["job_name"]
    assert f"--http 0.0.0.0:{port}" in COMPOSE["services"][name]["command"]
