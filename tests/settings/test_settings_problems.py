"""Every way in which a configuration can be wrong, and the line that says so."""

from __future__ import annotations

import pytest
from tests.settings.toml_builders import LABELS, make_loop, make_toml, problems_of, read

from tailrace.domain.errors import ExpressionError, SettingsError
from tailrace.domain.records import Task
from tailrace.settings.messages import NOT_IN_THIS_VERSION
from tailrace.settings.table import keys_of

DURATION = 'a duration such as "500ms", "30s", "5m", "1h" or "7d", up to "3650d"'


def problem_of(text: str) -> str:
    """Return the only problem."""
    (problem,) = problems_of(text)
    return problem


def test_a_value_that_is_not_allowed_shows_what_was_found_and_what_may_be_written():
    problem = problem_of(make_toml(make_loop(horizon="1 hour")))

    assert f'loops.phishing.horizon: found "1 hour"; allowed: {DURATION}' == problem


def test_a_word_near_an_allowed_one_is_suggested():
    problem = problem_of(make_toml(make_loop(task="binry")))

    assert (
        'loops.phishing.task: found "binry"; allowed: "binary", "multiclass", "regression" or "anomaly"; did you mean '
        '"binary"?' == problem
    )


def test_an_unknown_key_shows_the_known_ones_and_the_nearest():
    problem = problem_of(make_toml(top='htpp = ""'))

    assert (
        'htpp: found no setting of this name; allowed: log, http, kafka, loops, snapshots, keys, api, verify, tracing; did you mean "http"?'
        == problem
    )


def test_a_required_key_that_is_absent_says_what_it_is_for():
    problem = problem_of(make_toml(make_loop(champion="")))

    assert (
        'loops.phishing.champion.model: found nothing; allowed: an expression such as "StandardScaler() | '
        'LogisticRegression()", or "module:function" (the model, in the words of River, or a function of yours that '
        "builds it)" == problem
    )


def test_a_value_in_the_place_of_a_table_is_shown_by_its_kind_only():
    assert "snapshots: found a number; allowed: a table" == problem_of(make_toml(top="snapshots = 3"))


def test_challengers_are_refused_and_not_passed_over():
    text = make_toml(below='[loops.phishing.challengers.tree]\nmodel = "HoeffdingTreeClassifier()"')

    assert (
        "loops.phishing.challengers: found a setting that this version of Tailrace does not have yet "
        "(`tailrace upgrade` folds another model beside the champion); take challengers out" == problem_of(text)
    )


def test_what_this_version_is_said_not_to_have_it_does_not_have():
    assert [] == [key for name in NOT_IN_THIS_VERSION for key in keys_of(name)]


@pytest.mark.parametrize(
    ("text", "key", "places"),
    [
        (
            make_toml(make_loop(labels=LABELS.replace("}", ', corrections_within = "1h" }'))),
            "loops.phishing.labels.corrections_within",
            "loops.phishing.corrections_within",
        ),
        (
            make_toml(make_loop(more='max_on_disk = "1GB"')),
            "loops.phishing.max_on_disk",
            "loops.phishing.join.max_on_disk",
        ),
        (
            make_toml(make_loop(more='topic = "pages"')),
            "loops.phishing.topic",
            "loops.phishing.events.topic or loops.phishing.labels.topic",
        ),
        (make_toml(make_loop(more='http = ""')), "loops.phishing.http", "http"),
        (make_toml(top='horizon = "1h"'), "horizon", "loops.NAME.horizon"),
        (make_toml(top="join = {}"), "join", "loops.NAME.join"),
    ],
)
def test_a_key_of_another_table_is_told_where_it_belongs(text: str, key: str, places: str):
    problem = problem_of(text)

    assert problem.startswith(f"{key}: found no setting of this name; allowed: ")
    assert problem.endswith(f"; write it as {places}")


def test_a_field_of_an_event_is_never_taken_for_a_setting():
    problems = problems_of(make_toml(make_loop(features='user.id = "number"')))

    assert any(each.endswith('; a dotted path to a nested field is written in quotes: "user.id"') for each in problems)


def test_a_dotted_feature_without_quotes_is_explained():
    problems = problems_of(make_toml(make_loop(features='user.age = "number"')))

    assert any(
        problem.startswith("loops.phishing.features.user.age: found no setting of this name")
        and problem.endswith('; a dotted path to a nested field is written in quotes: "user.age"')
        for problem in problems
    )


def test_all_problems_are_reported_at_once_in_the_order_of_the_tree():
    text = make_toml(
        make_loop(horizon="0s", features='age = "numbr"'),
        log="kafka:/x",
        top="http = 5",
        below="[snapshots]\nevery = 0",
    )

    keys = [problem.partition(":")[0] for problem in problems_of(text)]

    assert ["log", "http", "loops.phishing.horizon", "loops.phishing.features.age.type", "snapshots.every"] == keys


@pytest.mark.parametrize(
    ("log", "shown"),
    [
        ("redis://a:1", '"redis://a:1"'),
        ("kafka://", '"kafka://"'),
        ("kafka://a", '"kafka://a"'),
        ("kafka://a:0", '"kafka://a:0"'),
        ("kafka://a:65536", '"kafka://a:65536"'),
        ("kafka://a:1,,b:2", '"kafka://a:1,,b:2"'),
        ("embedded:", '"embedded:"'),
        ("kafka://user:hunter2@a:9092", "text with an @ in it, not shown: passwords do not belong there"),
    ],
)
def test_an_address_that_is_none(log: str, shown: str):
    allowed = '"kafka://HOST:PORT[,HOST:PORT…]" or "embedded:FOLDER"'

    assert f"log: found {shown}; allowed: {allowed}" == problem_of(make_toml(log=log))


@pytest.mark.parametrize(
    "store", ["http://bucket", "s3:bucket", "s3://", "s3://bucket/../other", "s3://user:key@bucket", "gs://b/a b"]
)
def test_a_store_of_no_known_form(store: str):
    problem = problem_of(make_toml(below=f'[snapshots]\nstore = "{store}"'))

    assert problem.startswith("snapshots.store: found ")
    assert problem.endswith(
        'allowed: "file:FOLDER", "s3://BUCKET/PREFIX", "gs://BUCKET/PREFIX" or "az://CONTAINER/PREFIX"'
    )
    assert "user:key" not in problem


@pytest.mark.parametrize("endpoint", ["localhost:9000", "ftp://a:1", "http://user:key@a:9000", "http://a:70000"])
def test_an_endpoint_that_is_no_address_of_http(endpoint: str):
    problem = problem_of(make_toml(below=f'[snapshots]\nstore = "s3://bucket"\nendpoint = "{endpoint}"'))

    assert problem.startswith("snapshots.endpoint: found ")
    assert "user:key" not in problem


@pytest.mark.parametrize(
    ("store", "given", "problem"),
    [
        ("file:x", 'endpoint = "http://a:1"', "none, or a store at s3:// or gs:// or az://"),
        ("gs://bucket", 'region = "eu"', "none, or a store at s3://"),
        ("s3://bucket", 'key_file = "x"', "none, or a store at gs://"),
        ("s3://bucket", 'key_id = "x"', "the two come together"),
        ("az://bucket", 'secret = "hunter2"', "a value, because secret has one"),
    ],
)
def test_what_does_not_fit_the_store(store: str, given: str, problem: str):
    found = problem_of(make_toml(below=f'[snapshots]\nstore = "{store}"\n{given}'))

    assert found.startswith("snapshots.")
    assert problem in found
    assert "hunter2" not in found


@pytest.mark.parametrize("topic", ["", "a b", ".", "..", "ä", "x" * 241])
def test_a_topic_that_kafka_would_refuse(topic: str):
    labels = LABELS.replace("verdicts", topic)

    assert problem_of(make_toml(make_loop(labels=labels))).startswith("loops.phishing.labels.topic: found ")


@pytest.mark.parametrize("key", ["revision", "source"])
@pytest.mark.parametrize("field", ["page_id", "verdict"])
def test_a_revision_or_source_that_is_the_id_or_the_target(key: str, field: str):
    labels = LABELS.replace("}", f', {key} = "{field}" }}')

    assert problem_of(make_toml(make_loop(labels=labels))) == (
        f"loops.phishing.labels.{key}: found the id or the target of the label; allowed: a field of its own, or none"
    )


@pytest.mark.parametrize("name", ["Phishing", "9a", "a__b", "a_", "a-b", '"a b"', "x" * 65])
def test_a_loop_name_that_cannot_be_one(name: str):
    problem = problem_of(make_toml(make_loop(name=name)))

    assert "found the name" in problem
    assert "a small letter, then small letters, digits and single underscores" in problem


def test_no_loop_at_all():
    assert problem_of('log = "embedded:x"\n[loops]') == (
        "loops: found no loop; allowed: at least one table [loops.NAME]; `tailrace init` writes one"
    )


def test_no_feature_at_all():
    assert problem_of(make_toml(make_loop(features=""))) == (
        "loops.phishing.features: found no feature; allowed: at least one; `tailrace init` writes them from a sample "
        "of events"
    )


def test_disorder_longer_than_the_horizon():
    assert problem_of(make_toml(make_loop(more='disorder = "2h"'))) == (
        "loops.phishing.disorder: found 2h; allowed: no longer than the horizon, 1h; lengthen the horizon or shorten "
        "disorder"
    )


def test_disorder_as_long_as_the_horizon_is_fine():
    read(make_toml(make_loop(more='disorder = "60m"')))


@pytest.mark.parametrize(
    ("feature", "key", "words"),
    [
        ('{ type = "text", min = 1 }', "min", "only with type number or integer"),
        ('{ type = "boolean", max = 1 }', "max", "only with type number or integer"),
        ('{ type = "text", min = 0 }', "min", "only with type number or integer"),
        ('{ type = "boolean", max = 0.0 }', "max", "only with type number or integer"),
        ('{ type = "number", values = ["a"] }', "values", "only with type category"),
        ('{ type = "number", other = true }', "other", "only with type category"),
        ('{ type = "number", max_length = 3 }', "max_length", "only with type text"),
        ('{ type = "category" }', "values", "the list of its values, at least one"),
        ('{ type = "category", values = ["a"], max = 5 }', "max", "either a list of values, or max"),
        ('{ type = "category", max = 5, other = true }', "max", "either a list of values, or max"),
        ('{ type = "category", max = 0 }', "max", "a whole number from 1 to 10000"),
        ('{ type = "category", max = 2.5 }', "max", "a whole number from 1 to 10000"),
        ('{ type = "category", max = 10001 }', "max", "a whole number from 1 to 10000"),
        ('{ type = "category", min = 1, max = 5 }', "min", "only with type number or integer"),
        ('{ type = "category", values = ["a"], max_length = 5 }', "max_length", "only without them, with max"),
        ('{ type = "category", values = [] }', "values", "the list of its values, at least one"),
        ('{ type = "category", values = ["a", "a"] }', "values", "each value once"),
        ('{ type = "category", values = [1] }', "values", "a list of text such as"),
        ('{ type = "number", min = 2, max = 1 }', "min", "a number no greater than max"),
        ('{ type = "number", min = nan }', "min", "a number, for number and integer"),
        ('{ type = "number", max = inf }', "max", "a number, for number and integer"),
        ('{ type = "number", max = 9223372036854775808 }', "max", "a number, for number and integer"),
        ('{ type = "number", missing = "0" }', "missing", '"reject", "absent", or a number'),
        ('{ type = "number", missing = true }', "missing", '"reject", "absent", or a number'),
        ('{ type = "integer", missing = 0.5 }', "missing", '"reject", "absent", or a whole number'),
        ('{ type = "number", min = 1, missing = 0 }', "missing", "a number no smaller than min"),
        ('{ type = "number", max = 1, missing = 2 }', "missing", "a number no greater than max"),
        ('{ type = "boolean", missing = 0 }', "missing", "true or false"),
        ('{ type = "text", missing = 0 }', "missing", "text"),
        ('{ type = "text", max_length = 1, missing = "ab" }', "missing", "at most 1 characters"),
        ('{ type = "category", values = ["a"], missing = "b" }', "missing", "one of its values"),
        ('{ type = "number", missing = 2026-01-01 }', "missing", '"reject", "absent", or a value of the type'),
        ('{ type = "number", other = 1 }', "other", "true or false"),
        ("5", "", "a type or a table"),
    ],
)
def test_a_feature_that_contradicts_itself(feature: str, key: str, words: str):
    problem = problem_of(make_toml(make_loop(features=f"age = {feature}")))

    assert problem.startswith(f"loops.phishing.features.age{'.' if key else ''}{key}: found ")
    assert words in problem


@pytest.mark.parametrize("feature", ['{ type = "category", values = ["a"], other = true, missing = "b" }', '"text"'])
def test_a_feature_that_does_not(feature: str):
    read(make_toml(make_loop(features=f"age = {feature}")))


@pytest.mark.parametrize("name", ["page_id", "seen_at"])
def test_the_id_and_the_time_of_an_event_are_no_features(name: str):
    problem = problem_of(make_toml(make_loop(features=f'{name} = "number"')))

    assert problem.startswith(f"loops.phishing.features.{name}: found the ")


def test_a_feature_name_with_an_empty_part():
    problem = problem_of(make_toml(make_loop(features='"a..b" = "number"')))

    assert 'loops.phishing.features."a..b": found a name with an empty part' in problem


@pytest.mark.parametrize(
    ("labels", "task", "key"),
    [
        ('{ topic = "v", id = "i", target = "t", negative = "no" }', "binary", "positive"),
        ('{ topic = "v", id = "i", target = "t", positive = "a", negative = "a" }', "binary", "negative"),
        ('{ topic = "v", id = "i", target = "t", positive = 0.5 }', "binary", "positive"),
        ('{ topic = "v", id = "i", target = "t", classes = ["a", "b"] }', "binary", "classes"),
        ('{ topic = "v", id = "i", target = "t", positive = 1 }', "regression", "positive"),
        ('{ topic = "v", id = "i", target = "t", negative = 1 }', "anomaly", "positive"),
        ('{ topic = "v", id = "i", target = "t", positive = 1, negative = 1 }', "anomaly", "negative"),
        ('{ topic = "v", id = "i", target = "t", classes = ["a", "b"] }', "anomaly", "classes"),
        ('{ topic = "v", id = "i", target = "t" }', "multiclass", "classes"),
        ('{ topic = "v", id = "i", target = "t", classes = ["a"] }', "multiclass", "classes"),
        ('{ topic = "v", id = "i", target = "t", classes = ["a", 1] }', "multiclass", "classes"),
        ('{ topic = "v", id = "i", target = "t", classes = ["a", "a"] }', "multiclass", "classes"),
        ('{ topic = "v", id = "i", target = "t", classes = "a" }', "multiclass", "classes"),
        ('{ topic = "v", id = "i", target = "i" }', "regression", "target"),
        ('{ topic = "v", id = "i", target = "t", time = "i" }', "regression", "time"),
        ('{ topic = "v", id = "i", target = "t", time_unit = "min" }', "regression", "time_unit"),
        ('{ topic = "pages", id = "i", target = "t" }', "regression", "topic"),
    ],
)
def test_labels_that_do_not_fit(labels: str, task: str, key: str):
    problem = problem_of(make_toml(make_loop(labels=labels, task=task)))

    assert problem.startswith(f"loops.phishing.labels.{key}: found ")


def test_an_event_whose_time_is_its_id():
    problem = problem_of(make_toml(make_loop(events='{ topic = "pages", id = "a", time = "a" }')))

    assert problem.startswith("loops.phishing.events.time: found ")


@pytest.mark.parametrize(
    ("task", "labels", "missing", "words"),
    [
        ("binary", '{ topic = "v", id = "i", target = "t" }', "0", "true or false"),
        ("anomaly", '{ topic = "v", id = "i", target = "t" }', "0", "true or false"),
        ("binary", LABELS, "false", 'of the same type as labels.positive, "phishing"'),
        ("binary", '{ topic = "v", id = "i", target = "t", positive = 1, negative = 0 }', "2", "1 or 0"),
        ("multiclass", '{ topic = "v", id = "i", target = "t", classes = [1, 2] }', '"1"', "one of labels.classes"),
        ("regression", '{ topic = "v", id = "i", target = "t" }', '"droop"', "a finite number"),
        ("regression", '{ topic = "v", id = "i", target = "t" }', "[1]", "or a target"),
    ],
)
def test_an_implicit_target_that_no_label_could_have(task: str, labels: str, missing: str, words: str):
    problem = problem_of(make_toml(make_loop(task=task, labels=labels, more=f"missing = {missing}")))

    assert problem.startswith("loops.phishing.missing: found ")
    assert words in problem


@pytest.mark.parametrize("topic", ["phishing.scored", "phishing_scored"])
def test_an_input_named_like_a_topic_of_a_loop(topic: str):
    problem = problem_of(make_toml(make_loop(events=f'{{ topic = "{topic}", id = "i" }}')))

    assert "is a topic of the loop phishing itself" in problem


def test_two_inputs_that_kafka_cannot_tell_apart():
    other = make_loop(name="other", events='{ topic = "a.b", id = "i" }', labels=LABELS.replace("verdicts", "a_b"))

    assert problem_of(make_toml(other)).startswith("loops.other.labels.topic: found")


def test_an_input_that_is_the_dead_letter_topic_of_another():
    labels = LABELS.replace("verdicts", "pages.dlq")

    assert "whose dead letters, pages.dlq, do not meet" in problem_of(make_toml(make_loop(labels=labels)))


def test_two_loops_may_share_their_inputs():
    read(make_toml(make_loop(), make_loop(name="second")))


@pytest.mark.parametrize(
    ("kafka", "keys"),
    [
        ('security_protocol = "SASL_SSL"', ["sasl_mechanism", "username", "password"]),
        ('username = "u"\npassword = "p"', ["username", "password"]),
        ('ca_file = "ca.pem"', ["ca_file"]),
        ('security_protocol = "SSL"\ncert_file = "c.pem"', ["key_file"]),
        ('security_protocol = "SSL"\nkey_file = "c.pem"', ["cert_file"]),
        ("session_timeout = 10", ["session_timeout"]),
        ("replication = 0", ["replication"]),
        ("replication = true", ["replication"]),
    ],
)
def test_kafka_settings_that_do_not_fit_together(kafka: str, keys: list[str]):
    problems = problems_of(make_toml(below=f"[kafka]\n{kafka}"))

    assert [f"kafka.{key}" for key in keys] == [problem.partition(":")[0] for problem in problems]


def test_a_password_of_the_wrong_kind_is_not_shown():
    problem = problem_of(make_toml(below="[kafka]\npassword = 12345"))

    assert "kafka.password: found a number that is not shown; allowed: text" == problem


def test_a_long_value_is_cut():
    assert 300 > len(problem_of(make_toml(make_loop(horizon="x" * 100_000))))


def test_a_value_with_a_line_break_stays_in_one_line():
    (problem,) = problems_of(make_toml(make_loop(horizon="1h\\n2h")))

    assert "\n" not in problem


def refuse_everything(expression: str, experimental: bool, task: Task) -> None:
    """Refuse like the catalogue does."""
    assert (False, Task.BINARY) == (experimental, task)
    column = expression.find("LogisticRegresion")
    raise ExpressionError("found LogisticRegresion, which River does not have", column)


def test_a_refused_model_is_pointed_at():
    expression = "StandardScaler() | LogisticRegresion()"

    (problem,) = problems_of(make_toml(make_loop(champion=f'model = "{expression}"')), check_model=refuse_everything)

    assert (
        "loops.phishing.champion.model: found LogisticRegresion, which River does not have\n"
        "    StandardScaler() | LogisticRegresion()\n"
        "                       ^" == problem
    )


def test_the_caret_is_right_in_a_model_of_many_lines():
    champion = 'model = """\nStandardScaler()\n  | LogisticRegresion()\n"""'

    (problem,) = problems_of(make_toml(make_loop(champion=champion)), check_model=refuse_everything)

    assert problem.endswith("\n      | LogisticRegresion()\n        ^")


def test_a_refused_model_stands_among_the_other_problems():
    problems = problems_of(make_toml(top="http = 1"), check_model=refuse_everything)

    assert ["http", "loops.phishing.champion.model"] == [problem.partition(":")[0] for problem in problems]


def test_a_model_refused_without_a_place():
    def refuse(*_: object) -> None:
        raise SettingsError(["found a family that is not proven; set experimental = true"])

    assert ["loops.phishing.champion.model: found a family that is not proven; set experimental = true"] == problems_of(
        make_toml(), check_model=refuse
    )


@pytest.mark.parametrize("address", ["0.0.0.0:80", "[::]:80", "tailrace.example:80"])
def test_beyond_loopback_the_api_needs_tls(address: str):
    problem = problem_of(make_toml(top=f'http = "{address}"'))

    assert problem.startswith(
        f"http: found {address}, which other machines can reach, without TLS; allowed: a loopback"
    )
    for way_out in ("api.tls_cert_file", "api.behind_tls_proxy = true", "api.enabled = false"):
        assert way_out in problem


@pytest.mark.parametrize(
    "api",
    [
        "[api]\nenabled = false",
        "[api]\nbehind_tls_proxy = true",
        '[api]\ntls_cert_file = "a.crt"\ntls_key_file = "a.key"',
    ],
)
def test_beyond_loopback_there_are_three_ways(api: str):
    assert not read(make_toml(top='http = "0.0.0.0:80"', below=api)).is_local


@pytest.mark.parametrize("address", ["127.0.0.1:80", "localhost:80", "[::1]:80", ""])
def test_on_this_machine_the_api_needs_nothing(address: str):
    assert read(make_toml(top=f'http = "{address}"')).is_local


def test_a_certificate_comes_with_its_key():
    problem = problem_of(make_toml(below='[api]\ntls_cert_file = "a.crt"'))

    assert "api.tls_key_file: found nothing; allowed: a path: tls_cert_file and tls_key_file come together" == problem
