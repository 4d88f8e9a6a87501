// Loads one page in Debian's Chromium and tells what the browser itself says of the connection.
//
//   node load.mjs '{"url": "https://localhost:8443/", "ca": "FILE", "screenshot": "FILE.png"}'
//
// `ca` is a PEM file whose certificates the browser's managed policy makes trust anchors; `settle` is an expression
// that is awaited in the page after it has loaded. Prints one JSON object: what the DevTools protocol reports of the
// document's response (`security`, `protocol`, `status`), the page's title and text, and `error` where loading failed.
// Needs Node 22 or newer, for its WebSocket.
import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const DEADLINE = 60_000;
const options = JSON.parse(process.argv[2]);
const runner = new URL('../run', import.meta.url).pathname;
const work = await mkdtemp(join(tmpdir(), 'qtls-chromium-'));

await installPolicy(join(work, 'etc'));
const browser = startBrowser();
// When the caller gives up on this process, the browser must not stay behind.
process.on('SIGTERM', () => browser.kill('SIGKILL'));
const timer = setTimeout(() => abort(new Error(`no result after ${DEADLINE / 1000} seconds`)), DEADLINE);
try {
  const page = await openPage(await devToolsAddress());
  console.log(JSON.stringify(await visit(page)));
  page.close();
} catch (error) {
  await abort(error);
}
clearTimeout(timer);
await end();

// Trust is given as an enterprise would give it, by policy, so that nothing about verification is switched off.
async function installPolicy(etc) {
  const pem = options.ca ? await readFile(options.ca, 'utf8') : '';
  const anchors = [...pem.matchAll(/-----BEGIN CERTIFICATE-----([^-]+)-----END/g)].map((match) => match[1].replace(/\s/g, ''));
  const directory = join(etc, 'chromium/policies/managed');
  await mkdir(directory, { recursive: true });
  await writeFile(join(directory, 'qtls.json'), JSON.stringify({ CACertificates: anchors }));
}

function startBrowser() {
  const flags = [
    '--headless',
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--window-size=1000,800',
    '--remote-debugging-port=0',
    `--user-data-dir=${work}/profile`,
    'about:blank',
  ];
  const child = spawn(runner, ['--etc', `${work}/etc`, '--share', work, 'chromium', ...flags], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  child.log = '';
  child.stderr.on('data', (data) => (child.log += data));
  child.ended = new Promise((resolve) => child.on('close', resolve));
  return child;
}

// Chromium announces its DevTools address on standard error when it listens.
function devToolsAddress() {
  return new Promise((resolve, reject) => {
    const look = () => {
      const found = /DevTools listening on (ws:\S+)/.exec(browser.log);
      if (found) resolve(found[1]);
    };
    browser.stderr.on('data', look);
    browser.on('close', (code) => reject(new Error(`chromium ended with ${code}:\n${browser.log}`)));
  });
}

// A session with one new page: `send` for commands, `events` with everything that came, `until` to await one.
async function openPage(address) {
  const socket = new WebSocket(address);
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = () => reject(new Error(`cannot connect to ${address}`));
  });
  const answers = new Map();
  const events = [];
  let waiting = [];
  let session;
  let next = 0;
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.id) {
      const { resolve, reject } = answers.get(message.id);
      message.error ? reject(new Error(message.error.message)) : resolve(message.result);
      return;
    }
    events.push(message);
    waiting = waiting.filter(({ wanted, resolve }) => !wanted(message) || resolve(message));
  };
  const send = (method, params = {}) =>
    new Promise((resolve, reject) => {
      answers.set(++next, { resolve, reject });
      socket.send(JSON.stringify({ id: next, method, params, sessionId: session }));
    });
  const until = (wanted) =>
    new Promise((resolve) => {
      const seen = events.find(wanted);
      seen ? resolve(seen) : waiting.push({ wanted, resolve });
    });
  const { targetId } = await send('Target.createTarget', { url: 'about:blank' });
  session = (await send('Target.attachToTarget', { targetId, flatten: true })).sessionId;
  return { send, until, events, close: () => socket.close() };
}

async function visit({ send, until }) {
  for (const domain of ['Page', 'Network', 'Runtime']) await send(`${domain}.enable`);
  const { errorText, loaderId } = await send('Page.navigate', { url: options.url });
  if (errorText) return { error: errorText };
  const { params } = await until((event) => event.method === 'Network.responseReceived' && event.params.requestId === loaderId);
  await until((event) => event.method === 'Page.loadEventFired');
  if (options.settle) await evaluate(send, options.settle);
  const result = {
    status: params.response.status,
    protocol: params.response.protocol,
    state: params.response.securityState,
    security: params.response.securityDetails,
    title: await evaluate(send, 'document.title'),
    text: await evaluate(send, 'document.body.innerText'),
  };
  if (options.screenshot) {
    const { data } = await send('Page.captureScreenshot', { format: 'png' });
    await writeFile(options.screenshot, Buffer.from(data, 'base64'));
  }
  return result;
}

async function evaluate(send, expression) {
  const { result, exceptionDetails } = await send('Runtime.evaluate', { expression, returnByValue: true, awaitPromise: true });
  if (exceptionDetails) throw new Error(exceptionDetails.text);
  return result.value;
}

async function end() {
  browser.kill('SIGKILL');
  await browser.ended;
  await rm(work, { recursive: true, force: true });
}

async function abort(error) {
  console.error(`chromium: ${error.message}\n${browser.log}`);
  await end();
  process.exit(1);
}
