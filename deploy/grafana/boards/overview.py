"""Overview: the whole fleet on one screen."""

from panels import GREEN, RED, YELLOW, Board, Panel, Query

SNAPSHOT_AGE = 'time() - max by (job, loop) (tailrace_snapshot_last_success_timestamp_seconds{kind="snapshot", @LOOP})'

BOARD = Board(
    "tailrace-overview",
    "Tailrace / Overview",
    "Do events come in, are they answered in time, and is the model kept?",
    (
        (
            "",
            (
                Panel(
                    "Processes that are ready",
                    "Processes whose /readyz answers 200, of those that run.",
                    "all of them.",
                    "ask `/readyz?verbose` of the one that is not what it waits for.",
                    "none",
                    (
                        Query("ready", "sum(tailrace_ready{@JOB})", limits=((1, GREEN),), low=RED),
                        Query("of", "count(tailrace_ready{@JOB})"),
                    ),
                    "stat",
                    width=4,
                    height=5,
                ),
                Panel(
                    "Oldest event that waits",
                    "Age of the oldest record that a role has not completed, the worst partition.",
                    "below 30 s.",
                    "see Kafka pipeline: which role is behind, and whether it catches up.",
                    "s",
                    (Query("waits for", "max(loop_role:tailrace_consumer_lag_seconds:max{@LOOP})"),),
                    "stat",
                    ((30, YELLOW), (300, RED)),
                    width=4,
                    height=5,
                ),
                Panel(
                    "Predictions",
                    "Events that were answered, by second.",
                    "about what your producers send.",
                    "0 with events coming in: `tailrace status` says what stopped.",
                    "cps",
                    (Query("answered", "sum(loop:tailrace_events:rate5m{@LOOP})"),),
                    "stat",
                    width=4,
                    height=5,
                ),
                Panel(
                    "Records set aside",
                    "Share of a topic's records that became dead letters in 15 minutes, the worst topic; labels that come late aside.",
                    "below 1 %.",
                    "`tailrace dlq list` names the reasons; ask whoever produces the records.",
                    "percentunit",
                    (Query("dead letters", "max(loop_topic:tailrace_dead_letters:ratio_rate15m{@LOOP}) or vector(0)"),),
                    "stat",
                    ((0.01, YELLOW), (0.05, RED)),
                    width=4,
                    height=5,
                ),
                Panel(
                    "Events that get a label",
                    "Joined labels by scored event, in an hour.",
                    "as it always was for this loop.",
                    "labels stopped or come late: ask their producer, see Model quality and drift.",
                    "percentunit",
                    (Query("labelled", "min(loop:tailrace_labels_joined:ratio_rate1h{@LOOP})"),),
                    "stat",
                    width=4,
                    height=5,
                ),
                Panel(
                    "Last snapshot",
                    "Time since everything that recovery needs was last kept, and the same in intervals (`snapshots.every`).",
                    "below 3 intervals, while something is learned.",
                    "see whether the store takes what is written; a restart would fold a longer tail of the log.",
                    "s",
                    (
                        Query("ago", f"max({SNAPSHOT_AGE})"),
                        Query(
                            "in intervals",
                            f"max(({SNAPSHOT_AGE}) / on (job, loop) max by (job, loop) (tailrace_snapshot_interval_seconds{{@LOOP}}))",
                            "none",
                            ((3, YELLOW), (10, RED)),
                        ),
                    ),
                    "stat",
                    width=4,
                    height=5,
                ),
            ),
        ),
        (
            "Events",
            (
                Panel(
                    "In, answered, learned",
                    "Events read, predictions given, examples learned.",
                    "three lines that move together.",
                    "a line that falls alone names the step that stands still.",
                    "cps",
                    (
                        Query(
                            "read", 'sum(rate(tailrace_consumed_records_total{role="score", @LOOP}[$__rate_interval]))'
                        ),
                        Query(
                            "answered",
                            'sum(rate(tailrace_events_total{outcome=~"scored|abstained", @LOOP}[$__rate_interval]))',
                        ),
                        Query("learned", "sum(rate(tailrace_examples_learned_total{@LOOP}[$__rate_interval]))"),
                    ),
                ),
                Panel(
                    "From event to answer",
                    "Kafka's time of an event until its prediction is acknowledged.",
                    "99 of 100 within a second.",
                    "see Kafka pipeline for lag and Runtime for a busy process.",
                    "s",
                    (
                        Query("half within", "max(loop:tailrace_end_to_end_latency_seconds:p50_5m{@LOOP})"),
                        Query("99 of 100 within", "max(loop:tailrace_end_to_end_latency_seconds:p99_5m{@LOOP})"),
                    ),
                    limits=((1, RED),),
                ),
                Panel(
                    "Budget of late answers",
                    "Share of events that waited for more than a second; 1 % may.",
                    "below 1 %.",
                    "at 14 % the budget of a month is gone in two days: more processes, or more CPU.",
                    "percentunit",
                    (
                        Query("5 minutes", "max(loop:tailrace_answers_slow:ratio_rate5m{@LOOP})"),
                        Query("1 hour", "max(loop:tailrace_answers_slow:ratio_rate1h{@LOOP})"),
                    ),
                    limits=((0.01, YELLOW), (0.144, RED)),
                ),
            ),
        ),
        (
            "Processes and state",
            (
                Panel(
                    "What the roles do",
                    "State of every role, worst first: 3 failed, 2 waiting or restoring, 1 starting or draining, 0 running.",
                    "all at 0 (green).",
                    "`tailrace status` gives the reason in words.",
                    "none",
                    (
                        Query(
                            "{{loop}} {{role}}",
                            'max by (loop, role) (3 * tailrace_role_state{state="failed", @LOOP} or 2 * tailrace_role_state{state=~"waiting|restoring", @LOOP}'
                            ' or tailrace_role_state{state=~"starting|draining", @LOOP})',
                        ),
                    ),
                    "states",
                    ((1, YELLOW), (3, RED)),
                ),
                Panel(
                    "Snapshots",
                    "Snapshots and publications by how they ended.",
                    "ok at a steady pace, and nothing else.",
                    "failed, or many retries: the store or the log does not take them; `tailrace doctor`.",
                    "cpm",
                    (
                        Query(
                            "{{kind}} {{outcome}}",
                            "60 * sum by (kind, outcome) (rate(tailrace_snapshots_total{@LOOP}[$__rate_interval]))",
                        ),
                        Query(
                            "retries",
                            "60 * sum(rate(tailrace_snapshot_retries_total{@LOOP}[$__rate_interval])) or vector(0)",
                        ),
                    ),
                ),
                Panel(
                    "Proof",
                    "Snapshots that were refused, digests that differ between processes, verifications that did not come out equal.",
                    "0 everywhere.",
                    "serve on, promote nothing, and run `tailrace verify`: it says which state is right.",
                    "none",
                    (
                        Query("snapshots refused", "sum(tailrace_snapshots_refused_total{@LOOP}) or vector(0)"),
                        Query(
                            "digests that differ",
                            'sum(tailrace_digest_comparisons_total{outcome="different", @LOOP}) or vector(0)',
                        ),
                        Query(
                            "verifications failed",
                            'sum(tailrace_verifications_total{outcome!="equal", @LOOP}) or vector(0)',
                        ),
                    ),
                    "stat",
                    ((1, RED),),
                    height=7,
                ),
            ),
        ),
    ),
)
