// One stream of events of a user, read with `fetch` so that the token stands in a header.

import { authorization, expire } from './session.js';
import { backoff, pause } from './tabs.js';

/** The server says something every 15 s. */
const SILENCE_MS = 45_000;

/**
 * Follows what is recorded of a user until `signal` ends it. `hear.opened(isAnew)`: nothing is missed from now on, or since.
 * `hear.recorded(text)`: a purchase as JSON. `hear.closed()`: it comes back.
 */
export async function follow(userid, hear, signal) {
  const state = { retryMs: 3000 };
  for (let failures = 0; !signal.aborted; failures += 1) {
    const opened = await listen(userid, state, hear, signal);
    if (signal.aborted) return;
    hear.closed();
    if (opened) failures = 0;
    await pause(opened ? state.retryMs : backoff(failures, state.retryAfterMs), { signal });
  }
}

/** Listens until the stream ends; gives whether it was open. */
async function listen(userid, state, hear, signal) {
  let isOpen = false;
  const silence = new AbortController();
  let timer;
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(), SILENCE_MS);
  };
  heard();
  try {
    const headers = await authorization();
    if (state.lastId) headers['Last-Event-ID'] = state.lastId;
    const response = await fetch(`/users/${encodeURIComponent(userid)}/events`, {
      headers,
      cache: 'no-store',
      signal: AbortSignal.any([signal, silence.signal]),
    });
    state.retryAfterMs = 1000 * (Number(response.headers.get('Retry-After')) || 0);
    if (response.status === 401) expire();
    isOpen = response.ok;
    if (!isOpen) return false;
    hear.opened(!state.lastId);
    for await (const event of events(response.body, heard)) take(event, state, hear);
  } catch {
    // It broke, or was silent.
  } finally {
    clearTimeout(timer);
  }
  return isOpen;
}

function take({ event, data, id, retry }, state, hear) {
  if (id !== undefined) state.lastId = id;
  if (retry !== undefined) state.retryMs = Number(retry);
  if (event === 'recorded') hear.recorded(data);
  if (event === 'reset') hear.opened(true);
}

/** The events of a stream (WHATWG HTML, 9.2.6): each the fields that it had. */
async function* events(body, heard) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  let fields = {};
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    heard();
    const lines = (rest + value).split('\n');
    rest = lines.pop();
    for (const line of lines) {
      if (line === '') {
        yield fields;
        fields = {};
        continue;
      }
      const colon = line.indexOf(':');
      if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 1).replace(/^ /, '');
    }
  }
}
