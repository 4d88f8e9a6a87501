// Looks at one page in several ways, as people do: at some width, light or dark, with the keyboard, without scripts.
//
//   node look.mjs '{"url": "http://localhost:9091/dashboard", "views": [{"width": 390, "height": 844, "scheme": "dark"}]}'
//
// A view has `width`, `height`, `scheme` ("light" or "dark"), and maybe `scripts` (false switches them off), `motion`
// ("reduce"), `tabs` (how often Tab is pressed at most), `evaluate` (expressions by name, evaluated at the end), and
// `screenshot` (a PNG file of the whole page). Prints a JSON list with one object for each: `requests` (the URLs that were
// asked for), `console` (what was logged), `overflow` (by how many pixels the page is wider than the window, and whose
// fault that is), `focused` (what Tab reached, in order), and `values`. Says `loaded` on standard error as often as a page is.
import { evaluate, screenshot, withBrowser } from './browser.mjs';

const options = JSON.parse(process.argv[2]);
await withBrowser(undefined, async (open) => {
  const results = [];
  for (const view of options.views) results.push(await look(await open(), view));
  return results;
});

async function look(page, view) {
  const { width, height, scheme } = view;
  const mobile = width < 600;
  await page.send('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 1, mobile });
  await page.send('Emulation.setEmulatedMedia', {
    features: [
      { name: 'prefers-color-scheme', value: scheme },
      { name: 'prefers-reduced-motion', value: view.motion ?? 'no-preference' },
    ],
  });
  await page.send('Emulation.setScriptExecutionDisabled', { value: view.scripts === false });
  const { errorText } = await page.send('Page.navigate', { url: options.url });
  if (errorText) throw new Error(errorText);
  await page.until((event) => event.method === 'Page.loadEventFired');
  console.error('loaded');
  const focused = view.tabs ? await walk(page, view.tabs) : [];
  const values = {};
  for (const [name, expression] of Object.entries(view.evaluate ?? {})) values[name] = await evaluate(page, expression);
  if (view.screenshot) await screenshot(page, view.screenshot, true);
  return {
    requests: page.events.filter(({ method }) => method === 'Network.requestWillBeSent').map(({ params }) => params.request.url),
    console: page.events.flatMap(complaint),
    overflow: await evaluate(page, `(${overflow})()`),
    focused,
    values,
  };
}

function complaint({ method, params }) {
  if (method === 'Runtime.consoleAPICalled') return [`${params.type}: ${params.args.map((value) => value.value ?? value.description)}`];
  if (method === 'Runtime.exceptionThrown') return [params.exceptionDetails.exception?.description ?? params.exceptionDetails.text];
  if (method === 'Log.entryAdded') return [`${params.entry.level}: ${params.entry.text}`];
  return [];
}

// In the page.
function overflow() {
  const width = document.documentElement.clientWidth;
  const scrolls = (element) => element && (getComputedStyle(element).overflowX !== 'visible' || scrolls(element.parentElement));
  const wide = [...document.body.querySelectorAll('*')].filter(
    (element) => element.getBoundingClientRect().right > width + 0.5 && !scrolls(element.parentElement),
  );
  return { pixels: document.documentElement.scrollWidth - width, elements: wide.map((element) => element.outerHTML.slice(0, 100)) };
}

// Presses Tab until the focus is back at the beginning.
async function walk(page, most) {
  const key = { key: 'Tab', code: 'Tab', windowsVirtualKeyCode: 9 };
  const focused = [];
  for (let count = 0; count < most; count += 1) {
    await page.send('Input.dispatchKeyEvent', { type: 'rawKeyDown', ...key });
    await page.send('Input.dispatchKeyEvent', { type: 'keyUp', ...key });
    const reached = await evaluate(page, `(${focus})()`);
    if (!reached) break;
    focused.push(reached);
  }
  return focused;
}

// In the page.
function focus() {
  const element = document.activeElement;
  if (!element || element === document.body) return null;
  const style = getComputedStyle(element);
  const box = element.getBoundingClientRect();
  return {
    element: element.id ? `#${element.id}` : element.tagName.toLowerCase() + (element.className ? `.${element.className}` : ''),
    name: element.getAttribute('aria-label') ?? element.textContent.trim(),
    outline: element.matches(':focus-visible') && style.outlineStyle !== 'none' ? parseFloat(style.outlineWidth) : 0,
    inWindow: box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth,
  };
}
