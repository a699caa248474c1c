"""Kafka pipeline: rate, lag, errors, duration, group."""

from panels import RED, YELLOW, Board, Panel, Query

BOARD = Board(
    "tailrace-kafka",
    "Tailrace / Kafka pipeline",
    "What is read and written, how far each role is behind, what was set aside, and who reads what.",
    (
        (
            "Rate",
            (
                Panel(
                    "Read, by topic",
                    "Records that processes took from Kafka.",
                    "as many as your producers send.",
                    "a topic at 0 has no input, or nobody reads it: see Group.",
                    "cps",
                    (
                        Query(
                            "{{role}} {{topic}}",
                            "sum by (role, topic) (rate(tailrace_consumed_records_total{@LOOP}[$__rate_interval]))",
                        ),
                    ),
                ),
                Panel(
                    "Bytes read",
                    "Keys and values of the records read.",
                    "in step with the rate of records.",
                    "growth without more records: producers send larger ones.",
                    "Bps",
                    (
                        Query(
                            "{{role}} {{topic}}",
                            "sum by (role, topic) (rate(tailrace_consumed_bytes_total{@LOOP}[$__rate_interval]))",
                        ),
                    ),
                ),
                Panel(
                    "Written, by topic",
                    "Records that Kafka acknowledged.",
                    "predictions follow the events.",
                    "a topic at 0 while events come: `tailrace doctor`.",
                    "cps",
                    (
                        Query(
                            "{{topic}}",
                            "sum by (topic) (rate(tailrace_produced_records_total{@LOOP}[$__rate_interval]))",
                        ),
                    ),
                ),
            ),
        ),
        (
            "Lag",
            (
                Panel(
                    "Oldest record that waits",
                    "Age of the oldest record that a role has not completed.",
                    "below 30 s, and back after every peak.",
                    "start another process for the role (`tailrace run --role …`), or give it more CPU.",
                    "s",
                    (Query("{{role}}", "max by (role) (loop_role:tailrace_consumer_lag_seconds:max{@LOOP})"),),
                    limits=((30, YELLOW), (300, RED)),
                ),
                Panel(
                    "Records that wait",
                    "Records between what is completed and the end of the partitions.",
                    "0 or falling.",
                    "rising over minutes: more comes than is done; see time to drain.",
                    "short",
                    (Query("{{role}}", "sum by (role) (loop_role:tailrace_consumer_lag_records:sum{@LOOP})"),),
                ),
                Panel(
                    "Time to drain",
                    "How long until nothing waits, at the pace of the last 5 minutes; 0 where nothing waits or the lag does not fall.",
                    "minutes.",
                    "hours, or 0 beside a lag that grows: it will not catch up by itself; add processes.",
                    "s",
                    (
                        Query(
                            "{{role}}",
                            "max by (role) (loop_role:tailrace_lag_drain_seconds:est5m{@LOOP} or loop_role:tailrace_consumer_lag_records:sum{@LOOP} * 0)",
                        ),
                    ),
                ),
                Panel(
                    "Lag by partition",
                    "The partitions with the longest lag, now.",
                    "all about alike.",
                    "one far above the others: a hot key, or a partition that stands still.",
                    "s",
                    (
                        Query(
                            "{{role}} {{topic}}/{{partition}}",
                            "topk(12, max by (role, topic, partition) (tailrace_consumer_lag_seconds{@LOOP}))",
                        ),
                    ),
                    "bars",
                    ((30, YELLOW), (300, RED)),
                ),
                Panel(
                    "Without progress for",
                    "Time since a partition with lag last completed anything; 0 where nothing waits.",
                    "below 10 s.",
                    "over a minute it is stalled: read the log of its process, then restart it.",
                    "s",
                    (
                        Query(
                            "{{role}}",
                            "max by (role) ((time() - tailrace_consumer_last_progress_timestamp_seconds{@LOOP})"
                            " * (tailrace_consumer_lag_records{@LOOP} > bool 0))",
                        ),
                    ),
                    limits=((10, YELLOW), (60, RED)),
                ),
                Panel(
                    "In hand",
                    "Batches that are handed over and not completed, and paused partitions.",
                    "a few batches; no partition paused for long.",
                    "paused for long: too much waits for labels, or a restore takes long.",
                    "none",
                    (
                        Query("{{role}} batches", "sum by (role) (tailrace_in_flight_batches{@LOOP})"),
                        Query("{{role}} paused", "sum by (role) (tailrace_consumer_paused_partitions{@LOOP})"),
                    ),
                ),
            ),
        ),
        (
            "Errors",
            (
                Panel(
                    "What became of events",
                    "Events by outcome when they were scored.",
                    "almost all scored.",
                    "rejected grows: `tailrace dlq list`; abstained grows: the model has no answer.",
                    "cps",
                    (Query("{{outcome}}", "sum by (outcome) (rate(tailrace_events_total{@LOOP}[$__rate_interval]))"),),
                    "stack",
                ),
                Panel(
                    "Dead letters by code",
                    "Records that could not be used, by reason.",
                    "none, or the usual few.",
                    "`tailrace dlq list --code CODE` shows them; docs/producers.md says what each code means.",
                    "cps",
                    (
                        Query(
                            "{{topic}} {{code}}",
                            "sum by (topic, code) (rate(tailrace_dead_letters_total{@LOOP}[$__rate_interval]))",
                        ),
                    ),
                    "stack",
                ),
                Panel(
                    "Dead letters so far",
                    "The same, since the processes began.",
                    "short, and the same codes as last week.",
                    "a new code means that a producer changed something.",
                    "short",
                    (
                        Query(
                            "{{topic}} {{code}}", "sort_desc(sum by (topic, code) (tailrace_dead_letters_total{@LOOP}))"
                        ),
                    ),
                    "bars",
                    ((1, YELLOW),),
                ),
                Panel(
                    "Commits",
                    "Commits of offsets by outcome.",
                    "ok; a refused one at a rebalance is normal.",
                    "failed: Kafka does not take them; more is read again after a restart.",
                    "cps",
                    (
                        Query(
                            "{{role}} {{outcome}}",
                            "sum by (role, outcome) (rate(tailrace_commits_total{@LOOP}[$__rate_interval]))",
                        ),
                    ),
                ),
                Panel(
                    "Features that reject events",
                    "Events rejected for a feature, the worst ten.",
                    "none.",
                    "ask whoever fills that field; the contract is in tailrace.toml.",
                    "cps",
                    (
                        Query(
                            "{{feature}}",
                            "topk(10, sum by (feature) (rate(tailrace_feature_rejected_total{@LOOP}[$__rate_interval]))) or on () label_replace(vector(0), 'feature', 'none', '', '')",
                        ),
                    ),
                ),
                Panel(
                    "Blocks that do not count",
                    "Blocks of the training log of a former owner, or sent twice.",
                    "0, a few after a rebalance.",
                    "nothing is lost; a steady stream means two joiners fight: see Group.",
                    "cps",
                    (Query("fenced", "sum(rate(tailrace_blocks_fenced_total{@LOOP}[$__rate_interval]))"),),
                ),
            ),
        ),
        (
            "Duration",
            (
                Panel(
                    "From event to answer",
                    "How long events waited for their predictions: the darker, the more of them; points are events that are traced.",
                    "one dark band below a second.",
                    "a band that climbs is lag; a second one apart is a slow process; a point names the trace of an event.",
                    "s",
                    (
                        Query(
                            "{{le}}",
                            "sum by (le) (increase(tailrace_end_to_end_latency_seconds_bucket{@LOOP}[$__rate_interval]))",
                            exemplars=True,
                        ),
                    ),
                    "heat",
                ),
                Panel(
                    "Time in a role",
                    "From handing over a batch until all that came of it is acknowledged, 99 of 100 records.",
                    "below 0.5 s.",
                    "one role above the others is the narrow place.",
                    "s",
                    (
                        Query(
                            "{{role}}",
                            "histogram_quantile(0.99, sum by (role, le) (rate(tailrace_batch_duration_seconds_bucket{@LOOP}[$__rate_interval])))",
                        ),
                    ),
                    limits=((0.5, YELLOW), (5, RED)),
                ),
                Panel(
                    "Kafka's acknowledgement",
                    "From putting records in line until Kafka has them, 99 of 100.",
                    "below 0.25 s.",
                    "slow for all topics: the brokers; for one: its partitions or min ISR.",
                    "s",
                    (
                        Query(
                            "{{topic}}",
                            "histogram_quantile(0.99, sum by (topic, le) (rate(tailrace_produce_duration_seconds_bucket{@LOOP}[$__rate_interval])))",
                        ),
                    ),
                    limits=((0.25, YELLOW), (2, RED)),
                ),
                Panel(
                    "Put in line and not acknowledged",
                    "Bytes that Kafka has not confirmed yet.",
                    "some hundred kB at most, and back to 0.",
                    "a climb: the brokers are slow or away; sending waits for them, nothing is lost.",
                    "bytes",
                    (Query("{{loop}}", "sum by (loop) (tailrace_produce_waiting_bytes{@LOOP})"),),
                    width=12,
                ),
                Panel(
                    "Producers given up",
                    "In 15 minutes: a send failed or was late, and was made again by a new producer.",
                    "0.",
                    "again and again: `tailrace doctor`; talk to whoever runs the brokers.",
                    "none",
                    (
                        Query(
                            "{{loop}}",
                            "sum by (loop) (increase(tailrace_producer_renewals_total{@LOOP}[15m])) or on () vector(0)",
                        ),
                    ),
                    limits=((1, YELLOW),),
                    width=12,
                ),
            ),
        ),
        (
            "Group",
            (
                Panel(
                    "Partitions that are read",
                    "By topic, over all processes, and how many of all topics nobody reads.",
                    "flat, and nobody reads 0.",
                    "above 0: a process is gone and nobody took over; start one.",
                    "none",
                    (
                        Query(
                            "{{role}} {{topic}}", "sum by (role, topic) (tailrace_consumer_assigned_partitions{@LOOP})"
                        ),
                        Query(
                            "nobody reads",
                            "sum(clamp_min(max by (job, loop, topic) (tailrace_topic_partitions{@LOOP}) - on (job, loop, topic)"
                            " group_right () loop_role_topic:tailrace_consumer_assigned_partitions:sum{@LOOP}, 0))",
                        ),
                    ),
                ),
                Panel(
                    "Rebalances",
                    "Assignments of partitions, in 15 minutes.",
                    "0 but for deployments.",
                    "again and again: a process restarts or is slower than its session.",
                    "none",
                    (Query("{{role}}", "max by (role) (increase(tailrace_rebalances_total{@LOOP}[15m]))"),),
                    limits=((4, RED),),
                    width=6,
                ),
                Panel(
                    "Restores take",
                    "How long a role took from its start until it ran.",
                    "seconds.",
                    "minutes: snapshots are rare or late, and a long tail of the log is folded.",
                    "s",
                    (
                        Query(
                            "{{role}}",
                            "max by (role) (tailrace_restore_duration_seconds_sum{@LOOP} / (tailrace_restore_duration_seconds_count{@LOOP} > 0))",
                        ),
                    ),
                    width=6,
                ),
                Panel(
                    "Records left to fold",
                    "What a restore has still before it.",
                    "0, or falling.",
                    "it stands: read the log of the process; it waits for Kafka, or for memory.",
                    "short",
                    (Query("{{role}}", "max by (role) (tailrace_restore_remaining_records{@LOOP})"),),
                    width=6,
                ),
            ),
        ),
    ),
)
