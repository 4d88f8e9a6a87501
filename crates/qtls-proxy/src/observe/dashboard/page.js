'use strict';
// Fetches the page anew and takes over the parts that have changed. Without it, the page is the same, as of its time.
(() => {
  const PERIOD = 10000;
  const pause = document.getElementById('pause');
  const stale = document.getElementById('stale');
  let paused = false;
  let timer;

  const next = () => {
    clearTimeout(timer);
    if (!paused && !document.hidden) timer = setTimeout(fetchPage, PERIOD);
  };

  const fetchPage = () => {
    const request = new XMLHttpRequest();
    request.open('GET', '/dashboard');
    request.responseType = 'document';
    request.timeout = PERIOD;
    request.onload = () => {
      const fresh = request.responseXML;
      if (request.status !== 200 || !fresh || !fresh.body.dataset.version) return fail();
      // Another program has taken over: its style and script are others.
      if (fresh.body.dataset.version !== document.body.dataset.version) return location.reload();
      if (!paused) take(fresh);
      if (stale.textContent) stale.textContent = '';
      next();
    };
    request.onerror = request.ontimeout = () => fail();
    request.send();
  };

  const fail = () => {
    const message = 'The server does not answer: these figures are old.';
    if (stale.textContent !== message) stale.textContent = message;
    next();
  };

  const take = (fresh) => {
    for (const part of fresh.querySelectorAll('[data-live]')) {
      const old = document.getElementById(part.id);
      if (!old || old.innerHTML === part.innerHTML) continue;
      const open = [...old.querySelectorAll('details[open]')].map((details) => details.id);
      const scrolled = [...old.querySelectorAll('.scroll')].map((box) => [box.id, box.scrollLeft, box.scrollTop]);
      const focused = old.contains(document.activeElement) ? document.activeElement.id : '';
      old.replaceChildren(...document.importNode(part, true).childNodes);
      const now = (id) => id && document.getElementById(id);
      for (const id of open) if (now(id)) now(id).open = true;
      for (const [id, left, top] of scrolled) if (now(id)) now(id).scrollTo({ left, top, behavior: 'instant' });
      if (now(focused)) now(focused).focus({ preventScroll: true });
    }
  };

  pause.hidden = false;
  pause.addEventListener('click', () => {
    paused = !paused;
    pause.setAttribute('aria-pressed', String(paused));
    if (paused) clearTimeout(timer);
    else fetchPage();
  });
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) clearTimeout(timer);
    else if (!paused) fetchPage();
  });
  next();
})();
