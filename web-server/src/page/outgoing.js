// Purchases on their way. Each is kept in this browser, with its idempotency key, until it is certain what became of it: whatever is
// reloaded, killed or cut off meanwhile, it is sent again with that key, and stored once.

import { callSigned, mayBuyFor } from './session.js';
import { backoff, exclusively, pause } from './tabs.js';

const PREFIX = 'outgoing:';
/** What was accepted is asked for after so long, in milliseconds, and shown no longer than that. */
const ASK_AFTER_MS = 10_000;
const SHOW_MAX_MS = 24 * 60 * 60 * 1000;
/** Answers after which it may be stored, or may be when it is sent again; 0 is none at all. */
const UNCERTAIN = [0, 401, 408, 425, 429];
const SENT_AGAIN = 'It is sent again by itself, and stored once.';

/** What is told where the browser keeps nothing (its storage is full). */
const NOT_KEPT = { json: {}, words: 'This browser keeps nothing for this page: nothing was bought.' };

const underway = new Set();
let hear;

/** Begins to send what is there, also for tabs that are closed. `told`: `changed(key, entry)`, `recorded(entry, data)`, `refused(entry, answer)`. */
export function begin(told) {
  hear = told;
  addEventListener('storage', ({ key, newValue }) => {
    if (!key?.startsWith(PREFIX)) return;
    const name = key.slice(PREFIX.length);
    hear.changed(name, JSON.parse(newValue));
    if (newValue) start(name);
  });
  resume();
}

/** Sends what may be sent now. */
export function resume() {
  for (const { key } of all()) start(key);
}

/** Everything on its way, newest first. */
export function all() {
  const names = Object.keys(localStorage).filter((name) => name.startsWith(PREFIX));
  return names.map((name) => JSON.parse(localStorage.getItem(name))).sort((one, other) => other.at - one.at);
}

/** Keeps a purchase and sends it; gives its key. */
export function add(purchase) {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const key = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  const entry = { ...purchase, key, at: Date.now(), state: 'sending', words: '' };
  // Kept once it is this tab's to send: others hear of it then.
  start(key, () => write(entry)).catch(() => hear.refused(entry, NOT_KEPT));
  return key;
}

/** These purchases are recorded: what was accepted of them is no longer on its way. */
export function seen(purchaseIds) {
  for (const { key, purchaseId } of all()) if (purchaseIds.has(purchaseId)) remove(key);
}

/** Asks for what was accepted a while ago and has not been seen since. */
export async function askForAccepted() {
  for (const { key, purchaseId, at } of all()) {
    if (!purchaseId || Date.now() - at < ASK_AFTER_MS) continue;
    const { status } = await callSigned('GET', `/purchases/${purchaseId}`);
    if (status === 200 || Date.now() - at > SHOW_MAX_MS) remove(key);
  }
}

async function start(key, prepare) {
  if (underway.has(key)) return;
  underway.add(key);
  try {
    await exclusively(`purchase ${key}`, () => {
      prepare?.();
      return deliver(key);
    });
  } finally {
    underway.delete(key);
  }
}

async function deliver(key) {
  for (let failures = 0; ; failures += 1) {
    const entry = find(key);
    if (!entry || entry.purchaseId || !mayBuyFor(entry.userid)) return;
    if (entry.state !== 'sending') write({ ...entry, state: 'sending' });
    const { username, userid, price } = entry;
    const answer = await callSigned('POST', '/buy', { body: { username, userid, price }, headers: { 'Idempotency-Key': key } });
    if (settle(entry, answer)) return;
    await pause(backoff(failures, answer.retryAfterMs), { ends: ['online', 'recovered'] });
  }
}

/** Whether it is certain what became of it. */
function settle(entry, answer) {
  const { status, json, words } = answer;
  if (status === 201) {
    hear.recorded(entry, json.data);
    remove(entry.key);
  } else if (status === 202) {
    write({ ...entry, state: 'accepted', words: '', purchaseId: json.purchase_id });
  } else if (UNCERTAIN.includes(status) || status >= 500) {
    write({ ...entry, state: 'waiting', words: `${words} ${SENT_AGAIN}` });
    return false;
  } else {
    hear.refused(entry, answer);
    remove(entry.key);
  }
  return true;
}

function find(key) {
  return JSON.parse(localStorage.getItem(PREFIX + key));
}

function write(entry) {
  localStorage.setItem(PREFIX + entry.key, JSON.stringify(entry));
  hear.changed(entry.key, entry);
}

function remove(key) {
  localStorage.removeItem(PREFIX + key);
  hear.changed(key, null);
}
