// Calls every method of npm's @segment/analytics-node.
//
//     node segment_node.mjs MODULES HOST WRITE_KEY CUSTOMERS
//
// Calls with a message id and a timestamp are sent twice, the others once. Exits with 1 if the library
// dropped an event.
import { createRequire } from "node:module";

const [modules, host, writeKey, customers] = process.argv.slice(2);
const { Analytics } = createRequire(`${modules}/`)("@segment/analytics-node");

// A call that is repeated must repeat its timestamp: the library adds the present one.
const started = new Date();
let failed = 0;

async function send(calls) {
  const analytics = new Analytics({ writeKey, host, flushAt: 40, flushInterval: 500 });
  analytics.on("error", (error) => {
    failed += 1;
    console.error("dropped:", error.code, error.reason);
  });
  calls(analytics);
  await analytics.closeAndFlush({ timeout: 60_000 });
}

function named(analytics) {
  for (let i = 0; i < Number(customers); i += 1) {
    const userId = `node-${i}`;
    const id = (call) => ({ userId, messageId: `${userId}-${call}`, timestamp: started });
    analytics.identify({ ...id("identify"), anonymousId: `was-${i}`, traits: { plan: "gold" } });
    for (let order = 0; order < 5; order += 1) {
      analytics.track({
        ...id(`order-${order}`),
        event: "Order Completed",
        properties: { revenue: order + 0.25, products: [{ sku: "a", price: 1 }] },
      });
    }
    analytics.page({ ...id("page"), name: "Home", category: "shop", properties: { url: "/" } });
    analytics.screen({ ...id("screen"), name: "Home" });
    analytics.group({ ...id("group"), groupId: "acme", traits: { employees: 12 } });
    analytics.alias({ ...id("alias"), previousId: `was-${i}` });
  }
}

function unnamed(analytics) {
  for (let order = 0; order < 90; order += 1) {
    analytics.track({
      anonymousId: "node-unnamed",
      event: "Order Completed",
      timestamp: new Date(Date.now() - 60_000 * order),
      properties: { revenue: 1 },
    });
  }
}

await send((analytics) => {
  named(analytics);
  unnamed(analytics);
});
await send(named);
process.exit(failed === 0 ? 0 : 1);
