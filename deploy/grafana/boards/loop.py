"""The loop: does a label still change predictions soon, and are they still better than a guess? One screen."""

from panels import BLUE, GREEN, RED, YELLOW, Board, Panel, Query

SKILL = "loop_model_metric:tailrace_model_skill:ratio"

FIRST = Panel(
    "How long from label to influence, and is it still better than doing nothing?",
    "The time from a label's arrival until a state that has learned it serves, for half of the labels and for 99 of 100;"
    " and the share of the errors of the best trivial model that the served predictions do not make.",
    "p99 below 10 s, and errors avoided above 0 % (green).",
    "a red time: see which panel below turned with it: freshness (publication), books (join) or rates"
    " (learning); red errors avoided: the model is worse than a guess: look at Model quality and drift, and go"
    " back to an older state.",
    "s",
    (
        Query("half of the labels within", "max(loop:tailrace_label_to_influence_seconds:p50_5m{@LOOP})"),
        Query("99 of 100 within", "max(loop:tailrace_label_to_influence_seconds:p99_5m{@LOOP})"),
        Query(
            "errors of a guess avoided",
            f"min({SKILL}" + '{metric="$metric", @LOOP})',
            "percentunit",
            ((0, YELLOW), (0.05, GREEN)),
            RED,
        ),
    ),
    "stat",
    ((5, YELLOW), (10, RED)),
    width=14,
    height=6,
    least=None,
)

BOARD = Board(
    "tailrace-loop",
    "Tailrace / The loop",
    "Does a label still change predictions soon, and are they still better than doing nothing?",
    (
        (
            "",
            (
                FIRST,
                Panel(
                    "Alerts that fire",
                    "How many alerts of Tailrace fire now.",
                    "0.",
                    "open the table at the bottom; every alert names its page in docs/runbooks.",
                    "none",
                    (
                        Query(
                            "firing",
                            'count(count by (alertname, severity, job, loop) (ALERTS{alertname=~"Tailrace.+", alertstate="firing"})) or vector(0)',
                        ),
                    ),
                    "stat",
                    ((1, YELLOW), (3, RED)),
                    width=5,
                    height=6,
                ),
                Panel(
                    "What serves lacks",
                    "For how long the training log has held records that the state that answers does not contain; the"
                    " oldest of all processes that score.",
                    "below 5 s; it is 0 most of the time.",
                    "it grows: scorers do not get new states; run `tailrace status`, it names the process and why.",
                    "s",
                    (Query("oldest serving state", "max(tailrace_serving_state_age_seconds{@LOOP})"),),
                    "stat",
                    ((5, YELLOW), (30, RED)),
                    width=5,
                    height=6,
                ),
            ),
        ),
        (
            "",
            (
                Panel(
                    "Label to influence",
                    "The same two times as above, over time.",
                    "flat lines below 10 s.",
                    "a step up at a deployment is the deployment; a steady rise is work that piles up: see Kafka pipeline.",
                    "s",
                    (
                        Query("half within", "max by (loop) (loop:tailrace_label_to_influence_seconds:p50_5m{@LOOP})"),
                        Query(
                            "99 of 100 within", "max by (loop) (loop:tailrace_label_to_influence_seconds:p99_5m{@LOOP})"
                        ),
                    ),
                    limits=((10, RED),),
                ),
                Panel(
                    "Quality against doing nothing",
                    "$metric of the last 1,000 judged predictions, as they were served, and of trivial models beside it"
                    " (always the most frequent answer, or the last one).",
                    "the model's line is clearly on the better side of every baseline: above for accuracy and roc_auc,"
                    " below for all others.",
                    "it crosses a baseline: doing nothing would be as good; see Model quality and drift for what"
                    " changed.",
                    "none",
                    (
                        Query(
                            "{{model}}",
                            'max by (model) (tailrace_model_metric{window="rolling", metric="$metric", @LOOP})',
                        ),
                        Query(
                            "baseline {{baseline}}",
                            'max by (baseline) (tailrace_model_metric_baseline{window="rolling", metric="$metric", @LOOP})',
                        ),
                    ),
                    least=None,
                    decimals=3,
                ),
                Panel(
                    "Freshness",
                    "How old what serves is: in real time, and in the time of the events (newest scored minus newest"
                    " learned, which includes how late labels are).",
                    "serving state below 5 s; event time about as large as the usual delay of labels.",
                    "serving state grows: scorers do not get states; event time alone grows: labels stopped, ask their"
                    " producer.",
                    "s",
                    (
                        Query("serving state lacks", "max by (loop) (tailrace_serving_state_age_seconds{@LOOP})"),
                        Query(
                            "learned behind scored",
                            "max by (loop) (tailrace_serving_state_event_time_lag_seconds{@LOOP})",
                        ),
                    ),
                    limits=((30, RED),),
                ),
            ),
        ),
        (
            "",
            (
                Panel(
                    "Events, answers, labels, examples",
                    "How much comes in and becomes of it.",
                    "scored follows events, learned follows labels, each a moment later.",
                    "a line at 0 while the one before it goes on is a step that stands still: `tailrace status`.",
                    "cps",
                    (
                        Query(
                            "events",
                            'sum(rate(tailrace_consumed_records_total{role="score", @LOOP}[$__rate_interval]))',
                        ),
                        Query("scored", 'sum(rate(tailrace_events_total{outcome="scored", @LOOP}[$__rate_interval]))'),
                        Query("labels", "sum(rate(tailrace_labels_total{@LOOP}[$__rate_interval]))"),
                        Query("learned", "sum(rate(tailrace_examples_learned_total{@LOOP}[$__rate_interval]))"),
                    ),
                ),
                Panel(
                    "Books",
                    "What became of all events and labels up to the learner's position, and what nothing explains.",
                    "`unexplained` is 0; most is joined and learned.",
                    "something is unexplained: run `tailrace books`, which recomputes the books from the topics;"
                    " late, orphaned or dropped have grown: see the labels in Model quality and drift.",
                    "short",
                    (
                        Query("unexplained", "sum(abs(tailrace_books_difference_records{@LOOP}))"),
                        Query(
                            "{{line}}: {{part}}",
                            'max by (line, part) (tailrace_books_records{line=~"scored|labels|examples", @LOOP}) > 0',
                        ),
                    ),
                    "bars",
                    low=BLUE,
                ),
                Panel(
                    "What is the matter",
                    "The alerts of Tailrace that fire or are about to.",
                    "one row that says: nothing.",
                    "the page docs/runbooks/<name>.md says what it means and what to do.",
                    "none",
                    (
                        Query(
                            "",
                            'sort_desc(count by (alertname, severity, loop, alertstate) (ALERTS{alertname=~"Tailrace.+"}))'
                            ' or on () label_replace(vector(0), "alertname", "nothing", "", "")',
                        ),
                    ),
                    "table",
                    only=("alertname", "severity", "loop", "alertstate"),
                ),
            ),
        ),
    ),
    by_metric=True,
    since="now-30m",
)
