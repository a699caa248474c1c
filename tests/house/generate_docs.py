"""Write the documents that the code says; a test fails when they are out of date.

python tests/house/generate_docs.py
"""

import json
from pathlib import Path
from typing import Any

from tailrace.domain import headlines
from tailrace.domain.access import SCOPE_MEANINGS
from tailrace.domain.models import catalog, growth, plans, rules
from tailrace.domain.models.families import FAMILIES
from tailrace.domain.status import Condition
from tailrace.inspection.encode_cost import ADVICE, SLOW_ENCODE_S
from tailrace.settings import field_table
from tailrace.streams import handshakes, http_server
from tailrace.telemetry import instruments
from tailrace.web import bodies, guard, problems
from tailrace.web.routes import OPEN_PATHS, OPERATIONS, PAGES, Parameter

DOCS = Path(__file__).resolve().parents[2] / "docs"
MEASURED = DOCS.parent / "benchmarks/models.json"


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
        f"`NAME` stands for the name of a loop (`{bodies.LOOP_NAME.strip('^$')}`, at most 64 characters) or of a feature. Relative paths",
        "are relative to the file. `tailrace check` reports every problem at once.",
        "",
        "On Kubernetes set `enableServiceLinks: false` in the pod where a Service is called `tailrace` or begins with `tailrace-`: the",
        "variables that Kubernetes makes of it, such as `TAILRACE_SERVICE_HOST`, would be taken for settings, and are errors.",
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
        "Units are base units and stand in the names: seconds, bytes, ratios from 0 to 1. One process is one target; a loop that",
        "runs in several processes is summed over them, except where the meaning says otherwise.",
        "",
        "**Labels are bounded.** Those with values in brackets are closed sets. `loop`, `topic`, `model`, `metric`, `feature`, `class`",
        f"and the like come from the configuration; beyond {instruments.MOST_FEATURES} features, {instruments.MOST_CLASSES} classes,",
        f"{instruments.MOST_ROUTES} routes or the partitions 0 to {instruments.MOST_PARTITIONS - 1} of a topic the rest is counted as `{instruments.OTHER}`. No id, key, value of a feature,",
        "target or text of an error ever becomes a label.",
        "",
        "**Quality is that of what was served.** An example is judged by the prediction that was recorded when its event was scored, and only",
        "the champion serves: `tailrace_model_metric` has the model `champion` alone. Branches beside it learn and are judged by nothing",
        "while they do; there is no metric of a challenger. How one would have served is compared before it is promoted, on the recorded",
        "log: `tailrace upgrade` and `tailrace repair` print both, side by side.",
        "",
        "**Cost.** Everything is counted per batch. A loop with 8 partitions and 30 features has about 1,040 series; `/metrics` takes 8 ms of",
        "CPU for them as text and 14 ms as OpenMetrics, in a thread beside the event loop, once a second at most however many ask: who asks",
        "again within a second gets the same text. Counting takes 0.5 us an event in batches of 500 (one of two shared cores, medians). `tests/telemetry/test_exposition.py` holds it to 20 ms and 1 us, and holds the answer against `promtool check metrics`.",
        "",
        "**OpenMetrics** is answered where `Accept` asks for it. Then `tailrace_end_to_end_latency_seconds` carries exemplars: the trace",
        "id of the oldest event of a batch whose `traceparent` is sampled (Prometheus keeps them with",
        "`--enable-feature=exemplar-storage`). **Traces**: with the extra `otel` and `tracing.endpoint`, one trace goes from the producer's",
        "span over `score`, `join` and `learn` to the `snapshot` that holds the example, and its `traceparent` is in the prediction.",
        "A traced event costs some tens of microseconds; what is not traced costs nothing.",
        "",
        "**Where to look first.** `tailrace_label_to_influence_seconds` says how long a label takes until a state that has learned it",
        "serves; `tailrace_serving_state_age_seconds` how old what serves is; `tailrace_books_difference_records` is 0 in a sound log. The",
        "first sentence of `tailrace status` sums it up: [conditions.md](conditions.md).",
        "",
        "| name | type | labels | meaning |",
        "|---|---|---|---|",
    ]
    for each in instruments.ALL:
        labels = ", ".join(_label(each, name) for name in each.labels) or "-"
        lines.append(f"| `{each.name}` | {each.type.value} | {labels} | {_cell(each.help)} |")
    lines += ["", "## Buckets", "", "| histogram | upper bounds |", "|---|---|"]
    lines += [
        f"| `{each.name}` | {', '.join(f'{bound:g}' for bound in each.buckets)} |"
        for each in instruments.ALL
        if each.buckets
    ]
    lines += ["", "`process_*`, `python_info` and `python_gc_*` are those of Prometheus' own client for Python."]
    return "\n".join(lines) + "\n"


def conditions() -> str:
    """Return docs/conditions.md."""
    lines = [
        "# Conditions",
        "",
        "`tailrace status` begins with one sentence: what is the matter, why, what it means for who reads predictions, and what to do. It",
        "is about the worst of the findings below it; among equally bad ones, the one that stands first here, because it explains",
        "or outweighs the others. Its code is a promise: `headline.code` in `tailrace status -o json`, `code` in `GET /v1/status`, and the "
        "name of the page of the [runbook](runbooks/README.md) about it.",
        "",
        "| code | meaning | what to do |",
        "|---|---|---|",
    ]
    for code in Condition:
        meaning, action = headlines.ADVICE[code]
        page = f"[`{code.value}`](runbooks/{code.value}.md)" if code is not Condition.ALL_WELL else f"`{code.value}`"
        lines.append(f"| {page} | {_cell(meaning)} | {_cell(action[0].upper() + action[1:])}. |")
    return "\n".join(lines) + "\n"


def models() -> str:
    """Return docs/models.md: the support list, and what benchmarks/models.py measured of it."""
    lines = [
        "# Models",
        "",
        "A loop runs any model of these families of [River](https://riverml.xyz) that fits its task, alone or in a",
        "pipeline. They are proven: the same log gives the same state, byte for byte, after restores at any point and",
        "whatever the process's hash seed, and scoring does not change it. Anything else of River runs with",
        "`experimental = true`, without that promise; what cannot be folded at all is refused with what to use instead.",
        "",
        "| family | models |",
        "|---|---|",
    ]
    lines += [f"| {each.name} | {', '.join(f'`{kind.__name__}`' for kind in each.heads)} |" for each in FAMILIES]
    lines += [
        "",
        "## Bounds",
        "",
        f"All trees of a model together hold about {growth.MODEL_SIZE_MIB:g} MiB at most, whatever they are fed:",
        "a full tree lets its least promising leaves stop looking for splits, and one that is all leaves grows no further.",
        f"A leaf keeps at most {growth.MOST_VALUES:,} values of a feature apart, a branch gets no child for an unseen value",
        f"once it has {growth.MOST_CHILDREN}, and no tree is deeper than {rules.GREATEST_MAX_DEPTH} levels",
        f"({rules.DEFAULT_MAX_DEPTH} when `max_depth` is not given). An ensemble has at most {catalog.MOST_MEMBERS} models,",
        f"a nearest-neighbour search keeps at most {catalog.MOST_NEIGHBOURS:,} examples, half-space trees together have at",
        f"most {catalog.MOST_HALF_SPACES:,} nodes, and so do the Mondrian trees (AMF, experimental) of one forest. So a snapshot",
        "can always be taken; should one ever fail, `tailrace status` says why, and learning and serving go on.",
        "",
        "## Anomalies",
        "",
        'With `task = "anomaly"` an event gets a score as `y_pred`: a number, the higher the more unusual, from 0 to 1 of',
        "`HalfSpaceTrees`. The model learns what events look like and never sees a label; labels say yes or no (`positive`,",
        "`negative`, as in `binary`) and judge the scores. Examples are learned when they are settled, as in every loop: with",
        '`missing = "drop"` only events that got a label are learned; `missing = false` learns all of them once the horizon has',
        "passed. Put `MinMaxScaler()` before `HalfSpaceTrees(seed=1)`, which expects numbers from 0 to 1 and splits by the",
        "features of its first example alone, and `StandardScaler()` before `OneClassSVM()`.",
        "",
        "`roc_auc` is River's: its ten thresholds lie from 0 to 1, so it says little of scores outside. It is compared with",
        "`constant`, the same score for all, and has no value while all labels are alike. A score is right or wrong only beside",
        "others, so it has no loss, and nothing is watched for drift.",
        "",
        "## Compiled models",
        "",
        'With the extra `fast` (`pip install ".[fast]"` in the folder of Tailrace: numba) the pipelines that most loops have',
        "learn and answer in compiled code, a block at a time and strictly example by example. Before the model may stand",
        "`StandardScaler()` or `MinMaxScaler()` over numbers, `OneHotEncoder()` over categories with a list, `SelectType` and",
        "`+`, as in `(SelectType(str) | OneHotEncoder()) + (SelectType(float, int) | StandardScaler()) | LogisticRegression()`,",
        "or nothing. The model may be",
        "",
        "- `LogisticRegression` with `Log` or `Hinge`, `LinearRegression` with `Squared`, `Perceptron`: by `SGD` with a constant",
        "  rate (l1, l2, intercept_lr, clip_gradient) or by `FTRLProximal` (not on the list above: `experimental = true`),",
        "- `PAClassifier` in modes 1 and 2,",
        "- `SoftmaxRegression` by `SGD` or `FTRLProximal`,",
        "",
        f"over numbers, integers (beyond 2^53 they are rounded), booleans and categories with a list, of {plans.MOST_COLUMNS:,} columns at",
        "most. Categories may be absent, numbers may not. `tailrace check` says whether a model is compiled and, if not, why;",
        '`champion.compiled = "never"` keeps River\'s code.',
        "",
        "Predictions and weights equal River's within 1e-12 over a million examples (`make million`), at learning rates at which a",
        "model settles: where it swings, a difference in the last digit grows, in River too. They differ in the last bit, since",
        "sums are rounded in another order. So a compiled branch has another lineage than River's: its definition and its manifests say",
        "`compiled`, and a learner that restarts with the other setting goes on with what serves and says so",
        "([upgrading](upgrading.md)). A machine without numba folds a compiled branch with the same kernels in plain Python,",
        "to the same bits, at about the speed of River's code. An example that would make a weight infinite or no number, which",
        "River lets pass, is skipped by its position as one at which a model raises; four of them within five minutes stop learning,",
        "as there: give numbers that may be huge (above 1e150) a `min` and `max` in the contract, from the start: every later change of it",
        "makes the model [begin with nothing](upgrading.md#other-features).",
        "",
        "What stays River's: texts and categories without a list, and so hashing, since their columns are not known beforehand;",
        "numbers that may be absent, since a scaler counts them one by one; other optimizers, losses and learning rates that",
        "change; `PARegressor`, and `PAClassifier` in mode 0; whatever has other steps.",
        "",
        "## What a snapshot costs",
        "",
        "A learner encodes the model's state at every publication and snapshot, and does not learn meanwhile. Measured by",
        "`python -m benchmarks.models` on two cores (AMD EPYC, virtual machine, shared with other work), with ten numbers",
        "and five categories an example. `tailrace check` measures the model of your own contract on your own machine, and",
        f"flags one that takes more than {SLOW_ENCODE_S * 1_000:.0f} ms: {ADVICE}.",
        "",
        "| family | model | task | examples | size | encode | learn one |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [_cost_row(row) for row in json.loads(MEASURED.read_text())]
    return "\n".join(lines) + "\n"


def api() -> str:
    """Return docs/api.md."""
    lines = [
        "# HTTP API",
        "",
        "Every process of `tailrace run` serves it where `http` listens (127.0.0.1:8321), below `/v1`; `/openapi.json` describes it",
        "to programs (OpenAPI 3.1). This page and that one are made from the table that also routes and authorises.",
        "",
        "    tailrace tokens create --scope read --scope predict",
        '    curl -H "Authorization: Bearer TOKEN" http://127.0.0.1:8321/v1/status',
        "",
        "**Nobody may do anything without a token that has the scope**, on loopback too; only these are open: "
        + ", ".join(f"`{path}`" for path in OPEN_PATHS)
        + ".",
        "A token is shown once; what is kept is its SHA-256, in `tokens.json` in the folder of keys, readable by its owner alone.",
        "`tailrace tokens revoke` reaches processes that run with their next request, and ends streams within about a second; `--expires` gives a token an end.",
        "Tokens count on one machine only: copy `tokens.json` (mode 0600) to every other one that serves the API, after each revocation too.",
        "",
        "| scope | may |",
        "|---|---|",
    ]
    lines += [f"| `{scope}` | {meaning} |" for scope, meaning in SCOPE_MEANINGS.items()]
    lines += [
        "",
        "| operation | scope | what |",
        "|---|---|---|",
    ]
    lines += [
        f"| `{each.method} {each.path}` | {'-' if each.scope is None else f'`{each.scope}`'} | {_cell(each.summary)} |"
        for each in OPERATIONS
    ]
    lines += [
        "",
        "## Beyond this machine",
        "",
        "`http` takes an address that other machines can reach only with `api.tls_cert_file` and `api.tls_key_file` (TLS 1.2 and newer),",
        "or with `api.behind_tls_proxy = true` where a proxy ends TLS, and only once there is a token. With `api.enabled = false` the",
        "probes and `/metrics` are served anywhere, as they are without TLS, and nothing else. On a loopback address the Host header must",
        "name this machine, for the open pages too, which keeps pages in a browser from reaching it by a name of their own.",
        "",
        "## Bounds",
        "",
        f"Bodies have at most `api.max_body` bytes and {guard.Limits().body_within_s:.0f} s to arrive, heads {http_server.MOST_HEAD_BYTES // 1024} KiB and",
        f"{http_server.HEAD_WITHIN_S:.0f} s. A client that takes nothing of what waits for it for {http_server.TAKEN_WITHIN_S:.0f} s is dropped; one that takes slowly gets all of it. In each process a",
        f"token has `api.rate` requests a second, an address {guard.GUESSES} without a token that counts. `api.max_streams` streams and {guard.Limits().max_at_once} other requests are under way",
        f"at once, {guard.Limits().max_of_log} of them at most that wait for the log or take a snapshot: while the log hangs, models are still asked. {guard.Limits().max_downloads} files of",
        "snapshots are sent at once, since each is held in memory until the last of it was taken; HEAD fetches none. There are at most",
        f"{http_server.MOST_CONNECTIONS} connections: of more, the one without a request for longest goes, so that probes come through. By TLS hands are shaken within",
        f"{handshakes.WITHIN_S:.0f} s; of more than {handshakes.MOST} connections that have not done so the oldest goes. Status and quality are looked up once for all who ask at",
        "the same time or a second after, and so is a failure to; `/metrics` is made once for all, too. A request holds at most",
        f"{bodies.MOST_INSTANCES} instances, or {bodies.MOST_RECORDS} records, and at most {guard.MOST_MARKS} of the characters `[`, `{{` and comma: of more the",
        "values would hold up scoring while they are made. One body is parsed at a time. The log is read and written in a thread of its own: scoring and learning do",
        "not wait for it. Predictions are made where events are scored, a few at a time.",
        "",
        "## Operations",
    ]
    for each in OPERATIONS:
        lines += ["", f"### `{each.method} {each.path}`", "", f"{each.summary}. {each.meaning}"]
        if each.parameters:
            lines += ["", "| parameter | what | allowed | default |", "|---|---|---|---|"]
            lines += [_parameter_row(parameter) for parameter in each.parameters]
        body = "" if each.body is None else f"Body: `{each.body.__name__}`. "
        answer = each.media_type if each.answer is None else each.answer.__name__
        codes = ", ".join(f"`{kind.code}`" for kind in each.problems)
        lines += ["", f"{body}Answer: {each.success}, `{answer}`.{f' Problems of its own: {codes}.' if codes else ''}"]
        if each.headers:
            lines += [
                "",
                "Headers: " + "; ".join(f"`{name}`: {_cell(meaning.rstrip('.'))}" for name, meaning in each.headers),
            ]
        if each.events:
            lines += ["", "Data of events: " + ", ".join(f"`{name}`: `{data.__name__}`" for name, data in each.events)]
    lines += [
        "",
        "## Pages",
        "",
        "| page | what |",
        "|---|---|",
        *(f"| `GET {page.path}` | {_cell(f'{page.summary}. {page.meaning}')} |" for page in PAGES),
        "",
        "With `?verbose` the first three list their checks.",
        "",
        "## Problems",
        "",
        "Errors are `application/problem+json` (RFC 9457) with `type`, `title`, `status`, `detail` (what was found, what is allowed),",
        "`instance` (the id of the request, also in `X-Request-Id`), `code` and `hint` (what to do next), and `errors` where parts of a",
        "request are wrong. Decide by `code`. No value of a feature, a target or a token is repeated in any of them.",
        "The log of the process has the id of requests that failed there (with the kind of error and its place in the code) and of those",
        "whose token was refused (401, 403; with the token's id): of many alike a few.",
        "",
        "| code | status | what | next |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| `{kind.code}` | {kind.status.value} | {_cell(kind.title)} | {_cell(kind.hint)} |" for kind in problems.KINDS
    ]
    lines += [
        "",
        "Retries are safe: what is written twice is learned once, by its id and time, so there is no idempotency key. An event that is written",
        "twice is answered twice, though: two predictions with one `event_id` and `event_time`, and two `prediction_id`s. All or none of a",
        "request passes the checks; then it is written partition by partition, so that after a 503 a part of it may be in the log: send all",
        "of it again. After 429 and 503 wait for as long as `Retry-After` says.",
        "",
        "## Python",
        "",
        "`tailrace.client` is thin and synchronous; [quality.ipynb](quality.ipynb) is worked through in CI.",
        "",
        "    from tailrace.client import Client",
        "",
        '    client = Client("https://tailrace.example:8321", token_file="token", trusted=["learner.pub"])',
        '    print(client.status()["sentence"])',
        '    client.predict("phishing", [{"https": 1, "country": "de"}], explain=True)',
        '    client.write_labels([{"page_id": "page-17", "verdict": "phishing", "at": "2026-11-23T09:14:00Z"}])',
        '    client.predictions("phishing", limit=500).to_pandas()',
        '    client.quality("phishing").plot("accuracy")',
        '    model = client.model("phishing@champion")   # a River object, rebuilt from a snapshot whose signature counts',
        '    model = client.model("phishing/12", lineage="8c1f")   # snapshot 12 of one lineage: each counts from 1',
        "",
        "Many records are sent in parts that the API takes. `predictions(since=…)` looks at all that was published since then, and up to an",
        "hour before. Every method raises `ApiError` or `Unreachable` where there is no answer of the API's.",
        "",
        '`to_pandas` and `plot` need the extra `client` (`pip install ".[client]"` in the folder of Tailrace). A model is rebuilt only with the',
        "versions that folded it (River, numpy, scipy, Python's minor version), since its state means something else to others; what differs is said.",
    ]
    return "\n".join(lines) + "\n"


def _parameter_row(parameter: Parameter) -> str:
    allowed = {
        "integer": f"{parameter.minimum} to {parameter.maximum}",
        "boolean": "`true`, `false`",
        "list": ", ".join(f"`{each}`" for each in parameter.choices),
        "text": f"`{_cell(parameter.pattern)}`",
    }[parameter.type]
    default = parameter.default
    shown = "-" if default is None else ",".join(default) if isinstance(default, tuple) else str(default).lower()
    name = f"`{parameter.name}`" if parameter.place == "query" else f"`{parameter.name}` (header)"
    return f"| {name} | {_cell(parameter.meaning)} | {allowed} | {shown} |"


def _cost_row(row: dict[str, Any]) -> str:
    slow = " (slow)" if row["encode_s"] > SLOW_ENCODE_S else ""
    figures = f"{row['examples']:,} | {row['size_bytes'] / 1_000:,.0f} kB | {row['encode_s'] * 1_000:.1f} ms{slow}"
    return f"| {row['family']} | `{_cell(row['model'])}` | {row['task']} | {figures} | {row['learn_us']:.0f} us |"


def _label(each: instruments.Instrument, name: str) -> str:
    values = each.closed.get(name)
    return f"`{name}`" if not values else f"`{name}` ({', '.join(sorted(values))})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


FILES = {
    "api.md": api,
    "conditions.md": conditions,
    "configuration.md": configuration,
    "metrics.md": metrics,
    "models.md": models,
}

if __name__ == "__main__":
    DOCS.mkdir(exist_ok=True)
    for name, content in FILES.items():
        (DOCS / name).write_text(content())
