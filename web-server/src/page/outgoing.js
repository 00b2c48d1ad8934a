// Purchases on their way. Each is kept in this browser until it is certain what became of it: whatever is reloaded, killed or cut off
// meanwhile, it is sent again with its idempotency key, and stored once.

import { callSigned, mayBuyFor } from './session.js';
import { backoff, exclusively, pause } from './tabs.js';

const PREFIX = 'outgoing:';
/** What was accepted is asked for after so long. */
const ASK_AFTER_MS = 10_000;
/** What is older is not sent unasked, nor expected to be recorded. */
const DAY_MS = 24 * 60 * 60 * 1000;
/** A tab looks for what is to be sent so often at least. */
const LOOK_MS = 30_000;
/** And at most, also where nothing can be kept. */
const BREATH_MS = 500;
/** Answers that stay the same, if they are the server's own and not of what is between. */
const REFUSALS = [400, 403, 409, 413, 415, 422];
/** Its answers by which nothing was sent. */
const UNSENT = [401, 429, 503];

let hear;
/** The key of what is sent from the form. */
let fresh;
/** When there was news of network or server: what failed before is tried at once. */
let hurriedAt = 0;

/** Begins to send what is there, also of closed tabs. `told(key, entry)`: what becomes of each. */
export function begin(told) {
  hear = told;
  addEventListener('storage', ({ key, newValue }) => {
    if (!key?.startsWith(PREFIX)) return;
    hear(key.slice(PREFIX.length), JSON.parse(newValue));
    resume();
  });
  for (const news of ['online', 'recovered']) addEventListener(news, () => (hurriedAt = Date.now()));
  sendAgain();
}

/** Sends what may be sent now. */
export function resume() {
  dispatchEvent(new Event('resumed'));
}

/** Everything on its way, newest first. */
export function all() {
  const names = Object.keys(localStorage).filter((name) => name.startsWith(PREFIX));
  return names.map((name) => find(name.slice(PREFIX.length))).sort((one, other) => other.at - one.at);
}

/** Keeps a purchase and sends it; gives its key. */
export function add(purchase) {
  const key = crypto.getRandomValues(new BigUint64Array(2)).join('-');
  const entry = { ...purchase, key, at: Date.now(), state: 'sending', words: '', isUnsent: true, failures: 0 };
  fresh = key;
  // Others hear of it once it is this tab's to send.
  exclusively(`purchase ${key}`, async () => {
    if (keep(entry)) await attempt(key);
    else hear(key, { ...entry, state: 'refused', words: 'This browser keeps nothing for this page.' });
    fresh = undefined;
    resume();
  });
  return key;
}

/** Sends one after which was asked. */
export function again(key) {
  write({ ...find(key), state: 'waiting', askedAt: Date.now(), dueAt: 0 });
  resume();
}

/** Gives up what was never sent, or of which nothing more is to come. */
export function drop(key) {
  return exclusively(`purchase ${key}`, () => {
    const { state, isUnsent, isAway } = find(key) ?? {};
    if (['old', 'refused'].includes(state) || (state === 'waiting' && isUnsent && !isAway)) remove(key);
  });
}

/** These purchases are recorded. */
export function seen(purchaseIds) {
  for (const { key, purchaseId } of all()) if (purchaseIds.includes(purchaseId)) remove(key);
}

/** Asks for what was accepted a while ago. */
export async function askForAccepted() {
  for (const entry of all()) {
    const age = Date.now() - entry.at;
    if (entry.state !== 'accepted' || age < ASK_AFTER_MS) continue;
    const { status } = await callSigned('GET', `/purchases/${entry.purchaseId}`);
    if (status === 200) remove(entry.key);
    else if (status === 404 && age > DAY_MS) write({ ...entry, state: 'refused', words: `It was accepted as ${entry.purchaseId}.` });
  }
}

/** One at a time. */
async function sendAgain() {
  for (;;) {
    for (const { key } of toSend().filter(isDue).reverse()) {
      await exclusively(`purchase ${key}`, () => exclusively('sending', () => attempt(key)));
    }
    const next = Math.min(LOOK_MS, ...toSend().map(({ dueAt = 0 }) => dueAt - Date.now()));
    await pause(Math.max(next, BREATH_MS), { ends: ['online', 'recovered', 'resumed'] });
  }
}

const toSend = () => all().filter((entry) => entry.key !== fresh && isToSend(entry));
const isToSend = ({ state, userid }) => ['sending', 'waiting'].includes(state) && mayBuyFor(userid);
const isDue = ({ dueAt = 0, triedAt }) => dueAt <= Date.now() || triedAt < hurriedAt;

async function attempt(key) {
  const entry = find(key);
  if (!entry || !isToSend(entry) || !isDue(entry)) return;
  const { username, userid, price, isAway, at, askedAt = at } = entry;
  // Its tab was closed meanwhile.
  entry.isUnsent &&= !isAway;
  if (Date.now() - askedAt > DAY_MS) {
    return write({ ...entry, isAway: false, state: 'old', words: 'It is a day old. Send it still? However often, it is stored once.' });
  }
  keep({ ...entry, isAway: true });
  const answer = await callSigned('POST', '/buy', { body: { username, userid, price }, headers: { 'Idempotency-Key': key } });
  settle({ ...entry, isAway: false }, answer);
}

/** Only what the server itself says is final. */
function settle(entry, { status, json, words, retryAfterMs, isUnsent }) {
  const isOwn = `${json.type}`.startsWith('urn:purchase:');
  if (status === 201 && json.data) {
    hear(entry.key, { ...entry, state: 'recorded', purchase: json.data });
    remove(entry.key);
  } else if (status === 202 && json.purchase_id) {
    write({ ...entry, state: 'accepted', words: '', purchaseId: json.purchase_id });
  } else if (isOwn && REFUSALS.includes(status)) {
    write({ ...entry, state: 'refused', words: words + (entry.isUnsent ? '' : ' An attempt before may count.'), errors: json.errors });
  } else {
    write({
      ...entry,
      state: 'waiting',
      words: `${words} It is sent again by itself, and stored once.`,
      isUnsent: entry.isUnsent && (isUnsent || (isOwn && UNSENT.includes(status))),
      failures: entry.failures + 1,
      triedAt: Date.now(),
      dueAt: Date.now() + backoff(entry.failures, retryAfterMs),
    });
  }
}

function find(key) {
  return JSON.parse(localStorage.getItem(PREFIX + key));
}

/** Whether there was room; if not, what was kept before is still there. */
function keep(entry) {
  try {
    localStorage.setItem(PREFIX + entry.key, JSON.stringify(entry));
    return true;
  } catch {
    return false;
  }
}

function write(entry) {
  keep(entry);
  hear(entry.key, entry);
}

function remove(key) {
  localStorage.removeItem(PREFIX + key);
  hear(key, null);
}
