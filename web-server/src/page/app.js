// The page: who buys, what was bought, and what becomes of it.

import { call, parse } from './api.js';
import { amount, announce, byId, showMistakes, values } from './elements.js';
import { addRecorded, SHOWN_MAX, showHistory, shownIds, showOutgoing } from './history.js';
import * as outgoing from './outgoing.js';
import * as session from './session.js';
import { showLive, showStatus } from './status.js';
import { follow } from './stream.js';
import { backoff, lead, onTold, pause, tell } from './tabs.js';

const STATUS_INTERVAL_MS = 5_000;
/** After news the totals are read again; what comes within this time is read once. */
const READ_DELAY_MS = 500;
/** A tab that is looked at wakes the one that listens for it so often. */
const WAKE_INTERVAL_MS = 2_000;
/** What comes within this time is announced at once. */
const ANNOUNCE_DELAY_MS = 250;
/** As the server has it: more than 0, with at most 15 digits before and 4 after the point. */
const PRICE = /^(?!0+(\.0+)?$)(0|[1-9]\d{0,14})(\.\d{1,4})?$/;
const PRICE_RULE = 'must be a number greater than 0 with at most four digits after the point, such as 19.90';

const buyForm = byId('buy-form');
let buyer = '';
let isLive = false;
let lastStatus;
/** The key of the purchase that the form waits for. */
let sending;
/** Ends the stream, in the tab that listens for all. */
let stream;
let isLeading = false;
let reading;
let arrived = [];
/** The ids of the last ones that were announced. */
let announced = [];

/** Shows what belongs to who buys now, and listens for it. */
function showBuyer() {
  const account = session.account();
  const isShut = session.isNeeded();
  byId('sign-in').hidden = !isShut || lastStatus.auth === 'api_key';
  for (const id of ['buy', 'purchases']) byId(id).hidden = isShut;
  byId('account').hidden = !account;
  byId('account-name').textContent = account?.name ?? '';
  buyForm.userid.closest('label').hidden = Boolean(account);
  const before = buyer;
  buyer = isShut ? '' : (account?.id ?? localStorage.getItem('buyer') ?? '');
  if (document.activeElement !== buyForm.userid) buyForm.userid.value = buyer;
  showEntries();
  if (buyer === before) return;
  if (account) buyForm.username.value = account.name;
  showHistory();
  readHistory();
  followBuyer();
}

function showEntries() {
  showOutgoing(outgoing.all().filter(({ userid }) => userid === buyer));
}

async function readHistory() {
  const userid = buyer;
  if (!userid) return;
  const answer = await session.callSigned('GET', `/getAllUserBuys/${encodeURIComponent(userid)}?limit=${SHOWN_MAX}`);
  if (answer.status === 200) tell({ kind: 'history', userid, text: answer.text });
  else if (userid === buyer) byId('history-note').textContent = `${answer.words} What is here may be old.`;
  await outgoing.askForAccepted();
}

function readSoon() {
  reading ??= setTimeout(() => {
    reading = undefined;
    readHistory();
  }, READ_DELAY_MS);
}

/** Listens for all tabs. */
function followBuyer() {
  stream?.abort();
  stream = undefined;
  if (!isLeading || !buyer) return;
  stream = new AbortController();
  const userid = buyer;
  const hear = {
    opened: (isAnew) => {
      tell({ kind: 'live', isLive: true });
      if (isAnew) readSoon();
    },
    recorded: (text) => {
      tell({ kind: 'recorded', userid, text });
      readSoon();
    },
    closed: () => {
      tell({ kind: 'live', isLive: false });
      readSoon();
    },
  };
  follow(userid, hear, stream.signal);
}

function leadTabs() {
  const ending = new AbortController();
  isLeading = true;
  followBuyer();
  watchStatus(ending.signal);
  return () => {
    isLeading = false;
    ending.abort();
    stream?.abort();
  };
}

async function watchStatus(signal) {
  while (!signal.aborted) {
    tell({ kind: 'status', status: await readStatus() });
    await pause(STATUS_INTERVAL_MS, { signal });
  }
}

/** How the system stands; null when there is no server. One that has too much to do stands as it did. */
async function readStatus() {
  const { status, json } = await call('GET', '/status', { headers: await session.authorization() });
  if (status === 200) return json;
  return status === 0 ? null : (lastStatus ?? null);
}

function hear(message) {
  const isOurs = message.userid === buyer;
  if (message.kind === 'status') {
    lastStatus = message.status ?? lastStatus;
    if (showStatus(message.status)) dispatchEvent(new Event('recovered'));
  } else if (message.kind === 'live') {
    isLive = message.isLive;
    showLive(isLive);
  } else if (message.kind === 'history' && isOurs) {
    arrive(showHistory(parse(message.text)));
    outgoing.seen(shownIds());
  } else if (message.kind === 'recorded' && isOurs) {
    recorded(parse(message.text));
  } else if (message.kind === 'hello' && isLeading) {
    tell({ kind: 'live', isLive });
  } else if (message.kind === 'wake') {
    dispatchEvent(new Event('woken'));
  }
}

/** Shows and announces a purchase that was recorded, once. */
function recorded(purchase) {
  outgoing.seen(new Set([purchase.purchase_id]));
  addRecorded(purchase);
  arrive([purchase]);
}

/** A read that was under way meanwhile may take away what has come, and the next one bring it again: it is announced once. */
function arrive(purchases) {
  const news = purchases.filter(({ purchase_id: id }) => !announced.includes(id));
  announced = [...news.map(({ purchase_id: id }) => id), ...announced].slice(0, 2 * SHOWN_MAX);
  if (news.length > 0 && arrived.length === 0) setTimeout(announceArrived, ANNOUNCE_DELAY_MS);
  arrived.push(...news);
}

function announceArrived() {
  const [first] = arrived;
  const one = `Recorded: ${amount(first.price)}, ${first.username}.`;
  announce(arrived.length === 1 ? one : `${arrived.length} purchases were recorded.`);
  arrived = [];
}

/** The form may be used again; what was bought stands in the list. */
function release(key) {
  if (key !== sending) return false;
  sending = undefined;
  buyForm.querySelector('button').removeAttribute('aria-disabled');
  return true;
}

const whatBecame = {
  changed: (key, entry) => {
    showEntries();
    if (entry?.state === 'sending' || !release(key)) return;
    buyForm.price.value = '';
    if (entry) announce(entry.state === 'accepted' ? `Accepted: ${amount(entry.price)}, ${entry.username}.` : entry.words);
  },
  recorded: (entry, purchase) => {
    if (release(entry.key)) buyForm.price.value = '';
    recorded(purchase);
    readSoon();
  },
  refused: (entry, { json, words }) => {
    const errors = json.errors ?? [];
    if (release(entry.key)) showMistakes(buyForm, errors, words);
    else announce(`The purchase of ${entry.username} was refused: ${words}`);
  },
};

function buy() {
  if (sending) return;
  const purchase = values(buyForm);
  const missing = ['username', 'userid'].filter((field) => !purchase[field]);
  const errors = missing.map((field) => ({ field, message: 'is missing' }));
  if (!PRICE.test(purchase.price)) errors.push({ field: 'price', message: PRICE_RULE });
  showMistakes(buyForm, errors);
  if (errors.length > 0) return;
  choose(purchase.userid);
  buyForm.querySelector('button').setAttribute('aria-disabled', 'true');
  announce('Sending.');
  sending = outgoing.add(purchase);
}

/** From now on these purchases are shown, in every tab. */
function choose(userid) {
  if (session.account() || userid === buyer) return;
  localStorage.setItem('buyer', userid);
  showBuyer();
}

async function signIn(form, body) {
  const answer = await session.signIn(body);
  showMistakes(form, answer.json.errors, answer.words);
  if (answer.status !== 200) return;
  form.reset();
  showBuyer();
  outgoing.resume();
  announce(`Signed in as ${session.account().name}.`);
  buyForm.price.focus();
}

async function makeAccount(form) {
  const body = values(form);
  const answer = await call('POST', '/account', { body });
  if (answer.status === 201) await signIn(form, { email: body.email, password: body.password });
  else showMistakes(form, answer.json.errors, answer.words);
}

async function signOut() {
  const answer = await session.signOut();
  if (answer.status !== 204) announce(`Not signed out: ${answer.words}`);
}

function signedOut() {
  showBuyer();
  announce('Signed out.');
  byId('sign-in-form').email.focus();
}

function onSubmit(form, submit) {
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    submit(form);
  });
}

async function begin() {
  for (let failures = 0; !(lastStatus = await readStatus()); failures += 1) {
    showStatus(null);
    await pause(backoff(failures));
  }
  showStatus(lastStatus);
  session.begin(lastStatus.auth);
  onTold(hear);
  outgoing.begin(whatBecame);
  onSubmit(buyForm, buy);
  onSubmit(byId('sign-in-form'), (form) => signIn(form, values(form)));
  onSubmit(byId('account-form'), makeAccount);
  byId('sign-out').addEventListener('click', signOut);
  buyForm.userid.addEventListener('change', () => choose(buyForm.userid.value.trim()));
  addEventListener('signed-out', signedOut);
  addEventListener('storage', ({ key }) => key === 'buyer' && showBuyer());
  session.onOtherTab(() => {
    showBuyer();
    outgoing.resume();
  });
  showBuyer();
  tell({ kind: 'hello' });
  lead(leadTabs);
  setInterval(() => !isLive && document.visibilityState === 'visible' && tell({ kind: 'wake' }), WAKE_INTERVAL_MS);
}

showLive(false);
begin();
