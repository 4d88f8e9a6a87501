// Debian's Chromium, steered over the DevTools protocol. Needs Node 22 or newer, for its WebSocket.
import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const DEADLINE = 60_000;
const runner = new URL('../run', import.meta.url).pathname;

// Starts a browser whose trust anchors are the certificates of the PEM file `ca`, calls `use` with the way to open pages,
// and prints what it returns as one JSON object. Ends the browser, also where that fails or takes too long.
export async function withBrowser(ca, use) {
  const work = await mkdtemp(join(tmpdir(), 'qtls-chromium-'));
  await installPolicy(join(work, 'etc'), ca);
  const browser = startBrowser(work);
  const end = async () => {
    browser.kill('SIGKILL');
    await browser.ended;
    await rm(work, { recursive: true, force: true });
  };
  const abort = async (error) => {
    console.error(`chromium: ${error.stack}\n${browser.log}`);
    await end();
    process.exit(1);
  };
  // When the caller gives up on this process, the browser must not stay behind.
  process.on('SIGTERM', () => browser.kill('SIGKILL'));
  const timer = setTimeout(() => abort(new Error(`no result after ${DEADLINE / 1000} seconds`)), DEADLINE);
  try {
    const connection = await connect(await devToolsAddress(browser));
    console.log(JSON.stringify(await use(() => openPage(connection))));
    connection.close();
  } catch (error) {
    await abort(error);
  }
  clearTimeout(timer);
  await end();
}

// The value of an expression in a page; promises are awaited.
export async function evaluate({ send }, expression) {
  const { result, exceptionDetails } = await send('Runtime.evaluate', { expression, returnByValue: true, awaitPromise: true });
  if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
  return result.value;
}

// Saves what a page looks like as a PNG file: what the window shows, or all of it.
export async function screenshot({ send }, file, whole = false) {
  const { data } = await send('Page.captureScreenshot', { format: 'png', captureBeyondViewport: whole });
  await writeFile(file, Buffer.from(data, 'base64'));
}

// Trust is given as an enterprise would give it, by policy, so that nothing about verification is switched off.
async function installPolicy(etc, ca) {
  const pem = ca ? await readFile(ca, 'utf8') : '';
  const anchors = [...pem.matchAll(/-----BEGIN CERTIFICATE-----([^-]+)-----END/g)].map((match) => match[1].replace(/\s/g, ''));
  const directory = join(etc, 'chromium/policies/managed');
  await mkdir(directory, { recursive: true });
  await writeFile(join(directory, 'qtls.json'), JSON.stringify({ CACertificates: anchors }));
}

function startBrowser(work) {
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
function devToolsAddress(browser) {
  return new Promise((resolve, reject) => {
    const look = () => {
      const found = /DevTools listening on (ws:\S+)/.exec(browser.log);
      if (found) resolve(found[1]);
    };
    browser.stderr.on('data', look);
    browser.on('close', (code) => reject(new Error(`chromium ended with ${code}:\n${browser.log}`)));
  });
}

async function connect(address) {
  const socket = new WebSocket(address);
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = () => reject(new Error(`cannot connect to ${address}`));
  });
  const answers = new Map();
  const sessions = new Map();
  let next = 0;
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.id) {
      const { resolve, reject } = answers.get(message.id);
      message.error ? reject(new Error(message.error.message)) : resolve(message.result);
      return;
    }
    sessions.get(message.sessionId)?.(message);
  };
  const send = (method, params = {}, sessionId = undefined) =>
    new Promise((resolve, reject) => {
      answers.set(++next, { resolve, reject });
      socket.send(JSON.stringify({ id: next, method, params, sessionId }));
    });
  return { send, sessions, close: () => socket.close() };
}

// A session with one new page: `send` for commands, `events` with everything that came, `until` to await one.
async function openPage(connection) {
  const events = [];
  let waiting = [];
  const { targetId } = await connection.send('Target.createTarget', { url: 'about:blank' });
  const { sessionId } = await connection.send('Target.attachToTarget', { targetId, flatten: true });
  connection.sessions.set(sessionId, (message) => {
    events.push(message);
    waiting = waiting.filter(({ wanted, resolve }) => !wanted(message) || resolve(message));
  });
  const send = (method, params) => connection.send(method, params, sessionId);
  const until = (wanted) =>
    new Promise((resolve) => {
      const seen = events.find(wanted);
      seen ? resolve(seen) : waiting.push({ wanted, resolve });
    });
  for (const domain of ['Page', 'Network', 'Runtime', 'Log']) await send(`${domain}.enable`);
  return { send, until, events };
}
