// What the tabs of one browser do together: one leads, which listens and looks for all.

const channel = new BroadcastChannel('purchases');
let hear;

/** Tells every tab, this one too. */
export function tell(message) {
  channel.postMessage(message);
  hear(message);
}

/** Hears what any tab tells. */
export function onTold(hearer) {
  hear = hearer;
  channel.addEventListener('message', ({ data }) => hear(data));
}

/** Longer than a call may take: whoever has a lock for so long is asleep. */
const PATIENCE_MS = 25_000;

/** Does something that no other tab does, unless the browser has no locks (plain HTTP), or a tab that is asleep has this one. */
export async function exclusively(name, work) {
  let done;
  const run = () => (done ??= Promise.resolve().then(work));
  await navigator.locks?.request(name, { signal: AbortSignal.timeout(PATIENCE_MS) }, run).catch(() => {});
  return run();
}

/**
 * Has `begin` called once this tab is to lead; it gives what ends that. When the tab is closed another one leads. Gives what takes over at
 * once. Without locks it is whoever is looked at.
 */
export function lead(begin) {
  let waiting;
  const take = async (steal) => {
    waiting?.abort();
    waiting = new AbortController();
    let end;
    const hold = () => {
      end = begin();
      return new Promise(() => {});
    };
    await navigator.locks.request('leader', steal ? { steal } : { signal: waiting.signal }, hold).catch(() => {});
    if (!end) return;
    // Another tab has taken it.
    end();
    take(false);
  };
  if (navigator.locks) {
    take(false);
    return () => take(true);
  }
  let end;
  const look = () => {
    if (document.visibilityState === 'visible') end ??= begin();
    else end = end?.();
  };
  addEventListener('visibilitychange', look);
  look();
  return () => {};
}

/** Waits so long, or until `signal` or an event of `ends`. The timers of hidden tabs are slow: one that is looked at wakes them. */
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

/** How long to wait after so many failures in a row: twice as long each time, and not all at the same moment. */
export function backoff(failures, leastMs = 0) {
  const most = Math.min(1000 * 2 ** failures, 30_000);
  return Math.max(leastMs, most / 2 + (Math.random() * most) / 2);
}
