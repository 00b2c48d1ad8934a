// The page: who buys, what was bought, and what becomes of it.

import { call, parse } from './api.js';
import { amount, announce, byId, showMistakes, values } from './elements.js';
import { addRecorded, SHOWN_MAX, showHistory, shownIds, showOutgoing } from './history.js';
import * as outgoing from './outgoing.js';
import * as session from './session.js';
import { showLive, showStatus } from './status.js';
import { follow } from './stream.js';
import { lead, onTold, pause, tell } from './tabs.js';

const STATUS_INTERVAL_MS = 5_000;
/** So long after news the totals are read. */
const READ_DELAY_MS = 500;
/** A tab that is looked at wakes the one that leads so often; when that says nothing so many times, it takes its place. */
const WAKE_INTERVAL_MS = 2_000;
const SILENT_MAX = 7;
/** What comes in this time is announced at once. */
const ANNOUNCE_DELAY_MS = 250;
/** As the server has it. */
const PRICE = /^(?!0+(\.0+)?$)(0|[1-9]\d{0,14})(\.\d{1,4})?$/;
const PRICE_RULE = 'must be a number greater than 0 with at most four digits after the point';

const buyForm = byId('buy-form');
const buyButton = buyForm.querySelector('button');
let buyer = '';
let isLive = false;
/** What the server wants of who buys, once it has said so. */
let auth;
/** The key of what the form waits for. */
let sending;
/** Ends the stream, in the tab that listens for all. */
let stream;
let isLeading = false;
let silent = 0;
let reading;
let nextRead;
let arrived = [];
/** The ids of the last ones. */
let announced = [];

/** Shows what belongs to who buys now, and listens for it. */
function showBuyer() {
  const account = session.account();
  const isShut = session.isNeeded();
  byId('sign-in').hidden = !isShut || auth === 'api_key';
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
  readSoon(0);
  followBuyer();
}

function showEntries() {
  showOutgoing(outgoing.all().filter(({ userid }) => userid === buyer));
}

async function readHistory() {
  const userid = buyer;
  if (!userid) return;
  const answer = await session.callSigned('GET', `/getAllUserBuys/${encodeURIComponent(userid)}?limit=${SHOWN_MAX}`);
  if (answer.json.purchases) tell({ kind: 'history', userid, text: answer.text });
  else if (userid === buyer) byId('history-note').textContent = `${answer.words} What is here may be old.`;
  await outgoing.askForAccepted();
}

/** One read after the other: an older answer never comes last. */
function readSoon(delayMs = READ_DELAY_MS) {
  nextRead ??= setTimeout(async () => {
    await reading;
    nextRead = undefined;
    reading = readHistory();
  }, delayMs);
}

/** Listens for all tabs. */
function followBuyer() {
  if (stream && isLeading) tell({ kind: 'live', isLive: false });
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
    followBuyer();
  };
}

async function watchStatus(signal) {
  while (!signal.aborted) {
    tell(await readStatus());
    await pause(STATUS_INTERVAL_MS, { signal });
  }
}

/** How the system stands, if that is known. */
async function readStatus() {
  const { status, json, words } = await call('GET', '/status');
  return { kind: 'status', status: status === 200 && json.auth ? json : null, words };
}

function hear({ kind, userid, text, status, words, isLive: live }) {
  const isOurs = userid === buyer;
  if (kind === 'status') {
    if (showStatus(status, words)) dispatchEvent(new Event('recovered'));
    ask(status?.auth ?? auth);
  } else if (kind === 'live') {
    isLive = live;
    silent = 0;
    showLive(isLive);
  } else if (kind === 'history' && isOurs) {
    arrive(showHistory(parse(text)));
    outgoing.seen(shownIds());
  } else if (kind === 'recorded' && isOurs) {
    recorded(parse(text));
  } else if (kind === 'wake') {
    dispatchEvent(new Event('woken'));
    if (isLeading) tell({ kind: 'live', isLive });
  }
}

/** From now on the server wants this of who buys. */
function ask(wanted) {
  if (wanted === auth) return;
  auth = wanted;
  session.begin(auth);
  showBuyer();
  outgoing.resume();
}

/** Shows and announces a purchase that was recorded, once. */
function recorded(purchase) {
  outgoing.seen([purchase.purchase_id]);
  addRecorded(purchase);
  arrive([purchase]);
}

/** A read that was under way may take away what has come, and the next bring it again: it is announced once. */
function arrive(purchases) {
  const news = purchases.filter(({ purchase_id: id }) => !announced.includes(id));
  announced = [...news.map(({ purchase_id: id }) => id), ...announced].slice(0, 2 * SHOWN_MAX);
  if (news.length > 0 && arrived.length === 0) setTimeout(announceArrived, ANNOUNCE_DELAY_MS);
  arrived.push(...news);
}

function announceArrived() {
  announce(arrived.length === 1 ? `Recorded: ${named(arrived[0])}` : `${arrived.length} purchases were recorded.`);
  arrived = [];
}

function release(key) {
  if (key !== sending) return false;
  sending = undefined;
  buyButton.removeAttribute('aria-disabled');
  return true;
}

const named = ({ price, username }) => `${amount(price)}, ${username}.`;

function become(key, entry) {
  const state = entry?.state;
  const isOfForm = state !== 'sending' && release(key);
  if (isOfForm && state === 'refused') {
    showMistakes(buyForm, entry.errors, entry.words);
    outgoing.drop(key);
    return;
  }
  if (isOfForm) buyForm.price.value = '';
  if (state === 'recorded') {
    if (entry.userid === buyer) recorded(entry.purchase);
    readSoon();
  } else if (state === 'refused') {
    announce(`Not recorded: ${named(entry)} ${entry.words}`);
  } else if (isOfForm && entry) {
    announce(state === 'accepted' ? `Accepted: ${named(entry)}` : entry.words);
  }
  showEntries();
}

function buy() {
  if (sending) return;
  const purchase = values(buyForm);
  const errors = ['username', 'userid'].filter((field) => !purchase[field]).map((field) => ({ field, message: 'is missing' }));
  if (!PRICE.test(purchase.price)) errors.push({ field: 'price', message: PRICE_RULE });
  showMistakes(buyForm, errors);
  if (errors.length > 0) return;
  buyButton.setAttribute('aria-disabled', 'true');
  announce('Sending.');
  sending = outgoing.add(purchase);
  choose(purchase.userid);
}

/** Whose purchases are shown, in every tab. */
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
  onTold(hear);
  outgoing.begin(become);
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
  byId('outgoing').addEventListener('click', ({ target }) => outgoing[target.name]?.(target.value));
  hear(await readStatus());
  showBuyer();
  const takeOver = lead(leadTabs);
  const wake = () => {
    if (document.visibilityState !== 'visible') return;
    silent += 1;
    tell({ kind: 'wake' });
    if (silent > SILENT_MAX) takeOver();
  };
  wake();
  setInterval(wake, WAKE_INTERVAL_MS);
}

showLive(false);
begin();
