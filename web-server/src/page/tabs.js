// What the tabs of one browser do together: one of them listens and looks for all, and each thing is done by one at a time.

const channel = new BroadcastChannel('purchases');
const hearers = [];

channel.addEventListener('message', ({ data }) => hear(data));

function hear(message) {
  for (const hearer of hearers) hearer(message);
}

/** Tells every tab, this one too. */
export function tell(message) {
  channel.postMessage(message);
  hear(message);
}

/** Hears what any tab tells. */
export function onTold(hearer) {
  hearers.push(hearer);
}

/** Does something that no other tab does at the same time. Where the browser has no locks (plain HTTP), it is done all the same. */
export function exclusively(name, work) {
  return navigator.locks ? navigator.locks.request(name, work) : work();
}

/**
 * Has `begin` called once this tab is to do what one does for all; it gives what ends that. When the tab is closed another one takes over.
 * Without locks it is whoever is looked at.
 */
export function lead(begin) {
  if (navigator.locks) {
    navigator.locks.request('leader', () => {
      begin();
      return new Promise(() => {});
    });
    return;
  }
  let end;
  const look = () => {
    const isLooked = document.visibilityState === 'visible';
    if (isLooked) end ??= begin();
    else end = end?.();
  };
  addEventListener('visibilitychange', look);
  look();
}

/**
 * Waits so long, or until `signal` or one of the events `ends` ends it. The timers of a tab that nobody looks at are slow: one that is
 * looked at wakes it, when it is time.
 */
export function pause(milliseconds, { signal, ends = ['online'] } = {}) {
  const due = Date.now() + milliseconds;
  const over = new AbortController();
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      over.abort();
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    for (const end of ends) addEventListener(end, done, over);
    addEventListener('woken', () => Date.now() >= due && done(), over);
    signal?.addEventListener('abort', done, over);
  });
}

/** How long to wait after so many failures in a row: twice as long each time, and not at the same moment as everybody else. */
export function backoff(failures, leastMs = 0) {
  const most = Math.min(1000 * 2 ** failures, 30_000);
  return Math.max(leastMs, most / 2 + (Math.random() * most) / 2);
}
