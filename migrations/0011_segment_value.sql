-- Value of segments over time: snapshots of what the customers of each segment are predicted to order
-- and spend, and the flows of customers between segments since earlier snapshots. Aggregates only; no
-- row is about one customer. Retention: `value.retention_days`, applied with each snapshot.

-- The figures of one segment at one snapshot.
create table segment_value (
    workspace_id     integer not null,
    taken_at         timestamptz not null,
    segment_id       text collate "C" not null,
    -- Name of the segment at the snapshot.
    name             text collate "C" not null,
    -- The model whose value model made the forecasts.
    model_id         text collate "C" not null,
    -- Unit of the amounts.
    unit             text collate "C" not null,
    customers        bigint not null check (customers >= 0),
    with_orders      bigint not null check (with_orders between 0 and customers),
    -- Sum over the customers with an order.
    churn_probabilities float8 not null,
    -- Sums over the customers of the expected days with an order and spend in the next 90 days, with
    -- their variances.
    orders           float8 not null,
    orders_variance  float8 not null,
    spend            float8 not null,
    spend_variance   float8 not null,
    value_at_risk    float8 not null,
    -- Spend in the 365 days before.
    revenue          float8 not null,
    primary key (workspace_id, taken_at, segment_id)
);

-- Customers in one segment at an earlier snapshot and in one at this one, customers who stay included.
create table segment_value_flow (
    workspace_id     integer not null,
    taken_at         timestamptz not null,
    -- Instant of the earlier snapshot.
    since            timestamptz not null,
    -- Empty: no segment of a model, as for new customers.
    from_segment_id  text collate "C" not null,
    to_segment_id    text collate "C" not null,
    customers        bigint not null check (customers > 0),
    -- Predicted spend of these customers at the earlier snapshot, and at this one.
    spend_before     float8 not null,
    spend_now        float8 not null,
    primary key (workspace_id, taken_at, since, from_segment_id, to_segment_id)
);
