// Loads one page in Debian's Chromium and tells what the browser itself says of the connection.
//
//   node load.mjs '{"url": "https://localhost:8443/", "ca": "FILE", "screenshot": "FILE.png"}'
//
// `ca` is a PEM file whose certificates the browser's managed policy makes trust anchors; `settle` is an expression
// that is awaited in the page after it has loaded. Prints one JSON object: what the DevTools protocol reports of the
// document's response (`security`, `protocol`, `status`), how many responses there were of each status (`responses`) and on
// how many connections, the page's title and text, and `error` where loading failed.
import { evaluate, screenshot, withBrowser } from './browser.mjs';

const options = JSON.parse(process.argv[2]);
await withBrowser(options.ca, async (open) => visit(await open()));

async function visit(page) {
  const { errorText, loaderId } = await page.send('Page.navigate', { url: options.url });
  if (errorText) return { error: errorText };
  const { params } = await page.until((event) => event.method === 'Network.responseReceived' && event.params.requestId === loaderId);
  await page.until((event) => event.method === 'Page.loadEventFired');
  if (options.settle) await evaluate(page, options.settle);
  const received = page.events.filter(({ method }) => method === 'Network.responseReceived');
  const responses = received.map((event) => event.params.response);
  const result = {
    status: params.response.status,
    protocol: params.response.protocol,
    state: params.response.securityState,
    security: params.response.securityDetails,
    responses: tally(responses.map(({ status }) => status)),
    connections: new Set(responses.map(({ connectionId }) => connectionId)).size,
    title: await evaluate(page, 'document.title'),
    text: await evaluate(page, 'document.body.innerText'),
  };
  if (options.screenshot) await screenshot(page, options.screenshot);
  return result;
}

function tally(values) {
  const counts = {};
  for (const value of values) counts[value] = (counts[value] ?? 0) + 1;
  return counts;
}
