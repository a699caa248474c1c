"""A loop on a broker that asks who one is: TLS, SASL, and no more rights than the docs list."""

from __future__ import annotations

import asyncio
import gc
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest
from tests.certificates import make_certificate
from tests.conftest import launcher, require_kafka
from tests.log_forms import REPOSITORY, LogForm
from tests.scenarios.commanding import Ran, learn, tailrace
from tests.scenarios.harness import Scenario, now_ms, pairs, until

from tailrace import settings as loading
from tailrace.domain.status import Role

# A refused connection over TLS is closed a moment after the loop of a command has ended.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

USERS = {"loop": "sesame", "scorer": "sesame-2", "watcher": "open"}
SCORER_WRITES = ("<loop>.predictions", "<loop>.scored", "<loop>.status", "<events>.dlq")
RESOURCES = {"topic": 2, "group": 3, "cluster": 4}
OPERATIONS = {
    name: code
    for code, name in enumerate(
        (
            "READ",
            "WRITE",
            "CREATE",
            "DELETE",
            "ALTER",
            "DESCRIBE",
            "CLUSTER_ACTION",
            "DESCRIBE_CONFIGS",
            "ALTER_CONFIGS",
        ),
        3,
    )
}
LITERAL, PREFIXED, ALLOW = 3, 4, 3
SEEN_WITHIN_S = 1.0
"""A broker answers before its authorizer has read the new rule."""


@dataclass(frozen=True)
class Right:
    """A row of the table in docs/access.md."""

    who: str
    resource: str
    name: str
    operations: tuple[str, ...]


def rights_of(who: str) -> list[Right]:
    rows = re.findall(
        r"^\| (.+) \| (topic|group|cluster) \| `(.+)` \| (.+) \|$",
        (REPOSITORY / "docs/access.md").read_text(),
        re.MULTILINE,
    )
    found = [Right(who, resource, name, tuple(operations.split(", "))) for who, resource, name, operations in rows]
    return [right for right in found if right.who == f"`{who}`"]


CASES = [(right, operation) for right in rights_of("tailrace run") for operation in right.operations]


@dataclass
class Guarded:
    """A broker with a listener that asks who one is, and one that lets the tests do everything."""

    broker: Any
    port: int
    certificate: Path


@pytest.fixture(autouse=True)
def _connections_end_here() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory) -> Iterator[Guarded]:
    require_kafka()
    folder = tmp_path_factory.mktemp("guarded")
    certificate, key = make_certificate(folder)
    both = folder / "server.pem"
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    port = launcher.Broker(folder / "kafka", front=0).front_address[1]
    plain = " ".join(f'user_{name}="{password}"' for name, password in USERS.items())
    login = "org.apache.kafka.common.security"
    settings = {
        "listener.security.protocol.map": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT,FRONT:SASL_SSL",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "listener.name.front.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        "listener.name.front.plain.sasl.jaas.config": f"{login}.plain.PlainLoginModule required {plain};",
        "listener.name.front.scram-sha-512.sasl.jaas.config": f"{login}.scram.ScramLoginModule required;",
        "listener.name.front.ssl.keystore.type": "PEM",
        "listener.name.front.ssl.keystore.location": str(both),
        "group.min.session.timeout.ms": "1000",
    }
    broker = launcher.Broker(folder / "kafka", front=port, settings=settings, users=USERS).start()
    yield Guarded(broker, port, certificate)
    broker.stop()


def named(name: str, scenario: Scenario) -> str:
    """Put the names of a loop into one of the docs."""
    topics = scenario.domain.topics
    meant = {"<events>": topics.events, "<labels>": topics.labels, "<loop>": scenario.domain.name}
    return re.sub("<[a-z]+>", lambda found: meant[found[0]], name)


async def allow(guarded: Guarded, user: str, rights: Sequence[Right], scenario: Scenario) -> None:
    """Let a user do what the rows say."""
    admin = AIOKafkaAdminClient(bootstrap_servers=guarded.broker.bootstrap)
    await admin.start()
    try:
        for right in rights:
            name = named(right.name, scenario)
            pattern = PREFIXED if name.endswith("*") else LITERAL
            for operation in right.operations:
                asked = (RESOURCES[right.resource], name.removesuffix("*"), pattern, f"User:{user}", "*")
                answer = await admin._client.send(
                    admin._client.get_random_node(), CreateAclsRequest(*asked, OPERATIONS[operation], ALLOW)
                )
                assert [0] == [code for code, _ in answer.creation_responses]
        await asyncio.sleep(SEEN_WITHIN_S)
    finally:
        await admin.close()


async def scenario_of(guarded: Guarded, folder: Path, user: str, **kafka: str | None) -> Scenario:
    """Make a loop whose processes come as a user; the tests themselves may do everything."""
    form = LogForm("kafka", f"kafka://{guarded.broker.bootstrap}", folder)
    asked = {"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512", "username": user}
    asked |= {"password": USERS[user], "ca_file": str(guarded.certificate)} | kafka
    given = {key: value for key, value in asked.items() if value is not None}
    # Not named like the loop: its prefix must not cover them.
    inputs = {side: f"in_{form.topic(side)}" for side in ("events", "labels")}
    scenario = await Scenario.make(
        form,
        folder,
        kafka=given,
        events={"topic": inputs["events"], "id": "id", "time": "at"},
        labels={"topic": inputs["labels"], "id": "id", "target": "y", "time": "at"},
    )
    text = scenario.config.read_text().replace(guarded.broker.bootstrap, f"127.0.0.1:{guarded.port}")
    scenario.config.write_text(text)
    scenario.settings = loading.load(scenario.config)
    return scenario


async def run_until_it_ends(scenario: Scenario) -> Ran:
    """Run a process that is given all kinds of records, until it ends by itself."""
    events, labels = pairs(20, now_ms())
    await scenario.user.events(*events, {"id": "no time"})
    await scenario.user.labels(*labels, {"id": "no time"})
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tailrace", "run", "--config", str(scenario.config)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(30.0):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Ran(process.returncode, out.decode(), err.decode())


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
async def test_a_loop_needs_no_more_rights_than_are_documented(guarded, tmp_path, mechanism):
    scenario = await scenario_of(guarded, tmp_path, "loop", sasl_mechanism=mechanism)
    await allow(guarded, "loop", rights_of("tailrace run"), scenario)
    process = await scenario.start()

    await learn(scenario, process, 100)
    await scenario.user.events({"id": "no time"})
    await scenario.user.labels({"id": "no time"})

    async def are_set_aside() -> bool:
        letters = [scenario.domain.topics.dead_events, scenario.domain.topics.dead_labels]
        return all([len(await scenario.user.read(topic)) == 1 for topic in letters])

    await until(are_set_aside, "both are dead letters")
    await scenario.close()


async def test_a_scorer_alone_writes_neither_the_log_nor_what_the_learner_publishes(guarded, tmp_path):
    scenario = await scenario_of(guarded, tmp_path, "loop")
    rights = rights_of("tailrace run")
    await allow(guarded, "loop", rights, scenario)
    reads = [replace(right, operations=tuple(each for each in right.operations if each != "WRITE")) for right in rights]
    writes = [Right("a scorer", "topic", name, ("WRITE",)) for name in SCORER_WRITES]
    describes = Right("a scorer", "topic", "<labels>.dlq", ("DESCRIBE",))
    await allow(guarded, "scorer", [*reads, *writes, describes], scenario)
    learner = await scenario.start((Role.JOIN, Role.LEARN))
    text = scenario.config.read_text().replace('"loop"', '"scorer"').replace(USERS["loop"], USERS["scorer"])
    scenario.config.write_text(text)
    scenario.settings = loading.load(scenario.config)
    scorer = await scenario.start((Role.SCORE,))

    events, labels = pairs(10, now_ms())
    await scenario.user.events(*events, {"id": "no time"})
    await scenario.user.labels(*labels)
    await until(lambda: scenario.learned(learner) == 10, "what it served is learned from")

    assert not scorer.crashed
    assert 1 == len(await scenario.user.read(scenario.domain.topics.dead_events))
    await scenario.close()


@pytest.mark.parametrize(
    "words",
    [
        ("topics", "apply", "--yes"),
        ("status",),
        ("dlq", "replay"),
        ("labels", "send", "--id", "e1", "--value", "true"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
async def test_a_command_needs_no_more_rights_than_are_documented(guarded, tmp_path, words):
    scenario = await scenario_of(guarded, tmp_path, "watcher")
    rights = next(found for count in (2, 1) if (found := rights_of("tailrace " + " ".join(words[:count]))))
    assert 5 == (await tailrace(scenario, *words)).code, "nothing is allowed yet"
    await allow(guarded, "watcher", rights, scenario)
    if words[0] == "topics":
        admin = scenario.log.admin()
        await admin.delete(scenario.domain.topics.predictions)
        await admin.alter(scenario.domain.topics.training, {"max.message.bytes": "2000000"})
        await admin.close()

    ran = await tailrace(scenario, *words)
    await scenario.close()

    assert ran.code == (1 if words == ("status",) else 0), ran.err  # nothing runs


@pytest.mark.parametrize(("right", "operation"), CASES, ids=[f"{o} {r.name}" for r, o in CASES])
async def test_each_right_is_needed_and_one_that_is_missing_is_named(guarded, tmp_path, right, operation):
    scenario = await scenario_of(guarded, tmp_path, "loop")
    less = replace(right, operations=tuple(each for each in right.operations if each != operation))
    rights = [less if each == right else each for each in rights_of("tailrace run")]
    await allow(guarded, "loop", rights, scenario)

    ran = await run_until_it_ends(scenario)
    await scenario.close()

    assert 5 == ran.code
    last = ran.err.splitlines()[-1]
    assert "refuses" in last
    assert "docs/access.md lists" in last
    assert named(right.name, scenario).removesuffix("*") in last


@pytest.mark.parametrize(
    ("kafka", "said"),
    [
        ({"password": "wrong"}, "SaslAuthenticationFailed"),
        ({"sasl_mechanism": "PLAIN", "password": "wrong"}, "SaslAuthenticationFailed"),
        ({"sasl_mechanism": "SCRAM-SHA-256"}, "SCRAM-SHA-256"),
        ({"ca_file": None}, "shows a certificate that does not count here"),
    ],
    ids=["password", "password of PLAIN", "mechanism", "certificate"],
)
async def test_a_user_who_is_refused_is_told_so_and_not_taken_for_an_outage(guarded, tmp_path, kafka, said):
    scenario = await scenario_of(guarded, tmp_path, "loop", **kafka)

    ran, asked = await run_until_it_ends(scenario), await tailrace(scenario, "status")
    await scenario.close()

    assert (5, 5) == (ran.code, asked.code)
    assert said in ran.err.splitlines()[-1]
    assert said in asked.err.splitlines()[-1]


async def test_a_file_that_cannot_be_used_is_named_before_anybody_is_asked(guarded, tmp_path):
    scenario = await scenario_of(guarded, tmp_path, "loop", ca_file=str(tmp_path / "none.pem"))

    ran, asked = await run_until_it_ends(scenario), await tailrace(scenario, "status")
    await scenario.close()

    assert (3, 3) == (ran.code, asked.code)
    said = f"kafka.ca_file: found {tmp_path}/none.pem: No such file or directory; a PEM file"
    assert said in ran.err
    assert said in asked.err
