// Who is signed in. The access token is in memory alone, the refresh token in a cookie that no script can read.

import { call } from './api.js';
import { exclusively } from './tabs.js';

/** Under this name every tab knows who is signed in. */
const ACCOUNT = 'account';
/** A token is renewed so long before its end. */
const MARGIN_MS = 30_000;

/** A guess, until the server has said it. */
let asksForTokens = localStorage.getItem(ACCOUNT) !== null;
let token;
let endsAt = 0;
/** The answer when no token could be had. */
let failure = { status: 401, json: {}, words: 'Nobody is signed in.' };

/** What the server wants of who buys: `off`, `jwt`, `api_key` or `any`. */
export function begin(auth) {
  asksForTokens = auth !== 'off';
}

/** Who is signed in: `id` and `name`. */
export function account() {
  return asksForTokens ? JSON.parse(localStorage.getItem(ACCOUNT)) : null;
}

/** Whether nobody may buy before signing in. */
export const isNeeded = () => asksForTokens && !account();

/** Whether a purchase of this user may be sent now. */
export const mayBuyFor = (userid) => !asksForTokens || account()?.id === userid;

/** Signs in; gives the answer. */
export async function signIn(body) {
  const answer = await call('POST', '/login', { body, headers: { 'X-Session': 'cookie' } });
  if (answer.status === 200) keep(answer.json);
  return answer;
}

/** Signs out in every tab; gives the answer. */
export async function signOut() {
  const answer = await exclusively('session', () => call('POST', '/logout', { keepalive: true }));
  if (answer.status === 204) forget();
  return answer;
}

/** Calls the server as who is signed in, if that is asked. */
export async function callSigned(method, path, options = {}) {
  if (!asksForTokens) return call(method, path, options);
  const headers = await authorization();
  if (!token) return { ...failure, status: 401, isUnsent: true };
  const answer = await call(method, path, { ...options, headers: { ...options.headers, ...headers } });
  if (answer.status === 401) expire();
  return answer;
}

/** The token was refused: it may have been revoked. */
export function expire() {
  endsAt = 0;
}

/** The header that says who asks; none while that is not known. */
export async function authorization() {
  if (!asksForTokens || !account()) return {};
  if (Date.now() > endsAt - MARGIN_MS) await renew();
  return token ? { Authorization: `Bearer ${token}` } : {};
}

/** One tab after the other: each spends the cookie of the one before. */
async function renew() {
  await exclusively('session', async () => {
    if (Date.now() <= endsAt - MARGIN_MS) return;
    const answer = await call('POST', '/refresh', { keepalive: true });
    if (answer.status === 200) return keep(answer.json);
    [failure, token] = [answer, undefined];
    if (answer.status === 401 || answer.status === 403) forget();
  });
}

/** Hears of who signs in or out in another tab. */
export function onOtherTab(hear) {
  addEventListener('storage', ({ key }) => {
    if (key !== ACCOUNT) return;
    [token, endsAt] = [undefined, 0];
    hear();
  });
}

function keep({ access_token: text, expires_in: seconds }) {
  token = text;
  endsAt = Date.now() + seconds * 1000;
  const payload = text.split('.')[1].replaceAll('-', '+').replaceAll('_', '/');
  const bytes = Uint8Array.from(atob(payload), (letter) => letter.codePointAt(0));
  const { sub, username } = JSON.parse(new TextDecoder().decode(bytes));
  localStorage.setItem(ACCOUNT, JSON.stringify({ id: sub, name: username }));
}

function forget() {
  [token, endsAt] = [undefined, 0];
  localStorage.removeItem(ACCOUNT);
  dispatchEvent(new Event('signed-out'));
}
