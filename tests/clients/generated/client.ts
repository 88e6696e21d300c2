// Uses the API through a client that openapi-typescript generated from the OpenAPI document:
// sends an event, reads the customer, scores a row, and follows the change feed.
//
//     node client.js URL KEY
//
// Prints the results as JSON. Compiled with `tsc --strict`, so that the types must fit.
import createClient from 'openapi-fetch';
import type { paths } from './schema.js';

const [url, key] = process.argv.slice(2);
if (url === undefined || key === undefined) throw new Error('usage: client.js URL KEY');
const client = createClient<paths>({ baseUrl: url, headers: { Authorization: `Bearer ${key}` } });

const sent = await client.POST('/v1/events', {
  body: {
    type: 'track',
    name: 'Order Completed',
    message_id: 'typescript-1',
    customer_id: 'typescript',
    properties: { sales_value: 12.5, lines: 2 },
  },
});
const accepted: number = sent.data?.accepted ?? 0;

const customer = await client.GET('/v1/customers/{customer_id}', {
  params: { path: { customer_id: 'typescript' } },
});
if (customer.error) throw new Error(customer.error.detail);
const segment_id: string = customer.data.segment_id;

const score = await client.POST('/v1/score', {
  body: { features: { recency_days: 3, orders_365d: 4, spend_365d: 200 } },
});
if (score.error) throw new Error(score.error.detail);

let cursor: string | undefined;
let changes = 0;
do {
  const page = await client.GET('/v1/changes', { params: { query: { cursor, limit: 100 } } });
  if (page.error) throw new Error(page.error.detail);
  // A text is a stream of server-sent events, which this request did not ask for.
  if (typeof page.data === 'string') throw new Error('a page was expected');
  changes += page.data.changes.filter((change) => change.customer_id === 'typescript').length;
  cursor = page.data.changes.length > 0 ? page.data.next_cursor : undefined;
} while (cursor !== undefined);

const refused = await client.GET('/v1/changes', { params: { query: { segment_id: 's99' } } });
const field: string | undefined = refused.error?.errors?.[0]?.field;

console.log(JSON.stringify({ accepted, segment_id, score: score.data, changes, field }));
