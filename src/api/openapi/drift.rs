//! OpenAPI description of drift.

use super::{Operation, QueryParameter};

const HOURS: &str = "Number of hours, including the one in progress, up to 2208; default \
                     drift.window_hours";
const SOURCE: &str = "rows (default, the rows of scoring requests), events (customers with new \
                      events, which are the active ones and differ for that reason), customers (a \
                      sample of stored customers each hour, each at most once a day, as in \
                      training) or all (rows and events together)";
const MODEL: &str = "A model that served in this period; default the active model";

pub(super) const OPERATIONS: &[Operation] = &[
    (
        "/v1/drift",
        "get",
        "read",
        "Compare scored rows with the training baseline",
        None,
        "For every feature the figures, each with the part explained by chance; the same for \
         segments, distances, outliers and p-values; for sampled customers also the change of \
         features within each segment. `findings` are the differences left after the correction \
         for multiple tests and the minimum sample and effect size (`[drift]`), with owner, size \
         and advice. A finding with `about` = `unseen` is about values, categories or ranges that \
         training never had; with `rare`, about values that were rare there. `stream` are the \
         sequential detectors, which compare each complete hour with the same hours of earlier \
         weeks and accumulate the evidence: their last alarm and the estimated start of the \
         change (null without an alarm in the last 92 days); null if `drift.detectors` is false. \
         A finding of a detector has `about` = `stream`. `keys` is the share of each API key in \
         the rows (`source=rows`, hours of the last week), largest first. `decisive_key` names \
         the key without whose rows the finding disappears; if the other keys have enough rows \
         and do not confirm it (`is_contradicted`), the owner of the feature is not alerted. \
         Sensitive features are not compared. 409 without a model",
    ),
    (
        "/v1/drift/history",
        "get",
        "read",
        "List drift figures by hour or day, oldest first",
        None,
        "The number of scored rows, the rates of outliers (null if too few rows were held out at \
         training) and of rows in no segment, the number of findings, and the feature with the \
         largest PSI",
    ),
    (
        "/v1/drift/flow",
        "get",
        "read",
        "Get the moves of customers between segments",
        None,
        "Segments of the active model. Churn is the share of customers whose segment at the end \
         of the period differs from that at its beginning, for all customers and by segment, in \
         this period and in the one before, with the p-value of the difference (Fisher's exact \
         test; corrected for their number by segment). Also the moves, the customers who moved, \
         new customers, the flows between segments, and separately the changes by another model, \
         the rule-based fallback or a merge. Shares of fewer than 5 customers are null, flows of \
         fewer than 5 are combined, and the earlier churn is null if the history does not reach \
         back. 409 without a model",
    ),
    (
        "/v1/drift/features/{name}/picture.svg",
        "get",
        "read",
        "Draw a feature at training and now",
        None,
        "An SVG without scripts",
    ),
];

pub(super) const QUERY_PARAMETERS: &[QueryParameter] = &[
    ("/v1/drift", "hours", "integer", HOURS),
    ("/v1/drift", "model", "string", MODEL),
    ("/v1/drift", "source", "string", SOURCE),
    ("/v1/drift/history", "hours", "integer", HOURS),
    ("/v1/drift/history", "model", "string", MODEL),
    ("/v1/drift/history", "source", "string", SOURCE),
    ("/v1/drift/history", "by", "string", "hour or day, in UTC; default hour"),
    ("/v1/drift/flow", "hours", "integer", HOURS),
    ("/v1/drift/features/{name}/picture.svg", "hours", "integer", HOURS),
    ("/v1/drift/features/{name}/picture.svg", "model", "string", MODEL),
    ("/v1/drift/features/{name}/picture.svg", "source", "string", SOURCE),
];
